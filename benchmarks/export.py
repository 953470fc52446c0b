"""How long `robust-study export --mlflow` takes for many runs: rows and per-example outcomes rebuilt from MLflow alone.

    python benchmarks/export.py [--runs 1000]

The runs are written through the store that tracks studies, to SQLite in a temporary folder.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from analysis.data.results import read_results, trial_file, write_rows
from analysis.data.schema import EXAMPLE, RESULT
from study.tracking.export import export
from study.tracking.store import Store

EXAMPLES = 300


def row(number: int) -> dict[str, Any]:
    """Return a made-up result row with every measurement in place."""
    measured = {c.name: 0.5 + number / 7919 for c in RESULT.columns if c.type == "float64"}
    whole = {c.name: 1 for c in RESULT.columns if c.type in ("int32", "int64") and not c.nullable}
    text = {c.name: c.choices[0] if c.choices else "x" for c in RESULT.columns if c.type == "string" and not c.nullable}
    params = {f"param.{name}": 0.1 * number for name in ("beta", "dropout", "lr")}
    identity = {"number": number, "trial_id": f"{number:05d}", "study": "bench", "epochs": 0, "flags": []}
    return measured | whole | text | params | identity


def write_examples(study_dir: Path, found: dict[str, Any]) -> None:
    """Write a trial's per-example outcomes, which become its run's artifact."""
    rows = [
        {
            **{name: found[name] for name in ("study", "trial_id")},
            **{"checkpoint": "last", "split": "val", "attack": "pgd", "epsilon": 0.1, "index": index},
            **{"clean_correct": True, "robust_correct": index % 2 == 0},
        }
        for index in range(EXAMPLES)
    ]
    write_rows(trial_file(study_dir, found["trial_id"], schema=EXAMPLE), rows, EXAMPLE)


def main() -> None:
    """Write the runs, export them, print the time, and check that every row came back."""
    parser = argparse.ArgumentParser(description="How long an export takes.")
    parser.add_argument("--runs", type=int, default=1000)
    count = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        uri = f"sqlite:///{folder}/mlflow.db"
        rows = [row(number) for number in range(count)]
        for found in rows:
            write_examples(folder / "study", found)
        begun = time.perf_counter()
        store = Store(uri=uri, experiment="bench", study="bench", study_id="bench", study_dir=folder / "study")
        store.apply({"kind": "end", "time": 1000 + found["number"], "row": found} for found in rows)
        print(f"{count} runs written in {time.perf_counter() - begun:.1f} s; refused: {store.refused or 'none'}")
        begun = time.perf_counter()
        export(None, uri=uri, experiment="bench", out=folder / "rows.parquet")
        print(f"exported in {time.perf_counter() - begun:.1f} s")
        back = read_results(folder / "rows.parquet").select(list(rows[0])).to_pylist()
        print("every row came back" if back == rows else "rows differ")


if __name__ == "__main__":
    main()
