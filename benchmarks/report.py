"""Time to build the report of many trials, with per-example outcomes, and to show it in a browser.

The browser part needs Chromium and is otherwise skipped.

python benchmarks/report.py [--trials 10000] [--with-examples 200] [--loads 3]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from analysis.data.results import example_columns, trial_file, write_columns, write_rows
from analysis.data.schema import EXAMPLE, RESULT
from study.reports.report import write_report

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from helpers.services.browser import CHROMIUM, shown_after
from helpers.studies.synthetic_results import METHODS, study_rows

IMAGES = 1000


def synthetic_study(folder: Path, *, trials: int, with_examples: int) -> None:
    """Write result rows, and per-example outcomes of the best `with_examples` trials."""
    rows = study_rows(trials, methods=METHODS, seed=3)
    write_rows(folder / "results" / "compacted.parquet", rows, RESULT)
    level = np.random.default_rng(0).random((trials, IMAGES))
    measured = [row for row in rows if row["status"] == "completed"]
    best = sorted(measured, key=lambda row: -row["val_clean_accuracy"] - row["val_robust_accuracy"])[:with_examples]
    for row, difficulty in zip(best, level, strict=False):
        outcomes = {
            "index": np.arange(IMAGES),
            "clean_correct": difficulty < row["val_clean_accuracy"],
            "robust_correct": difficulty < row["val_robust_accuracy"],
        }
        columns = example_columns(
            {"val": outcomes}, study="toy", trial_id=row["trial_id"], checkpoint="last", attack="pgd", epsilon=0.1
        )
        write_columns(trial_file(folder, row["trial_id"], schema=EXAMPLE), columns, EXAMPLE)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--with-examples", type=int, default=200)
    parser.add_argument("--loads", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        synthetic_study(folder, trials=options.trials, with_examples=options.with_examples)
        start, start_cpu = time.perf_counter(), time.process_time()
        write_report([folder], out=None)
        built, computing = time.perf_counter() - start, time.process_time() - start_cpu
        file = folder / "report.html"
        print(f"{options.trials:,} trials, outcomes of {options.with_examples} x {IMAGES} images:")
        print(f"built in {built:.1f} s, {computing:.1f} s of CPU")
        print(f"{file.stat().st_size / 1e6:.1f} MB")
        if CHROMIUM is None:
            print("Chromium is not installed: not opened in a browser")
            return
        for wall, cpu in (shown_after(file) for _ in range(options.loads)):
            print(f"shown in Chromium after {wall:.1f} s, {cpu:.1f} s of CPU")


if __name__ == "__main__":
    main()
