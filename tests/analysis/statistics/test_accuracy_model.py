"""The probability of being on the front: calibrated on synthetic studies whose true fronts are known."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from helpers.studies.known_truth import (
    DEPTHS,
    DESIGNS,
    FURTHER,
    HEADER,
    UNDECIDABLE,
    bootstrap_accuracies,
    calibration_table,
    depths,
    evaluate_design,
    pooled,
    synthetic_study,
)
from numpy.typing import ArrayLike

from analysis.fronts.front import non_dominated
from analysis.statistics.accuracy_model import membership, true_accuracies
from analysis.statistics.front_posterior import drawn_hypervolumes
from analysis.statistics.intervals import summary, wilson_interval
from analysis.statistics.shared_noise import measure
from analysis.statistics.trade_offs import below_another_line

STUDIES = 8
"""Of each design. `benchmarks/uncertainty.py` takes more."""


@pytest.mark.chaos  # for its length
def test_probabilities_and_hypervolumes_are_calibrated() -> None:
    """The project's bounds: calibration error at most 0.05, 95 % intervals cover 0.93 to 0.97.

    Eight studies of a design are some 250 probabilities: perfectly calibrated ones show an error of the column `noise`
    at that number, and a design may exceed the bound by that much; all designs pooled may not exceed it. Coverage is
    that of all 128 studies, whose standard error is 0.019; two of them are allowed, and two of 0.026 for `spread`,
    which is 0.5 for intervals of the right width, 0.57 for such as are a fifth too narrow, 0.43 a fourth too wide.
    """
    records = {
        name: evaluate_design(make, generator=np.random.default_rng(number), studies=STUDIES, draws=200)
        for number, (name, make) in enumerate(DESIGNS.items())
    }
    every = pooled(list(records.values()))
    error, table = calibration_table(every.predicted, every.true)
    lines = [HEADER, *(record.line(name) for name, record in {**records, "all": every}.items())]
    print("\n".join(lines), f"\non the front, all designs: calibration error {error:.3f}\n{table}")  # noqa: T201
    assert error <= 0.05
    for name, record in records.items():
        assert record.error() <= 0.05 + record.noise(), name
    tolerance = 2 * np.sqrt(0.95 * 0.05 / len(every.covered))
    assert 0.93 - tolerance <= every.covered.mean() <= 0.97 + tolerance
    assert every.spread() == pytest.approx(0.5, abs=2 * 0.289 / np.sqrt(len(every.rank)))
    assert abs(every.bias.mean()) < 0.25 * every.measured.mean()


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "ratio"),
    [
        pytest.param("exponential depths", 1.0, marks=pytest.mark.chaos),  # for its length
        ("clustered depths", 1.0),
        pytest.param("uniform depths", 1.0, marks=pytest.mark.chaos),  # for its length
        pytest.param("normal depths", 1.13, marks=pytest.mark.chaos),  # for its length
    ],
)
def test_depths_of_any_distribution_give_the_right_number_of_members(kind: str, ratio: float) -> None:
    """Within two standard errors of 24 studies, which are 0.1 each, of the right number.

    Where depths are round and the front is undecided the model expects 13 % too many, as 1,200 studies show
    (`docs/analysis.md`): a test of the right number would fail about one time in four.
    """
    record = evaluate_design(DEPTHS[kind], generator=np.random.default_rng(3), studies=24, draws=200)
    print(f"{HEADER}\n{record.line(kind)}")  # noqa: T201
    assert record.predicted.sum() == pytest.approx(ratio * record.true.sum(), rel=0.2)
    assert record.error() <= 0.06 + record.noise()
    assert record.covered.mean() >= 0.79


def test_resampling_alone_is_neither_calibrated_nor_free_of_bias() -> None:
    """The bootstrap, often used instead, fails the same bounds, so the bounds can detect a wrong model."""
    rng = np.random.default_rng(11)
    counted, was, bias = [], [], []
    for _ in range(12):
        truth, clean, robust = DESIGNS["40 x 1000, scatter 0.01"](rng)
        seeds = [np.random.default_rng(5), np.random.default_rng(5)]
        pairs = zip((clean, robust), seeds, strict=True)
        resampled = np.stack([bootstrap_accuracies(m, resamples=200, generator=g) for m, g in pairs], axis=-1)
        counted.append(np.mean([non_dominated(p, maximise=True) for p in resampled], axis=0))
        was.append(non_dominated(truth, maximise=True))
        bias.append(summary(drawn_hypervolumes(resampled)).value - drawn_hypervolumes(truth[None])[0])
    assert calibration_table(np.concatenate(counted), np.concatenate(was))[0] > 0.1
    assert np.mean(bias) > 0.008


@pytest.mark.long
def test_clusters_below_the_noise_cannot_be_distinguished_from_lines_along_the_front() -> None:
    """Of five trials in a round heap 0.457 are on its front; of five on a falling line all are, however short it is.

    As both shrink below the noise their outcomes become one distribution, so no probability can be right for both.
    What the model says lies between; the hypervolume, which depends little on who is on the front, stays right.
    """
    name = "clusters below the noise"
    record = evaluate_design(UNDECIDABLE[name], generator=np.random.default_rng(0), studies=STUDIES, draws=200)
    print(f"{HEADER}\n{record.line(name)}")  # noqa: T201
    assert record.true.mean() < record.predicted.mean() < 0.7
    assert record.covered.mean() >= 0.75
    assert record.decided.mean() < 0.3


@pytest.mark.long
def test_a_front_of_trials_that_differ_by_less_than_the_noise_is_undecided() -> None:
    """The scatter is a quarter of the noise in the first kind and twice the noise in the second."""
    undecided, decided = (
        [
            true_accuracies(*make(rng)[1:], generator=rng, draws=200).decided
            for rng in map(np.random.default_rng, range(5))
        ]
        for make in (DESIGNS["40 x 1000, scatter 0.003"], DESIGNS["20 x 1000, scatter 0.02"])
    )
    assert (sum(undecided) <= 1, all(decided)) == (True, True)


@pytest.mark.parametrize("name", ["36 x 300, few mistakes", "the same, normal depths"])
def test_a_front_of_trials_with_a_handful_of_mistakes_is_undecided(name: str) -> None:
    """Here the expected number of members is a sixth too small or too large, depending on the kind of depths."""
    drawn = [
        true_accuracies(*FURTHER[name](rng)[1:], generator=rng, draws=50)
        for rng in map(np.random.default_rng, range(5))
    ]
    assert not any(true.decided for true in drawn)
    assert all(5 <= true.mistakes < 15 for true in drawn)


@pytest.mark.parametrize("trials", [1, 2])
def test_one_trial_alone_or_far_above_another_is_decided_however_few_mistakes_it_makes(trials: int) -> None:
    """With three trials or more the median one makes at least the 18 mistakes that the distance takes."""
    clean, robust = (np.arange(300) >= np.array(wrong)[:trials, None] for wrong in ((0, 25), (6, 100)))
    true = true_accuracies(clean, robust, generator=np.random.default_rng(0), draws=200)
    assert true.decided
    np.testing.assert_array_equal(membership(true.accuracies), [1, 0][:trials])


def test_a_trade_off_below_the_noise_is_not_seen_and_the_hypervolume_stays_right() -> None:
    """Clean accuracies that fall by less than an image look equal: too few trials are put on the front."""
    name = "a trade-off below the noise"
    record = evaluate_design(UNDECIDABLE[name], generator=np.random.default_rng(0), studies=STUDIES, draws=200)
    print(f"{HEADER}\n{record.line(name)}")  # noqa: T201
    assert 0.1 < record.predicted.mean() < record.true.mean()
    assert record.covered.mean() >= 0.75


def test_collapsed_networks_do_not_influence_the_others() -> None:
    """Sound trials' draws do not depend on trials that one of them clearly beats in both accuracies."""
    _, clean, robust = DESIGNS["40 x 1000, scatter 0.01"](np.random.default_rng(4))
    constant = np.random.default_rng(5).random((6, 1000)) < 0.1
    alone = drawn_accuracies(clean, robust, draws=50)
    beside = drawn_accuracies(np.concatenate([constant, clean]), np.concatenate([constant, robust]), draws=50)
    np.testing.assert_array_equal(beside[:, 6:], alone)
    assert (membership(beside)[:6] == 0).all()
    assert np.abs(beside[:, :6] - constant.mean(axis=1)[:, None]).mean() < 0.02


