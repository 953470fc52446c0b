"""Fronts, hypervolume and spread against definitions written out by brute force."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence

import numpy as np
import pytest
from helpers.studies.synthetic_results import as_table, result_row, study_rows
from hypothesis import given
from hypothesis import strategies as st

from analysis.data.schema import RESULT
from analysis.fronts.front import (
    MixedStudiesError,
    feasible,
    front_hypervolume,
    front_of,
    hypervolume,
    non_dominated,
    on_front,
    require_like_for_like,
    spread_along,
    with_mixed_allowed,
)
from analysis.fronts.objectives import FRONT, is_feasible, keeps_constraints, missed_constraints

# Few distinct values, so that ties and duplicates are the rule; the specials include both zeros.
COORDINATES = st.sampled_from([-math.inf, -1.0, -0.0, 0.0, 0.25, 0.5, 1.0, math.inf, math.nan])


@st.composite
def point_sets(draw: st.DrawFn, coordinates: st.SearchStrategy[float] = COORDINATES) -> tuple[np.ndarray, list[bool]]:
    k = draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(coordinates, min_size=k, max_size=k), max_size=12))
    return np.array(rows, dtype=float).reshape(-1, k), draw(st.lists(st.booleans(), min_size=k, max_size=k))


def dominates(p: Sequence[float], q: Sequence[float], maximise: Sequence[bool]) -> bool:
    pairs = [(a, b) if up else (b, a) for a, b, up in zip(p, q, maximise, strict=True)]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def brute_force_front(points: np.ndarray, maximise: Sequence[bool]) -> list[bool]:
    known = [p for p in points.tolist() if not any(map(math.isnan, p))]
    return [not any(map(math.isnan, p)) and not any(dominates(q, p, maximise) for q in known) for p in points.tolist()]


@given(point_sets())
def test_non_dominated_is_the_definition(case: tuple[np.ndarray, list[bool]]) -> None:
    points, maximise = case
    before = points.copy()
    assert non_dominated(points, maximise=maximise).tolist() == brute_force_front(points, maximise)
    np.testing.assert_array_equal(points, before)


@given(point_sets(st.floats(0, 1)))
def test_non_dominated_is_the_definition_on_generic_points(case: tuple[np.ndarray, list[bool]]) -> None:
    points, maximise = case
    assert non_dominated(points, maximise=maximise).tolist() == brute_force_front(points, maximise)


def test_all_dominated_by_one_and_duplicates_of_it_kept() -> None:
    points = [[1, 1], [0, 0], [1, 0], [0.5, 0.5], [1, 1]]
    assert non_dominated(points, maximise=True).tolist() == [True, False, False, False, True]


@pytest.mark.parametrize("k", [1, 2, 3])
def test_empty_input_gives_an_empty_mask(k: int) -> None:
    assert non_dominated(np.empty((0, k)), maximise=True).shape == (0,)
    assert hypervolume(np.empty((0, k)), reference=[0.0] * k, maximise=True).value == 0.0


@pytest.mark.parametrize(
    ("points", "maximise", "message"),
    [
        ([1.0, 2.0], True, r"shape \(n, k\) with k >= 1, got \(2,\)"),
        (np.empty((3, 0)), True, r"got \(3, 0\)"),
        ([[1.0, 2.0]], [True], "one bool or 2, got 1"),
    ],
)
def test_shapes_that_do_not_match_are_refused(points: object, maximise: bool | list[bool], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        non_dominated(points, maximise=maximise)  # type: ignore[arg-type]


def brute_force_hypervolume(points: np.ndarray, reference: Sequence[float], maximise: Sequence[bool]) -> float:
    """Return the volume by inclusion and exclusion over all subsets of the boxes."""
    signs = np.where(maximise, 1.0, -1.0)
    boxes = (points - np.asarray(reference)) * signs
    boxes = boxes[~np.isnan(boxes).any(axis=1) & (np.nan_to_num(boxes, nan=0) > 0).all(axis=1)]
    return sum(
        (-1) ** (size + 1) * float(np.prod(np.min(subset, axis=0)))
        for size in range(1, len(boxes) + 1)
        for subset in itertools.combinations(boxes, size)
    )


@given(point_sets(st.sampled_from([-0.5, 0.0, 0.1, 0.3, 0.7, 1.0, math.nan])))
def test_hypervolume_is_the_volume_of_the_union(case: tuple[np.ndarray, list[bool]]) -> None:
    points, maximise = case[0][:8], case[1]
    reference = [0.1] * points.shape[1]
    found = hypervolume(points, reference=reference, maximise=maximise)
    assert found.value == pytest.approx(brute_force_hypervolume(points, reference, maximise), abs=1e-12)
    known = [p for p in points.tolist() if not any(map(math.isnan, p))]
    worse = [any((c < 0.1) if up else (c > 0.1) for c, up in zip(p, maximise, strict=True)) for p in known]
    assert (found.points, found.beyond) == (len(known), sum(worse))


def test_hypervolume_by_hand() -> None:
    found = hypervolume([[0.9, 0.2], [0.5, 0.6], [0.4, 0.4]], reference=(0, 0), maximise=True)
    assert found.value == pytest.approx(0.9 * 0.2 + 0.5 * 0.4)
    assert found.reference == (0.0, 0.0)
    assert hypervolume([[math.inf, 1.0]], reference=(0, 0), maximise=True).value == math.inf
    assert hypervolume([[-math.inf, 1.0]], reference=(0, 0), maximise=True).beyond == 1
    with pytest.raises(ValueError, match="`reference` must be 2 finite numbers"):
        hypervolume([[1.0, 1.0]], reference=(0,), maximise=True)


def test_front_leaves_out_failed_stopped_flagged_and_unmeasured() -> None:
    best = {"val_clean_accuracy": 0.99, "val_robust_accuracy": 0.9}
    table = as_table(
        [
            result_row(0, status="failed", **best),
            result_row(1, status="stopped_early", **best),
            result_row(2, flags=["noisy"], **best),
            result_row(3, val_clean_accuracy=0.99, val_robust_accuracy=None),
            result_row(4, val_clean_accuracy=math.nan, val_robust_accuracy=0.9),
            result_row(5, val_clean_accuracy=0.8, val_robust_accuracy=0.4),
            result_row(6, val_clean_accuracy=0.9, val_robust_accuracy=0.3),
            result_row(7, val_clean_accuracy=0.8, val_robust_accuracy=0.3),
        ]
    )
    assert np.flatnonzero(on_front(table)).tolist() == [5, 6]
    assert front_of(table)["number"].to_pylist() == [6, 5]
    assert front_hypervolume(table).value == pytest.approx(0.9 * 0.3 + 0.8 * 0.1)


def test_front_leaves_out_trials_infeasible_by_their_own_study() -> None:
    floor = '["val_clean_accuracy >= 0.85"]'
    table = as_table(
        [
            result_row(0, constraints=floor, val_clean_accuracy=0.84, val_robust_accuracy=0.8),
            result_row(1, constraints=floor, val_clean_accuracy=0.85, val_robust_accuracy=0.4),
            result_row(2, constraints=None, val_clean_accuracy=0.2, val_robust_accuracy=0.5),
            result_row(3, constraints=floor, val_clean_accuracy=0.9, val_robust_accuracy=0.7, status="failed"),
        ]
    )
    assert keeps_constraints(table).tolist() == [False, True, True, True]
    assert feasible(table).tolist() == [False, True, True, False]
    assert front_of(table)["number"].to_pylist() == [1, 2]


def test_feasible_equals_is_feasible_of_each_row() -> None:
    draw = np.random.default_rng(5)
    bounds = [None, '["val_clean_accuracy >= 0.8"]', '["val_lipschitz_scale_free_log10 <= 0.5", "val_loss <= 1"]']
    rows = [
        row
        | {
            "constraints": bounds[draw.integers(3)],
            "val_loss": [None, math.nan, 0.5, 2.0][draw.integers(4)],
            "val_lipschitz_scale_free_mean": [None, math.nan, 2.0, 9.0][draw.integers(4)],
        }
        for row in study_rows(120, seed=8)
    ]
    assert feasible(as_table(rows)).tolist() == [is_feasible(row) for row in rows]
    assert keeps_constraints(as_table(rows)).tolist() == [not missed_constraints(row) for row in rows]
    assert feasible(as_table([])).shape == (0,)


def test_three_objectives_have_a_hypervolume_with_log10_of_lipschitz() -> None:
    table = as_table(
        [
            result_row(0, val_clean_accuracy=0.9, val_robust_accuracy=0.5, val_lipschitz_scale_free_mean=10.0),
            result_row(1, val_clean_accuracy=0.8, val_robust_accuracy=0.5, val_lipschitz_scale_free_mean=1.0),
            result_row(2, val_clean_accuracy=0.99, val_robust_accuracy=0.6, val_lipschitz_scale_free_mean=1e4),
        ]
    )
    found = front_hypervolume(table, objectives=[*FRONT, "val_lipschitz_scale_free_log10"])
    assert found.reference == (0.0, 0.0, 3.0)
    assert found.value == pytest.approx(0.9 * 0.5 * 2 + 0.8 * 0.5 * 1)
    assert (found.points, found.beyond) == (3, 1)


def test_lipschitz_objective_is_minimised_and_its_null_is_off_the_front() -> None:
    table = as_table(
        [
            result_row(0, val_lipschitz_scale_free_mean=5.0),
            result_row(1, val_lipschitz_scale_free_mean=2.0),
            result_row(2, val_lipschitz_scale_free_mean=None),
        ]
    )
    mask = on_front(table, objectives=[*FRONT, "val_lipschitz_scale_free_log10"])
    assert mask.tolist() == [False, True, False]
    assert on_front(table).tolist() == [True, True, True]


def test_front_of_an_empty_table_is_empty() -> None:
    assert front_of(as_table([])).num_rows == 0
    assert front_hypervolume(as_table([])).value == 0.0


@pytest.mark.parametrize("column", RESULT.like_for_like_columns())
def test_rows_measured_differently_share_no_front(column: str) -> None:
    other = "other" if RESULT.by_name[column].type == "string" else 7
    table = as_table([result_row(0), result_row(1, **{column: other})])
    with pytest.raises(MixedStudiesError, match=rf"differ in {column} \(.*--allow-mixed"):
        on_front(table)
    assert on_front(with_mixed_allowed(table)).tolist() == [True, True]


def test_nulls_and_other_models_are_like_for_like() -> None:
    require_like_for_like(as_table([result_row(0), result_row(1, split_hash=None, study="second", model="cnn2")]))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=40), st.integers(2, 10))
def test_spread_keeps_both_ends_and_the_cap(points: list[tuple[float, float]], cap: int) -> None:
    array = np.array(points).reshape(-1, 2)
    chosen = spread_along(array, cap=cap)
    assert len(chosen) == len(set(chosen.tolist())) == min(cap, len(points))
    first = array[chosen, 0]
    assert (np.diff(first) >= 0).all()
    if points:
        assert first[0] == array[:, 0].min()
        assert first[-1] == array[:, 0].max()


def test_spread_on_a_line_is_even() -> None:
    line = np.linspace(0, 1, 101)
    points = np.stack([line, 1000 * (1 - line)], axis=1)
    assert np.sort(points[spread_along(points, cap=5), 0]) == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])


def test_spread_prefers_a_distant_member_to_a_crowd() -> None:
    crowd = [(0.9 - 0.001 * step, 0.1 + 0.001 * step) for step in range(20)]
    points = [*crowd, (0.5, 0.4), (0.2, 0.7)]
    assert {20, 21} <= set(spread_along(points, cap=4).tolist())


def test_spread_of_one_and_bad_input() -> None:
    assert spread_along([(0.0, 1.0), (1.0, 0.0), (0.5, 0.5)], cap=1).tolist() == [2]
    with pytest.raises(ValueError, match="`cap` must be at least 1, got 0"):
        spread_along([(0.0, 1.0)], cap=0)
    with pytest.raises(ValueError, match="must be finite"):
        spread_along([(math.nan, 1.0)])


def test_front_of_many_points_is_fast() -> None:
    """Three objectives, 100,000 points: n log n, so far below the bound even on a busy machine."""
    points = np.random.default_rng(0).random((100_000, 3))
    start = time.perf_counter()
    mask = non_dominated(points, maximise=True)
    hypervolume(points[mask], reference=(0, 0, 0), maximise=True)
    assert time.perf_counter() - start < 2


def test_front_of_a_study_is_the_definition() -> None:
    rows = study_rows(80, seed=4)
    eligible = [row["status"] == "completed" and not row["flags"] for row in rows]
    points = np.array(
        [[row[name] if ok else math.nan for name in FRONT] for row, ok in zip(rows, eligible, strict=True)]
    )
    assert on_front(as_table(rows)).tolist() == brute_force_front(points, [True, True])
