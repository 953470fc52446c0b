"""The distance to the front, against its definition."""

from __future__ import annotations

import numpy as np
from helpers.studies.synthetic_results import as_table, study_rows

from analysis.fronts.distance import front_distance
from analysis.fronts.front import feasible, front_of, non_dominated, on_front
from analysis.fronts.objectives import FRONT, values


def test_a_trial_that_gains_its_distance_in_both_accuracies_is_just_not_dominated() -> None:
    table = as_table(study_rows(60, seed=3))
    distances, points, members = front_distance(table), values(table, FRONT), values(front_of(table), FRONT)
    assert (distances[on_front(table)] == 0).all()
    assert np.isnan(distances[~feasible(table)]).all()
    extent = np.ptp(members, axis=0)
    behind = np.flatnonzero(distances > 0)
    assert len(behind) > 20
    for index in behind:
        for share, expected in ((1 + 1e-6, True), (1 - 1e-6, False)):
            moved = points[index] + share * distances[index] * extent
            assert non_dominated([*members, moved], maximise=True)[-1] == expected


def test_without_a_front_no_trial_has_a_distance() -> None:
    flagged = [{**row, "flags": ["zero_gradients"]} for row in study_rows(3)]
    assert np.isnan(front_distance(as_table(flagged))).all()
    assert len(front_distance(as_table([]))) == 0
