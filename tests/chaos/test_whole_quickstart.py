"""The quickstart as it is, uncut: it answers its question, and its last lines are what it found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from analysis.data.results import read_results
from analysis.statistics.association import lipschitz_associations, random_share
from analysis.tables.finding_lines import finding_lines

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("quickstart")
    ended = subprocess.run(
        [sys.executable, "-m", "study", "launch", "quickstart"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=1800,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return folder / "studies/quickstart", ended


def test_natural_training_clearly_fails_and_robust_training_clearly_does_not(launched) -> None:
    rows = read_results(launched[0]).to_pylist()
    assert len(rows) == 36
    assert len({row["method"] for row in rows}) >= 5
    completed = [row for row in rows if row["status"] == "completed"]
    natural = [row for row in completed if row["method"] == "natural"]
    assert max(row["val_robust_accuracy"] for row in natural) < 0.3
    assert max(row["val_robust_accuracy"] for row in completed) > 0.5
    assert min(row["val_clean_accuracy"] for row in natural) > 0.95


def test_lipschitzness_and_robustness_are_associated_with_an_interval(launched) -> None:
    share = random_share(read_results(launched[0]))
    assert share.num_rows >= 15
    found = {(row.of, row.outcome, row.among): row.found for row in lipschitz_associations(share)}
    for among in ("all methods", "within method"):
        assert found["raw", "robust accuracy", among] is not None
        assert found["scale-free", "robust accuracy", among].high < 0


def test_the_last_lines_are_what_was_found_the_files_and_three_commands(launched) -> None:
    folder, ended = launched
    found = finding_lines(read_results(folder))
    lines = ended.stdout.splitlines()[-len(found) - 6 :]
    assert lines[: len(found)] == found
    assert lines[-4] == "next:"
    assert all(line.startswith("  robust-study ") for line in lines[-3:])
