"""The examples in docstrings run and print what they say; `rs` and `study_dir` are those of docs/analysis.md."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
from helpers.structure.architecture import PACKAGES, ROOT
from helpers.structure.imports import modules
from helpers.studies.synthetic_results import result_row

import analysis as rs
from analysis.data.results import write_rows
from analysis.data.schema import RESULT

# How many statements the examples of a module have.
STATEMENTS = {
    "analysis.fronts.front": 9,
    "analysis.fronts.growth": 2,
    "analysis.fronts.member_choice": 8,
    "analysis.fronts.objectives": 3,
    "analysis.statistics.association": 4,
    "analysis.statistics.intervals": 2,
    "trainables.training.fit": 5,
}


@pytest.fixture(scope="module")
def study_dir(tmp_path_factory) -> Path:
    """A study whose first three trials are its front; the fourth is dominated and the fifth failed."""
    measured = [("natural", 0.98, 0.1), ("trades", 0.9, 0.6), ("trades", 0.8, 0.7), ("natural", 0.85, 0.4)]
    rows = [
        result_row(
            number,
            method=method,
            val_clean_accuracy=clean,
            val_robust_accuracy=robust,
            proposal="random" if number % 2 else "sampler",
        )
        for number, (method, clean, robust) in enumerate(measured)
    ]
    rows.append(result_row(4, status="failed", val_clean_accuracy=None, val_robust_accuracy=None))
    folder = tmp_path_factory.mktemp("study")
    write_rows(folder / "results" / "all.parquet", rows, RESULT)
    return folder


@pytest.mark.parametrize("name", STATEMENTS)
def test_examples_run(name: str, study_dir: Path) -> None:
    runner, printed = doctest.DocTestRunner(), []
    for example in doctest.DocTestFinder().find(
        importlib.import_module(name), name, globs={"rs": rs, "study_dir": study_dir}
    ):
        runner.run(example, out=printed.append)
    assert runner.failures == 0, "".join(printed)
    assert runner.tries == STATEMENTS[name]


def test_every_example_is_run() -> None:
    written = {name for name, file in modules(ROOT, PACKAGES).items() if ">>> " in file.read_text(encoding="utf-8")}
    assert written == set(STATEMENTS)
