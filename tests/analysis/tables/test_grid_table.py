"""A grid in the paper's form: its lines, what they take from test, what is missing, and the four files."""

from __future__ import annotations

import csv
import io

import pyarrow.parquet as pq
import pytest
from helpers.studies.synthetic_results import as_table, result_row

from analysis.statistics.intervals import wilson_interval
from analysis.tables.grid_table import Grid, grid_lines, grid_table, split_of, write_grid_table

ROWS = [
    result_row(0, method="trades", train_clean_accuracy=0.97, train_robust_accuracy=0.8,
        **{"param.dropout": 0.5, "param.beta": 6.0}),
    result_row(1, method="trades", train_clean_accuracy=0.99, train_robust_accuracy=0.9,
        **{"param.dropout": 0.0, "param.beta": 3.0}),
    result_row(2, method="natural", flags=["noisy"], **{"param.dropout": 0.0}),
    result_row(
        3, method="trades", status="failed", reason="diverged", val_clean_accuracy=None, val_robust_accuracy=None,
        val_lipschitz_mean=None, **{"param.dropout": 0.0, "param.beta": 1.0},
    ),
]  # fmt: skip


def on_test(number: int, **changes: object) -> dict[str, object]:
    measured = {
        "study": "toy", "trial_id": f"t{number:05d}", "number": number,
        "checks": "full", "occasion": "x", "split": "test", "checkpoint": "last", "norm": "linf", "epsilon": 0.1,
        "attack": "pgd", "steps": 10, "restarts": 1, "examples": 400, "clean_accuracy": 0.95, "robust_accuracy": 0.7,
        "lipschitz_mean": 7.0, "flags": ["steps_not_converged"],
    }  # fmt: skip
    return measured | changes


def test_lines_go_by_dropout_method_and_strength() -> None:
    lines = grid_lines(Grid(rows=as_table(ROWS)), split="val")
    assert [tuple(line.cells[name] for name in ("dropout", "method", "strength")) for line in lines] == [
        (0.0, "natural", ""), (0.0, "TRADES", "beta 1"), (0.0, "TRADES", "beta 3"), (0.5, "TRADES", "beta 6"),
    ]  # fmt: skip
    assert [line.cells["remark"] for line in lines] == ["flagged: noisy", "failed: diverged", "", ""]
    assert lines[1].measures == {}
    assert lines[1].cells["lipschitz"] is None


def test_gaps_are_train_minus_the_shown_split_clean_and_attacked() -> None:
    line = grid_lines(Grid(rows=as_table(ROWS)), split="val")[2]
    assert line.measures["gap"].value == pytest.approx(0.99 - 0.9)
    assert line.measures["adversarial_gap"].value == pytest.approx(0.9 - 0.5)
    low, high = wilson_interval(900, 1000)
    assert (line.measures["accuracy"].low, line.measures["accuracy"].high) == pytest.approx((low, high))


def test_intervals_take_the_examples_that_were_there() -> None:
    line = grid_lines(Grid(rows=as_table(ROWS), counts={"train": 1000, "val": 100}), split="val")[2]
    low, high = wilson_interval(90, 100)
    assert (line.measures["accuracy"].low, line.measures["accuracy"].high) == pytest.approx((low, high))
    assert line.measures["train_accuracy"].low == pytest.approx(float(wilson_interval(990, 1000)[0]))


def test_test_columns_are_those_measured_as_the_study_measures() -> None:
    found = [
        on_test(0, attack="autoattack", robust_accuracy=0.1),
        on_test(0, epsilon=0.2, robust_accuracy=0.2),
        on_test(0, split="val", robust_accuracy=0.3),
        on_test(0, examples=50, robust_accuracy=0.4),
        on_test(0),
    ]
    grid = Grid(rows=as_table(ROWS), evaluations=found)
    assert split_of([grid]) == "test"
    lines = grid_lines(grid, split="test")
    assert lines[3].measures["robust_accuracy"].value == 0.7
    assert lines[3].measures["gap"].value == pytest.approx(0.97 - 0.95)
    assert lines[3].measures["robust_accuracy"].high == pytest.approx(float(wilson_interval(280, 400)[1]))
    assert lines[3].cells["lipschitz"] == 7.0
    assert lines[3].cells["remark"] == "flagged on test: steps_not_converged"
    assert lines[2].cells["remark"] == "not measured on test"
    assert "accuracy" not in lines[2].measures
    shown = grid_table("t", [grid])
    assert "adv. test acc." in shown.headings
    assert any("test data was used 4 times: 1 network" in note for note in shown.notes)


def test_without_test_the_table_says_validation() -> None:
    shown = grid_table("t", [Grid(rows=as_table(ROWS)), Grid(rows=as_table([result_row(9, study="b", model="cnn1")]))])
    assert [row[1] for row in shown.rows] == ["mlp"] * 4 + ["cnn1"]
    assert any("validation, not test" in note for note in shown.notes)
    assert grid_table("t", [Grid(rows=as_table([]))]).rows == ()


def test_the_four_files_hold_the_same_numbers(tmp_path) -> None:
    written = write_grid_table("t", [Grid(rows=as_table(ROWS))], tmp_path, name="table9", notes=["more"])
    assert [path.name for path in written] == ["table9.md", "table9.tex", "table9.csv", "table9.parquet"]
    parquet = pq.read_table(written[3]).to_pylist()
    plain = list(csv.DictReader(io.StringIO(written[2].read_text())))
    assert len(plain) == len(parquet) == 4
    for left, right in zip(plain, parquet, strict=True):
        assert left["adversarial_gap_low"] == (
            "" if right["adversarial_gap_low"] is None else str(right["adversarial_gap_low"])
        )
    assert written[0].read_text().rstrip().endswith("more")
