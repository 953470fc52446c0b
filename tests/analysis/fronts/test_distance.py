"""The distance to the front, against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.studies.synthetic_results import as_table, study_rows

from analysis.fronts.distance import front_distance
from analysis.fronts.front import feasible, front_of, on_front
from analysis.fronts.objectives import FRONT, values


def test_it_is_the_shortest_gain_that_reaches_a_member() -> None:
    table = as_table(study_rows(60, seed=3))
    distances, points, members = front_distance(table), values(table, FRONT), values(front_of(table), FRONT)
    assert (distances[on_front(table)] == 0).all()
    assert (distances[feasible(table) & ~on_front(table)] > 0).all()
    assert np.isnan(distances[~feasible(table)]).all()
    extent = np.ptp(members, axis=0)
    angles = np.linspace(0, np.pi / 2, 400)
    for index in np.flatnonzero(distances > 0):
        ends = points[index] + extent * distances[index] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        reached = [(ends + share >= members[:, None]).all(axis=2).any() for share in (0.02 * extent, -0.02 * extent)]
        assert reached == [True, False]


def test_a_tie_in_one_accuracy_is_not_as_good_as_the_member() -> None:
    """Gaining anything in that accuracy would put it on the front, far from what its members keep under attack."""
    pairs = [(0.99, 0.5), (0.94, 0.7), (0.99, 0.3)]
    rows = study_rows(3, seed=0)
    for row, (clean, robust) in zip(rows, pairs, strict=True):
        row |= {"status": "completed", "flags": [], "val_clean_accuracy": clean, "val_robust_accuracy": robust}
    assert front_distance(as_table(rows)) == pytest.approx([0, 0, 1])  # 0.2, the range of the front in robust accuracy


def test_without_a_front_no_trial_has_a_distance() -> None:
    flagged = [{**row, "flags": ["zero_gradients"]} for row in study_rows(3)]
    assert np.isnan(front_distance(as_table(flagged))).all()
    assert len(front_distance(as_table([]))) == 0
