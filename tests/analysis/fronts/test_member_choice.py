"""Knees, nearest members and fronts of groups against their definitions written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.studies.synthetic_results import as_table, result_row, study_rows
from hypothesis import given
from hypothesis import strategies as st

from analysis.fronts.front import front_of, non_dominated
from analysis.fronts.member_choice import best_at_floor, fronts_by, knee_of, knee_point, nearest_member
from analysis.fronts.objectives import FRONT


def bulge(front: np.ndarray) -> np.ndarray:
    """Signed distance of each member from the line between a two-objective front's ends, after scaling."""
    scaled = (front - front.min(axis=0)) / np.ptp(front, axis=0)
    start, end = np.array([0.0, 1.0]), np.array([1.0, 0.0])
    along = (end - start) / np.linalg.norm(end - start)
    return np.array([along[0] * (p - start)[1] - along[1] * (p - start)[0] for p in scaled])


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=25))
def test_knee_is_farthest_beyond_the_line_between_the_ends(points: list[tuple[int, int]]) -> None:
    array = np.unique(np.array(points, dtype=float), axis=0)
    front = array[non_dominated(array, maximise=True)]
    found = knee_point(front, maximise=True)
    if len(front) < 3 or bulge(front).max() <= 1e-9:
        assert found is None
    else:
        assert found is not None
        assert bulge(front)[found] == pytest.approx(bulge(front).max())


def test_knee_by_hand_in_mixed_directions() -> None:
    accuracy_and_lipschitz = [(0.9, 3.0), (0.88, 1.2), (0.5, 1.0)]
    assert knee_point(accuracy_and_lipschitz, maximise=[True, False]) == 1
    assert knee_point([(0.0, 1.0), (0.2, 0.2), (1.0, 0.0)], maximise=True) is None
    assert knee_point([(0.0, 0.0, 1.0), (0.9, 0.9, 0.9), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)], maximise=True) == 1
    assert knee_point(np.empty((0, 2)), maximise=True) is None
    with pytest.raises(ValueError, match="must be finite"):
        knee_point([(math.nan, 1.0)] * 3, maximise=True)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12),
    st.tuples(st.floats(-5, 15), st.floats(-5, 15), st.floats(-5, 15)),
)
def test_nearest_member_is_dominated_by_no_point(points: list[tuple[int, ...]], target: tuple[float, ...]) -> None:
    array = np.array(points, dtype=float)
    chosen = nearest_member(array, target, maximise=[True, True, False])
    assert non_dominated(array, maximise=[True, True, False])[chosen]


def test_nearest_member_by_hand() -> None:
    front = [(0.9, 0.3), (0.8, 0.5), (0.6, 0.6)]
    assert nearest_member(front, (0.9, 0.3), maximise=True) == 0
    assert nearest_member(front, (0.8, 0.5), maximise=True) == 1
    assert nearest_member(front, (0.0, 0.7), maximise=True) == 2
    assert nearest_member(front[:1], (0.0, 0.0), maximise=True) == 0
    for bad, message in (((0.5,), "2 finite numbers"), ((0.5, math.nan), "2 finite numbers")):
        with pytest.raises(ValueError, match=message):
            nearest_member(front, bad, maximise=True)
    with pytest.raises(ValueError, match="at least one member"):
        nearest_member(np.empty((0, 2)), (0.5, 0.5), maximise=True)


def test_fronts_of_groups_are_each_groups_own() -> None:
    table = as_table([*study_rows(60, seed=1), result_row(90, method="lost", status="failed")])
    found = fronts_by(table, "method")
    methods = table["method"].to_pylist()
    assert list(found) == list(dict.fromkeys(methods))
    assert found["lost"].num_rows == 0
    for method, front in found.items():
        alone = table.take([index for index, name in enumerate(methods) if name == method])
        assert front.equals(front_of(alone))


def test_knee_of_a_table_names_the_trial() -> None:
    rows = [
        result_row(n, **dict(zip(FRONT, point, strict=True)))
        for n, point in enumerate([(0.9, 0.1), (0.89, 0.5), (0.6, 0.55)])
    ]
    assert knee_of(front_of(as_table(rows))) == "t00001"
    assert knee_of(as_table([])) is None


def test_the_most_robust_point_at_a_floor_is_chosen_by_robust_then_clean_then_order() -> None:
    points = [(0.99, 0.1), (0.94, 0.6), (0.95, 0.6), (0.95, 0.6), (0.8, 0.7), (math.nan, 1.0), (1.0, math.nan)]
    best = best_at_floor(points, floor=0.9)
    assert (best.index, best.clean, best.robust, best.floor) == (2, 0.95, 0.6, 0.9)
    assert best_at_floor(points, floor=0.96).index == 0
    assert best_at_floor(points, floor=0.5).index == 4
    assert best_at_floor(points, floor=0.995) is None
    assert best_at_floor([(math.nan, 0.5)]) is None
    assert best_at_floor(np.empty((0, 2))) is None


@pytest.mark.parametrize(("best", "floor"), [(0.98, 0.93), (0.9867, 0.93), (1.0, 0.95), (0.57, 0.52), (0.03, -0.02)])
def test_the_default_floor_is_five_points_below_the_best_in_whole_percents(best: float, floor: float) -> None:
    """0.98 - 0.05 is just below 0.93 as a float."""
    found = best_at_floor([(best, 0.2)])
    assert (found.floor, str(found)) == (floor, f"robust 0.200 at clean ≥ {floor:.2f}")