def test_trials_on_a_second_line_below_do_not_make_the_first_look_scattered() -> None:
    """With one scale for both lines a fifth of the members was missed."""
    kind = partial(depths, kind="two lines", trials=30, examples=5000)
    record = evaluate_design(kind, generator=np.random.default_rng(30), studies=8, draws=200)
    print(f"{HEADER}\n{record.line('two lines')}")  # noqa: T201
    assert record.predicted.sum() == pytest.approx(record.true.sum(), rel=0.1)
    assert record.error() <= 0.06


def test_trials_below_a_line_keep_their_own_values() -> None:
    """They are drawn as measured, with the noise that trials share."""
    rng = np.random.default_rng(2)
    _, clean, robust = depths(rng, "two lines", trials=30, examples=5000)
    lower = below_another_line(measure(np.stack([clean, robust], axis=1)))
    assert 8 <= lower.sum() <= 22
    drawn = drawn_accuracies(clean, robust, draws=300)
    measured = np.stack([clean.mean(axis=1), robust.mean(axis=1)], axis=1)
    np.testing.assert_allclose(drawn.mean(axis=0)[lower], measured[lower], atol=0.002)
    assert drawn[:, lower].std(axis=0) == pytest.approx(np.sqrt(measured * (1 - measured) / 5000)[lower], rel=0.25)


