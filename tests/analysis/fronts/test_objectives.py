"""Objectives: declared once, with the right sense, transform and behaviour on missing values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.studies.synthetic_results import as_table, result_row

from analysis.data.results import ResultsError
from analysis.data.schema import RESULT
from analysis.fronts.objectives import (
    FRONT,
    LIPSCHITZ_FLOOR,
    OBJECTIVES,
    constraints_text,
    directions,
    is_feasible,
    objective,
    parse_constraint,
    values,
)

LIPSCHITZ = [name for name in OBJECTIVES if "lipschitz" in name]


def test_every_val_objective_reads_a_declared_column() -> None:
    columns = {entry.column for entry in OBJECTIVES.values() if entry.split == "val"}
    assert columns <= set(RESULT.by_name)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_names_and_senses(name: str) -> None:
    entry = OBJECTIVES[name]
    assert entry.name == name
    assert name.startswith(f"{entry.split}_")
    assert entry.maximise == name.endswith("accuracy")
    assert entry.direction == ("maximize" if entry.maximise else "minimize")


def test_the_front_is_clean_and_robust_validation_accuracy() -> None:
    assert directions(FRONT) == [True, True]
    assert [OBJECTIVES[name].column for name in FRONT] == ["val_clean_accuracy", "val_robust_accuracy"]


@pytest.mark.parametrize("name", LIPSCHITZ)
def test_lipschitz_is_log10_of_the_floored_value(name: str) -> None:
    measured = [0.0, LIPSCHITZ_FLOOR / 2, 1.0, 1000.0, math.inf]
    floor = math.log10(LIPSCHITZ_FLOOR)
    assert OBJECTIVES[name].transform(measured) == pytest.approx([floor, floor, 0.0, 3.0, math.inf])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_missing_never_becomes_a_good_value(name: str) -> None:
    assert math.isnan(OBJECTIVES[name].transform(math.nan))


def test_values_of_a_table_and_of_a_row_agree() -> None:
    rows = [result_row(0, val_lipschitz_mean=100.0), result_row(1, val_robust_accuracy=None)]
    names = [*FRONT, "val_lipschitz_log10"]
    table = values(as_table(rows), names)
    np.testing.assert_array_equal(table, [[0.9, 0.5, 2.0], [0.9, math.nan, 1.0]])
    np.testing.assert_array_equal(table, [values(row, names) for row in rows])
    assert values(as_table([]), names).shape == (0, 3)


def test_bad_names_and_absent_columns_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'val_clean_acc' \(did you mean val_clean_accuracy\?\)"):
        objective("val_clean_acc")
    with pytest.raises(
        ResultsError, match="needs the column 'test_clean_accuracy', which is missing from these results"
    ):
        values(as_table([result_row(0)]), ["test_clean_accuracy"])
    with pytest.raises(ValueError, match="at least one objective"):
        values(as_table([]), [])


@pytest.mark.parametrize(
    ("text", "violation"),
    [
        ("val_clean_accuracy >= 0.9", 0.0),
        ("val_clean_accuracy>=0.95", 0.05),
        (" val_robust_accuracy <= 0.3 ", 0.2),
        ("val_lipschitz_mean <= 12", -2.0),
        ("val_lipschitz_log10 <= 0.5", 0.5),
        ("val_lipschitz_p95 <= 5", math.inf),
    ],
)
def test_a_violation_is_in_the_unit_of_its_measure(text: str, violation: float) -> None:
    assert parse_constraint(text).violation(result_row()) == pytest.approx(violation)


def test_a_missing_measure_meets_no_constraint() -> None:
    floor = parse_constraint("val_clean_accuracy >= 0")
    for missing in (None, math.nan):
        assert floor.violation(result_row(val_clean_accuracy=missing)) == math.inf
    assert floor.violation({}) == math.inf


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("val_clean_accuracy > 0.9", "MEASURE >= NUMBER or MEASURE <= NUMBER, got the comparison '>'"),
        ("val_clean_accuracy = 0.9", "must read MEASURE"),
        ("val_clean_accuracy", "must read MEASURE"),
        ("0.9 <= val_clean_accuracy", "must read MEASURE"),
        ("val_clean_acuracy >= 0.9", r"did you mean val_clean_accuracy\?"),
        ("test_clean_accuracy >= 0.9", "'test_clean_accuracy' is not known"),
        ("val_clean_accuracy >= 90", r"fraction in \[0, 1\], got .* \(did you mean 0\.9\?\)"),
        ("val_clean_accuracy >= 90%", "must be a number, got '90%'"),
        ("val_lipschitz_mean <= nan", "finite"),
    ],
)
def test_a_malformed_constraint_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_constraint(text)


def test_a_row_is_judged_by_the_constraints_it_carries() -> None:
    declared = constraints_text(["val_clean_accuracy >= 0.9", "val_lipschitz_mean <= 10"])
    assert is_feasible(result_row(constraints=declared))
    assert is_feasible(result_row(constraints=None, val_clean_accuracy=0.1))
    for change in (
        {"val_clean_accuracy": 0.899},
        {"val_lipschitz_mean": 10.1},
        {"val_lipschitz_mean": None},
        {"status": "failed"},
        {"flags": ["zero_gradients"]},
    ):
        assert not is_feasible(result_row(constraints=declared, **change))
    assert constraints_text([]) is None
