"""Objectives: declared once, with the right sense, transform and behaviour on missing values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.synthetic_results import as_table, result_row

from analysis.objectives import FRONT, LIPSCHITZ_FLOOR, OBJECTIVES, directions, objective, values
from analysis.results import ResultsError
from analysis.schema import RESULT

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
    with pytest.raises(ResultsError, match="needs the column 'test_clean_accuracy', which these results lack"):
        values(as_table([result_row(0)]), ["test_clean_accuracy"])
    with pytest.raises(ValueError, match="at least one objective"):
        values(as_table([]), [])
