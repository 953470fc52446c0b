"""Hypervolumes of draws, dominance and the spread between seeds against slow or exact versions."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.studies.known_truth import calibration_table, synthetic_study

from analysis.fronts.front import hypervolume, non_dominated, outermost
from analysis.statistics.front_posterior import (
    CANDIDATES,
    FrontPosterior,
    drawn_hypervolumes,
    front_belief,
)
from analysis.statistics.intervals import Outcomes, summary


def outcomes_of(clean: np.ndarray, robust: np.ndarray) -> Outcomes:
    names = tuple(f"{number:05d}" for number in range(len(clean)))
    return Outcomes(trials=names, index=np.arange(clean.shape[1]), clean=clean, robust=robust)


def test_hypervolumes_of_draws_are_the_hypervolume_of_each() -> None:
    drawn = np.random.default_rng(0).choice([0.1, 0.3, 0.5, 0.7], size=(50, 6, 2))
    expected = [hypervolume(points, reference=(0.2, 0.1), maximise=True).value for points in drawn]
    assert drawn_hypervolumes(drawn, reference=(0.2, 0.1)) == pytest.approx(expected)


def test_dominance_and_summary_count() -> None:
    drawn = np.array([[[0.9, 0.5], [0.8, 0.4]], [[0.9, 0.3], [0.8, 0.4]], [[0.7, 0.5], [0.8, 0.4]]])
    belief = FrontPosterior(trials=("a", "b"), drawn=drawn, probability=np.ones(2), left_out=0)
    assert belief.dominates("a", "b") == pytest.approx(1 / 3)
    assert belief.dominates("b", "a") == 0.0
    found = summary(np.arange(1, 1000))
    assert (found.value, found.low, found.high) == pytest.approx((500, 25, 975))
    assert str(found).startswith("500.000 [25")


def test_outermost_takes_layer_after_layer() -> None:
    points = np.random.default_rng(1).random((40, 2))
    for most in (1, 7, 40, 100):
        chosen = outermost(points, most=most)
        assert len(set(chosen.tolist())) == min(most, 40)
    front = np.flatnonzero(non_dominated(points, maximise=True))
    assert set(front) <= set(outermost(points, most=len(front)).tolist())
    assert outermost(np.full((3, 2), np.nan), most=2).tolist() == []
    points[::2] = np.nan
    assert set(outermost(points, most=40).tolist()) == set(range(1, 40, 2))


def test_belief_of_a_front_names_its_trials_and_leaves_out_the_hopeless() -> None:
    rng = np.random.default_rng(4)
    _, clean, robust = synthetic_study(rng, trials=8, examples=1000, scatter=0.02)
    hopeless = np.zeros((CANDIDATES, 1000), dtype=bool)
    found = front_belief(
        outcomes_of(np.vstack([clean, hopeless]), np.vstack([robust, hopeless])),
        generator=np.random.default_rng(0),
        draws=20,
    )
    assert (len(found.trials), found.left_out) == (CANDIDATES, 8)
    assert found.probability.shape == (CANDIDATES,)
    assert 0 < found.hypervolume().low < found.hypervolume().high < 1
    best = found.trials[int(np.argmax(found.probability))]
    assert found.dominates(best, f"{CANDIDATES - 1:05d}") > 0.9


def test_a_crowded_front_is_not_cut_off_by_luck() -> None:
    """200 trials near the front: were only the luckiest hundred to enter, they would be said to be on it too often.

    Six hundred perfectly calibrated probabilities show an error of up to 0.03; that much is allowed beyond the bound.
    """
    rng = np.random.default_rng(5)
    said, was = [], []
    for _ in range(3):
        truth, clean, robust = synthetic_study(rng, trials=200, examples=1000, scatter=0.01)
        found = front_belief(outcomes_of(clean, robust), generator=rng, draws=150)
        assert found.left_out == 0
        said.append(found.probability)
        was.append(non_dominated(truth, maximise=True))
    error, table = calibration_table(np.concatenate(said), np.concatenate(was))
    assert error <= 0.05 + 0.03, table
