"""The halving rule against its definition, spelled out pair by pair."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.driver.moasha import MIN_TRIALS, judge, spread_out

AXES = st.sampled_from([(True, True), (True, True, False), (True,), (False, False)])
VALUE = st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0, math.nan])


@st.composite
def rungs(draw):
    maximise = draw(AXES)
    points = draw(st.lists(st.tuples(*[VALUE] * len(maximise)), min_size=1, max_size=14))
    return maximise, {f"{number:02d}": point for number, point in enumerate(points)}


def dominates(left, right, maximise):
    signed = [(a, b) if up else (-a, -b) for a, b, up in zip(left, right, maximise, strict=True)]
    return all(a >= b for a, b in signed) and any(a > b for a, b in signed)


def ranks_by_definition(points, maximise):
    """Rank r: dominated by a point of rank r - 1 and by none of rank r or above; 0 with NaN."""
    ranks = {name: 0 for name, point in points.items() if any(map(math.isnan, point))}
    rank = 0
    while remaining := {name: point for name, point in points.items() if name not in ranks}:
        rank += 1
        for name, point in remaining.items():
            if not any(dominates(other, point, maximise) for other in remaining.values()):
                ranks[name] = rank
    return ranks


@given(rungs(), st.sampled_from([1.5, 2.0, 3.0, 4.0]))
def test_ranks_quota_and_places_are_those_of_the_definition(rung, factor):
    maximise, points = rung
    ranks = ranks_by_definition(points, maximise)
    verdicts = {name: judge(points, name, maximise=maximise, reduction_factor=factor) for name in points}
    quota = math.ceil(len(points) / factor)
    assert {name: verdict.rank or 0 for name, verdict in verdicts.items()} == ranks
    assert sorted(verdict.place for verdict in verdicts.values()) == list(range(1, len(points) + 1))
    for name, verdict in verdicts.items():
        better = [other for other in points if (ranks[other] or math.inf) < (ranks[name] or math.inf)]
        equal = [other for other in points if ranks[other] == ranks[name]]
        assert len(better) < verdict.place <= len(better) + len(equal)
        assert (verdict.trials, verdict.quota) == (len(points), quota)
        assert verdict.continues == (verdict.place <= quota or ranks[name] == 1 or len(points) < MIN_TRIALS)


@given(rungs(), st.randoms())
def test_the_verdict_does_not_depend_on_the_order_of_arrival(rung, random):
    maximise, points = rung
    names = list(points)
    random.shuffle(names)
    shuffled = {name: points[name] for name in names}
    for name in points:
        verdicts = [judge(each, name, maximise=maximise, reduction_factor=3) for each in (points, shuffled)]
        assert verdicts[0] == verdicts[1]


@given(rungs())
def test_scaling_an_objective_changes_no_rank(rung):
    maximise, points = rung
    scaled = {name: (4 * point[0], *point[1:]) for name, point in points.items()}
    for name in points:
        before, after = (judge(each, name, maximise=maximise, reduction_factor=3) for each in (points, scaled))
        assert before == after


@given(rungs())
def test_an_excluded_trial_counts_as_one_without_values(rung):
    maximise, points = rung
    without_values = {**points, "00": (math.nan,) * len(maximise)}
    for name in points:
        expected = judge(without_values, name, maximise=maximise, reduction_factor=2)
        assert judge(points, name, maximise=maximise, reduction_factor=2, excluded={"00"}) == expected


@given(st.lists(st.tuples(*[st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0])] * 2), min_size=1, max_size=9))
def test_every_next_point_is_the_farthest_from_those_before_it(points):
    maximise = (True, False)
    order = spread_out(points, maximise=maximise)
    assert sorted(order) == list(range(len(points)))
    extents = [(max(axis) - min(axis)) or 1.0 for axis in zip(*points, strict=True)]

    def gap(index, chosen):
        return min(
            math.dist(*([value / extent for value, extent in zip(points[each], extents, strict=True)] for each in pair))
            for pair in itertools.product([index], chosen)
        )

    bests = {max(range(len(points)), key=lambda i: points[i][0]), min(range(len(points)), key=lambda i: points[i][1])}
    assert set(order[: len(bests)]) == bests
    for count in range(len(bests), len(order)):
        chosen = order[:count]
        rest = [index for index in range(len(points)) if index not in chosen]
        assert gap(order[count], chosen) == pytest.approx(max(gap(index, chosen) for index in rest))


def test_of_equal_rank_the_isolated_trial_continues():
    crowd = {f"{number}": (0.5 + number / 100, 0.5 - number / 100) for number in range(6)}
    better = {name + "+": (a + 0.3, b + 0.3) for name, (a, b) in list(crowd.items())[:2]}
    points = crowd | better | {"isolated": (0.75, 0.1)}
    verdict = judge(points, "isolated", maximise=(True, True), reduction_factor=2)
    middle = judge(points, "2", maximise=(True, True), reduction_factor=2)
    assert (verdict.rank, middle.rank) == (2, 2)
    assert verdict.place < middle.place
    assert verdict.continues


def test_all_front_trials_continue_even_beyond_the_quota():
    front = {f"{number}": (number / 10, 1 - number / 10) for number in range(9)}
    verdicts = [judge(front, name, maximise=(True, True), reduction_factor=3) for name in front]
    assert all(verdict.continues for verdict in verdicts)
    assert {verdict.quota for verdict in verdicts} == {3}


def test_no_trial_is_stopped_among_few():
    points = {f"{number}": (float(number),) for number in range(MIN_TRIALS - 1)}
    assert judge(points, "0", maximise=(True,), reduction_factor=3).continues
    points["last"] = (9.0,)
    assert not judge(points, "0", maximise=(True,), reduction_factor=3).continues
