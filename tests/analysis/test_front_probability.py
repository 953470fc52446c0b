"""The chance to be on the front: calibrated on made-up studies whose true fronts are known."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.known_truth import calibration_table, made_up_study

from analysis.beliefs import drawn_hypervolumes, summary
from analysis.front_probability import front_probability, membership, true_accuracies
from analysis.fronts import non_dominated
from analysis.uncertainty import bootstrap_accuracies


def test_probabilities_and_hypervolumes_are_calibrated_and_resampling_alone_is_not() -> None:
    """36 studies of three kinds; the bound is the project's, 0.05, the failing counterpart what people often do.

    `benchmarks/uncertainty.py` is the wide version: more kinds, more studies.
    """
    rng = np.random.default_rng(11)
    said, counted, was, covered, bias, resampled_bias = [], [], [], [], [], []
    for trials, examples, scatter in ((20, 1000, 0.02), (30, 500, 0.03), (40, 1000, 0.01)):
        for _ in range(12):
            truth, clean, robust = made_up_study(rng, trials=trials, examples=examples, scatter=scatter)
            drawn = true_accuracies(clean, robust, generator=rng, draws=200, burn_in=100)
            seeds = [np.random.default_rng(5), np.random.default_rng(5)]
            pairs = zip((clean, robust), seeds, strict=True)
            resampled = np.stack([bootstrap_accuracies(m, resamples=200, generator=g) for m, g in pairs], axis=-1)
            said.append(membership(drawn))
            counted.append(np.mean([non_dominated(p, maximise=True) for p in resampled], axis=0))
            was.append(non_dominated(truth, maximise=True))
            volume = drawn_hypervolumes(truth[None])[0]
            found = summary(drawn_hypervolumes(drawn))
            covered.append(found.low <= volume <= found.high)
            bias.append(found.value - volume)
            resampled_bias.append(summary(drawn_hypervolumes(resampled)).value - volume)
    error, table = calibration_table(np.concatenate(said), np.concatenate(was))
    naive, _ = calibration_table(np.concatenate(counted), np.concatenate(was))
    print(f"on-front probability: calibration error {error:.3f} (resampling alone {naive:.3f})\n{table}")  # noqa: T201
    print(  # noqa: T201
        f"hypervolume: 95 % intervals cover {np.mean(covered):.2f}, "
        f"bias {np.mean(bias):+.4f} (resampling {np.mean(resampled_bias):+.4f})"
    )
    assert error <= 0.05
    assert naive > 0.05
    assert np.mean(covered) >= 0.86
    assert np.mean(resampled_bias) > 0.008
    assert abs(np.mean(bias)) < 0.5 * np.mean(resampled_bias)


def test_clear_cases_are_certain() -> None:
    """Trial 0 dominates 1 on every example that tells them apart; 2 trades clean for robust."""
    n = np.arange(1000)
    clean = np.array([n < 950, n < 700, n < 800])
    robust = np.array([n < 300, n < 200, n < 600])
    found = front_probability(clean, robust, generator=np.random.default_rng(0), draws=300)
    assert found[[0, 2]] == pytest.approx(1.0)
    assert found[1] == pytest.approx(0.0)


def test_pairing_on_examples_sharpens_the_comparison() -> None:
    """One trial loses 12 examples more than the other: telling when the rest agrees, not when it is independent."""
    rng = np.random.default_rng(3)
    base = rng.random(1000) < 0.8
    paired_loser = base & ~np.isin(np.arange(1000), np.flatnonzero(base)[:12])
    unpaired_loser = rng.permutation(paired_loser)
    robust = np.zeros((2, 1000), dtype=bool)
    robust[:, :300] = True
    chance = [
        front_probability([base, loser], robust, generator=np.random.default_rng(0))[0]
        for loser in (paired_loser, unpaired_loser)
    ]
    assert chance[0] > chance[1]


def test_constant_outcomes_and_identical_trials_are_no_obstacle() -> None:
    clean = np.ones((4, 50), dtype=bool)
    robust = np.zeros((4, 50), dtype=bool)
    found = front_probability(clean, robust, generator=np.random.default_rng(0), draws=100)
    assert ((found > 0) & (found < 1)).all()
    assert front_probability(clean[:1], robust[:1], generator=np.random.default_rng(0)).tolist() == [1.0]


def test_seed_decides_the_draws_and_inputs_stay() -> None:
    rng = np.random.default_rng(0)
    _, clean, robust = made_up_study(rng, trials=8, examples=100, scatter=0.02)
    before = clean.copy()
    first, second = (front_probability(clean, robust, generator=np.random.default_rng(1), draws=50) for _ in "ab")
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(clean, before)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(t, n\) with n >= 1, got \(2, 0\)"):
        front_probability(np.ones((2, 0)), np.ones((2, 0)), generator=np.random.default_rng(0))