@pytest.mark.parametrize("kind", ["normal", "uniform", "clustered", "none"])
def test_a_single_line_has_no_second_one(kind: str) -> None:
    rng = np.random.default_rng(4)
    for trials in (12, 30):
        _, clean, robust = depths(rng, kind, trials=trials, examples=1000)
        assert not below_another_line(measure(np.stack([clean, robust], axis=1))).any()


def test_accuracies_one_image_apart_are_no_two_lines() -> None:
    """Nothing is left beside two levels of clean accuracy, so only the noise says how far apart they are."""
    wrong = np.stack([9 + np.arange(14) % 2, np.linspace(40, 80, 14)], axis=1)
    outcomes = np.arange(100) >= wrong[:, :, None]
    assert not below_another_line(measure(outcomes)).any()


def test_equal_robust_accuracies_say_nothing_of_clean_ones() -> None:
    """Natural training alone: robust 0 for all. Lower ends near Wilson's, not those of some fitted curve."""
    rng = np.random.default_rng(0)
    clean = rng.random((20, 500)) < np.linspace(0.9, 0.97, 20)[:, None]
    drawn = drawn_accuracies(clean, np.zeros_like(clean), draws=300)
    low = np.quantile(drawn[..., 0], 0.025, axis=0)
    assert np.abs(low - wilson_interval(clean.sum(axis=1), 500)[0]).max() < 0.02


def test_trials_without_an_error_are_no_more_certain_than_one_of_them() -> None:
    right = np.ones((5, 500), dtype=bool)
    low = [summary(drawn_hypervolumes(drawn_accuracies(some, some))).low for some in (right[:1], right)]
    assert low[0] == pytest.approx(wilson_interval(500, 500)[0] ** 2, abs=0.008)
    assert low[1] == pytest.approx(low[0], abs=0.004)


def drawn_accuracies(clean: ArrayLike, robust: ArrayLike, *, seed: int = 0, draws: int = 1000) -> np.ndarray:
    return true_accuracies(clean, robust, generator=np.random.default_rng(seed), draws=draws).accuracies


def front_probability(clean: ArrayLike, robust: ArrayLike, *, seed: int = 0, draws: int = 1000) -> np.ndarray:
    return membership(drawn_accuracies(clean, robust, seed=seed, draws=draws))


def test_clear_cases_are_certain() -> None:
    """Trial 0 dominates 1 on every example where they differ; 2 trades clean for robust accuracy."""
    n = np.arange(1000)
    clean = np.array([n < 950, n < 700, n < 800])
    robust = np.array([n < 300, n < 200, n < 600])
    found = front_probability(clean, robust, draws=300)
    assert found[[0, 2]] == pytest.approx(1.0)
    assert found[1] == pytest.approx(0.0)


def test_pairing_on_examples_sharpens_the_comparison() -> None:
    """One trial loses 12 examples more than the other: conclusive if the rest agrees, not if it is independent."""
    rng = np.random.default_rng(3)
    base = rng.random(1000) < 0.8
    paired_loser = base & ~np.isin(np.arange(1000), np.flatnonzero(base)[:12])
    unpaired_loser = rng.permutation(paired_loser)
    robust = np.zeros((2, 1000), dtype=bool)
    robust[:, :300] = True
    chance = [front_probability([base, loser], robust)[0] for loser in (paired_loser, unpaired_loser)]
    assert chance[0] > chance[1]


def test_constant_outcomes_and_identical_trials_are_no_obstacle() -> None:
    clean = np.ones((4, 50), dtype=bool)
    robust = np.zeros((4, 50), dtype=bool)
    found = front_probability(clean, robust, draws=100)
    assert ((found > 0) & (found < 1)).all()
    assert front_probability(clean[:1], robust[:1]).tolist() == [1.0]


def test_seed_decides_the_draws_and_inputs_stay() -> None:
    rng = np.random.default_rng(0)
    _, clean, robust = synthetic_study(rng, trials=8, examples=100, scatter=0.02)
    before = clean.copy()
    first, second = (front_probability(clean, robust, seed=1, draws=50) for _ in "ab")
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(clean, before)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(t, n\) with n >= 1, got \(2, 0\)"):
        front_probability(np.ones((2, 0)), np.ones((2, 0)))
