"""Time of `robust-study export --mlflow` for many runs: rows and per-example outcomes rebuilt from MLflow alone.

    python benchmarks/export.py [--runs 1000]

The runs are written by the store that tracks studies, to SQLite in a temporary folder.
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
    """Return a synthetic result row with every measurement."""
    measured = {c.name: 0.5 + number / 7919 for c in RESULT.columns if c.type == "float64"}
    integers = {c.name: 1 for c in RESULT.columns if c.type in ("int32", "int64") and not c.nullable}
    text = {c.name: c.choices[0] if c.choices else "x" for c in RESULT.columns if c.type == "string" and not c.nullable}
    params = {f"param.{name}": 0.1 * number for name in ("beta", "dropout", "lr")}
    identity = {"number": number, "trial_id": f"{number:05d}", "study": "bench", "epochs": 0, "flags": []}
    return measured | integers | text | params | identity


def write_examples(study_dir: Path, result: dict[str, Any]) -> None:
    """Write a trial's per-example outcomes, which become its run's artifact."""
    rows = [
        {
            **{name: result[name] for name in ("study", "trial_id")},
            **{"checkpoint": "last", "split": "val", "attack": "pgd", "epsilon": 0.1, "index": index},
            **{"clean_correct": True, "robust_correct": index % 2 == 0},
        }
        for index in range(EXAMPLES)
    ]
    write_rows(trial_file(study_dir, result["trial_id"], schema=EXAMPLE), rows, EXAMPLE)


def main() -> None:
    """Write the runs, export them, print the times, and check that every row is restored."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=1000)
    count = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        uri = f"sqlite:///{folder}/mlflow.db"
        rows = [row(number) for number in range(count)]
        for result in rows:
            write_examples(folder / "study", result)
        started = time.perf_counter()
        store = Store(uri=uri, experiment="bench", study="bench", study_id="bench", study_dir=folder / "study")
        store.apply({"kind": "end", "time": 1000 + result["number"], "row": result} for result in rows)
        print(f"{count} runs written in {time.perf_counter() - started:.1f} s; refused: {store.refused or 'none'}")
        started = time.perf_counter()
        export(None, uri=uri, experiment="bench", out=folder / "rows.parquet")
        print(f"exported in {time.perf_counter() - started:.1f} s")
        exported = read_results(folder / "rows.parquet").select(list(rows[0])).to_pylist()
        print("every row is restored" if exported == rows else "rows differ")


if __name__ == "__main__":
    main()
