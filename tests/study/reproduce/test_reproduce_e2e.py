"""A table of the paper from the start to its test values, interrupted and resumed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from analysis.data.results import read_evaluations

# two complete runs of the command: too long for `make test`
pytestmark = pytest.mark.chaos

SMALL = (
    "search.methods=[natural, trades]",
    "search.ranges={trades.beta: {values: [3.0]}, dropout: {values: [0.0]}}",
    "search.fixed={train_epsilon: 0.15}",
    "training.epochs=1",
    "dataset.train_size=64",
    "evaluation={epsilon: 0.15, steps: 2, examples: 20, every: 1, lipschitz: {steps: 2, examples: 5}}",
    "tracking.models=0",
)


def test_a_table_is_measured_on_test_and_resumed_where_it_stopped(tmp_path) -> None:
    words = ["table3", *(word for entry in SMALL for word in ("--set", entry))]

    def reproduce() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "study", "reproduce", *words],
            cwd=tmp_path, env=os.environ | {"RAY_worker_niceness": "0"},
            capture_output=True, text=True, timeout=420, check=False,
        )  # fmt: skip

    first = reproduce()
    assert first.returncode == 0, first.stderr
    assert "| test acc. |" in first.stdout
    home = tmp_path / "studies" / "table3-smoke"
    study = home / "table3-smoke"
    rows = pq.read_table(home / "table3.parquet").to_pylist()
    assert [(row["method"], row["split"]) for row in rows] == [("natural", "test"), ("TRADES", "test")]
    assert {row["split"] for row in read_evaluations(study).to_pylist()} == {"test"}
    # as after a stop between the grid and its last measurements
    shutil.rmtree(study / "evaluations")
    (home / "table3.md").unlink()
    resumed = reproduce()
    assert resumed.returncode == 0, resumed.stderr
    assert "all 2 trials are done" in resumed.stderr
    assert [line for line in resumed.stdout.splitlines() if line.startswith("| digits")] == [
        line for line in first.stdout.splitlines() if line.startswith("| digits")
    ]
