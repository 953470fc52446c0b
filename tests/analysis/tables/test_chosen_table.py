"""The paper's columns on test: every number of a line by hand, what is missing, and the four files."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.studies.synthetic_results import as_table, evaluation_row, result_row

from analysis.data.results import example_columns, examples_file, write_columns, write_rows
from analysis.data.schema import EVALUATION, EXAMPLE
from analysis.heldout.members import CHOICE_FILE, read_on_test
from analysis.statistics.intervals import mean_interval, wilson_interval
from analysis.tables.chosen_table import chosen_table, write_chosen_table

LIPSCHITZ = [1.0, 2.0, 3.0, 6.0]


@pytest.fixture
def found(tmp_path):
    """Two measured trials, the second by name and only under another attack; a third was chosen and never measured."""
    rows = [
        result_row(0, train_clean_accuracy=0.97, train_robust_accuracy=0.8, **{"param.dropout": 0.25}),
        result_row(1, flags=["noisy"]),
        result_row(2),
    ]
    tests = [
        evaluation_row(examples=400, clean_accuracy=0.95, robust_accuracy=0.7, lipschitz_mean=None),
        evaluation_row(
            evaluation="t00000-last-1", examples=200, lipschitz_examples=4, lipschitz_mean=3.0, flags=["doubtful"]
        ),
        evaluation_row("t00001", attack="autoattack", lipschitz_mean=None),
    ]
    outcomes = {name: np.ones(4, dtype=bool) for name in ("clean_correct", "robust_correct")}
    outcomes |= {"index": np.arange(4), "lipschitz": np.array(LIPSCHITZ)}
    same = {"study": "toy", "trial_id": "t00000", "checkpoint": "last", "attack": "pgd", "epsilon": 0.1}
    columns = example_columns({"test": outcomes}, **same)
    write_columns(examples_file(tmp_path, "t00000-last-1"), columns, EXAMPLE)
    for row in tests:
        write_rows(tmp_path / "evaluations" / f"{row['evaluation']}.parquet", [row], EVALUATION)
    (tmp_path / CHOICE_FILE).write_text(json.dumps({"chosen_at": "", "trials": 3, "members": ["t00000", "t00002"]}))
    return read_on_test(tmp_path, as_table(rows))


def test_a_line_is_train_and_test_of_one_checkpoint_with_intervals(found, tmp_path) -> None:
    row = pq.read_table(write_chosen_table(found, tmp_path / "out")[3]).to_pylist()[0]
    assert (row["trial"], row["dropout"], row["chosen"], row["split"]) == ("t00000", 0.25, "front", "test")
    shown = [row[name] for name in ("train_accuracy", "accuracy", "robust_accuracy", "gap", "adversarial_gap")]
    assert shown == pytest.approx([0.97, 0.95, 0.7, 0.02, 0.1])
    ends = wilson_interval(280, 400)
    assert (row["robust_accuracy_low"], row["robust_accuracy_high"]) == pytest.approx((ends.low, ends.high))
    assert row["gap_low"] < 0.02 < row["gap_high"]
    # deviations -2, -1, 0, 3 from 3: variance 14/3, standard error sqrt(14/12)
    assert row["lipschitz"] == 3.0
    assert (row["lipschitz_low"], row["lipschitz_high"]) == pytest.approx((0.88302, 5.11698), abs=1e-4)
    assert row["lipschitz_examples"] == 4
    assert row["remark"] == "flagged on test: doubtful (PGD-10)"


def test_what_was_not_measured_as_on_validation_has_no_number(found) -> None:
    shown = chosen_table(found)
    cells = dict(zip(shown.headings, shown.cells()[1], strict=True))
    assert {cells[name] for name in ("test acc.", "adv. test acc.", "gap", "adv. gap", "test Lipschitz")} == {"-"}
    assert cells["chosen"] == "by name"
    assert cells["remark"] == "flagged: noisy; not measured on test as on validation"
    assert any("not measured on test: t00002" in note for note in shown.notes)
    assert any("test data was used 3 times" in note for note in shown.notes)


def test_the_four_files_hold_the_same_numbers(found, tmp_path) -> None:
    written = write_chosen_table(found, tmp_path / "out")
    assert [path.name for path in written] == [f"table_test.{suffix}" for suffix in ("md", "tex", "csv", "parquet")]
    plain, parquet = list(csv.DictReader(io.StringIO(written[2].read_text()))), pq.read_table(written[3]).to_pylist()
    assert [row["trial"] for row in plain] == [row["trial"] for row in parquet] == ["t00000", "t00001"]
    assert plain[0]["adversarial_gap_high"] == str(parquet[0]["adversarial_gap_high"])
    assert "3 [0.883, 5.117]" in written[0].read_text()
    assert "toprule" in written[1].read_text()


def test_the_interval_of_a_mean_covers_it() -> None:
    draw = np.random.default_rng(5)
    covered = sum(low <= 1 <= high for low, high in (mean_interval(draw.gamma(4, 0.25, 100)) for _ in range(2000)))
    assert 0.93 < covered / 2000 < 0.97
