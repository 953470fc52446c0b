"""The staircase beside the theorem's classifier: both accurate and robust below r, one smooth, the other not."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from analysis.plots.networks.staircase import (
    LABELS,
    POINTS,
    SHOWN_RADIUS,
    R,
    staircase,
    staircase_sheet,
    theorems_classifier,
)

X = np.linspace(0, 1, 4001)


def test_the_classes_are_2r_apart():
    apart = np.abs(np.subtract.outer(POINTS, POINTS))
    assert apart[np.not_equal.outer(LABELS, LABELS)].min() == pytest.approx(2 * R)
    assert SHOWN_RADIUS < R


@pytest.mark.parametrize("function", [theorems_classifier, staircase])
def test_both_are_right_everywhere_within_any_radius_below_r(function):
    for place, label in zip(POINTS, LABELS, strict=True):
        near = X[np.abs(X - place) < 0.999 * R]
        assert (np.sign(function(near)) == label).all()


def test_the_theorems_function_has_slope_1_over_r_and_the_staircase_none_or_a_step():
    slopes = np.abs(np.diff(theorems_classifier(X)) / np.diff(X))
    assert slopes.max() == pytest.approx(1 / R)
    assert (np.abs(theorems_classifier(POINTS)) >= 1 - 1e-12).all()
    steps = np.diff(staircase(X))
    assert set(np.abs(steps)) == {0.0, 2.0}
    assert np.count_nonzero(steps) == np.count_nonzero(np.diff(LABELS))


def test_the_figure_has_its_data_beside_it(tmp_path):
    written = staircase_sheet().write(tmp_path, formats=["png"])
    assert [path.name for path in written] == ["staircase.png", "staircase.csv"]
    with written[1].open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["example"]) for row in rows if row["example"]] == list(LABELS)
    assert [float(row["staircase"]) for row in rows] == staircase([float(row["x"]) for row in rows]).tolist()
