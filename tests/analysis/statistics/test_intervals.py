"""Intervals have their nominal coverage, also near 0 and 1."""

from __future__ import annotations

import time

import numpy as np
import pytest
from helpers.studies.known_truth import bootstrap_accuracies
from scipy import stats

from analysis.data.results import ResultsError, example_columns, to_table
from analysis.data.schema import EXAMPLE
from analysis.statistics.intervals import (
    outcomes,
    paired_difference_interval,
    wilson_interval,
)


def test_wilson_ends_are_the_shares_a_score_test_just_rejects() -> None:
    z = stats.norm.ppf(0.975)
    low, high = wilson_interval(37, 120)
    for end in (low, high):
        assert abs(37 / 120 - end) / np.sqrt(end * (1 - end) / 120) == pytest.approx(z)
    assert low < 37 / 120 < high


def test_wilson_at_the_borders() -> None:
    z2 = stats.norm.ppf(0.975) ** 2
    low, high = wilson_interval([0, 50, 0], [50, 50, 0])
    assert low == pytest.approx([0, 50 / (50 + z2), 0])
    assert high == pytest.approx([z2 / (50 + z2), 1, 1])
    for bad in (-1, 51):
        with pytest.raises(ValueError, match="`successes` must be between 0 and `examples`"):
            wilson_interval(bad, 50)
    with pytest.raises(ValueError, match=r"`confidence` must be in \(0, 1\), got 95"):
        wilson_interval(1, 2, confidence=95)


@pytest.mark.parametrize("examples", [100, 1000])
@pytest.mark.parametrize(("lowest", "highest"), [(0.0, 0.02), (0.02, 0.1), (0.4, 0.6), (0.95, 1.0), (0.98, 1.0)])
def test_wilson_coverage_is_nominal(examples: int, lowest: float, highest: float) -> None:
    """Exact coverage, averaged over 399 true shares in a range, as at a single one it jumps with each whole count."""
    counts = np.arange(examples + 1)
    low, high = wilson_interval(counts, examples)
    true = np.linspace(lowest, highest, 401)[1:-1, None]
    covered = ((low <= true) & (true <= high)) * stats.binom.pmf(counts, examples, true)
    print(f"Wilson, {examples} examples, shares {lowest}-{highest}: covers {covered.sum(axis=1).mean():.4f}")  # noqa: T201
    assert 0.93 <= covered.sum(axis=1).mean() <= 0.97


def restricted_statistic(b: int, c: int, n: int, d: float) -> float:
    """Return the score statistic with the nuisance share found by search, not by formula."""
    q = np.linspace(max(0.0, -d), (1 - d) / 2, 200_001)[1:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = [k * np.log(p) if k else 0.0 for k, p in ((b, q + d), (c, q), (n - b - c, 1 - 2 * q - d))]
    best = q[np.argmax(sum(terms))]
    return float((b - c - n * d) / np.sqrt(n * (2 * best + d * (1 - d))))


@pytest.mark.parametrize(("b", "c", "n"), [(12, 2, 50), (3, 9, 40), (5, 5, 30), (1, 0, 200), (30, 10, 60)])
def test_paired_ends_are_the_differences_a_score_test_just_rejects(b: int, c: int, n: int) -> None:
    low, high = paired_difference_interval(b, c, n)
    assert restricted_statistic(b, c, n, float(low)) == pytest.approx(stats.norm.ppf(0.975), abs=2e-3)
    assert restricted_statistic(b, c, n, float(high)) == pytest.approx(-stats.norm.ppf(0.975), abs=2e-3)


def test_paired_interval_without_discordant_examples_and_its_symmetry() -> None:
    z2 = stats.norm.ppf(0.975) ** 2
    low, high = paired_difference_interval(0, 0, 100)
    assert (low, high) == (pytest.approx(-z2 / (100 + z2)), pytest.approx(z2 / (100 + z2)))
    low, high = paired_difference_interval([7, 2], [2, 7], 50)
    assert low[0] == pytest.approx(-high[1])
    assert high[0] == pytest.approx(-low[1])
    assert paired_difference_interval(20, 0, 20).high == pytest.approx(1.0)
    with pytest.raises(ValueError, match="at most `examples`"):
        paired_difference_interval(30, 30, 50)


@pytest.mark.parametrize(("examples", "highest"), [(100, 0.05), (300, 0.05), (1000, 0.005), (1000, 0.02), (1000, 0.05)])
def test_paired_coverage_is_nominal_for_few_discordant_examples(examples: int, highest: float) -> None:
    """Exact coverage, averaged over both shares of discordant examples in (0, highest): pairs near 0, near 1 and equal.

    Only discordant examples enter, so accuracies of 0.01 and of 0.99 are the same case. Below some five expected of
    either kind, none at all is likely, every interval holds the truth then, and coverage rises to 1 for any method.
    """
    counts = np.arange(int(stats.binom.ppf(1 - 1e-9, examples, highest)) + 1)
    b, c = np.meshgrid(counts, counts, indexing="ij")
    low, high = paired_difference_interval(b, c, examples)
    shares = np.linspace(0, highest, 14)[1:-1]
    covered = []
    for first in shares:
        given = stats.binom.pmf(c[None], examples - b, shares[:, None, None] / (1 - first))
        inside = (low <= first - shares[:, None, None]) & (first - shares[:, None, None] <= high)
        covered.append((stats.binom.pmf(b, examples, first) * given * inside).sum(axis=(1, 2)).mean())
    print(f"paired, {examples} examples, up to {highest} discordant: covers {np.mean(covered):.4f}")  # noqa: T201
    assert 0.93 <= np.mean(covered) <= 0.97


@pytest.mark.parametrize(("first", "second", "both"), [(0.9, 0.85, 0.82), (0.5, 0.5, 0.45), (0.97, 0.4, 0.4)])
def test_paired_coverage_is_nominal_for_many_discordant_examples(first: float, second: float, both: float) -> None:
    """Of 20,000 simulated pairs; the standard error of the coverage is 0.0015."""
    n, cells = 1000, [first - both, second - both, 1 - first - second + both]
    counts = np.random.default_rng(1).multinomial(n, np.maximum([*cells, both], 0), size=20_000)
    low, high = paired_difference_interval(counts[:, 0], counts[:, 1], n)
    assert 0.93 <= np.mean((low <= first - second) & (first - second <= high)) <= 0.97


def test_bootstrap_keeps_pairs_together_and_its_seed() -> None:
    rng = np.random.default_rng(0)
    first = rng.random(400) < 0.8
    second = first & (rng.random(400) < 0.9)
    drawn = bootstrap_accuracies([first, second], resamples=4000, generator=np.random.default_rng(1))
    assert drawn.shape == (4000, 2)
    assert (drawn[:, 1] <= drawn[:, 0]).all()
    assert drawn.mean(axis=0) == pytest.approx([first.mean(), second.mean()], abs=0.002)
    expected = np.cov(np.array([first, second], dtype=float), bias=True) / 400
    np.testing.assert_allclose(np.cov(drawn.T), expected, rtol=0.12)
    np.testing.assert_array_equal(
        drawn, bootstrap_accuracies([first, second], resamples=4000, generator=np.random.default_rng(1))
    )


def example_table(**trials: tuple[list[int], list[bool], list[bool]]) -> object:
    identity = {"study": "s", "checkpoint": "last", "attack": "pgd", "epsilon": 0.1}
    columns: dict[str, list[object]] = {}
    for trial, (index, clean, robust) in trials.items():
        split = {"index": np.array(index), "clean_correct": np.array(clean), "robust_correct": np.array(robust)}
        for name, cells in example_columns({"val": split, "train": split}, trial_id=trial, **identity).items():
            columns.setdefault(name, []).extend(np.asarray(cells).tolist() if not isinstance(cells, list) else cells)
    return to_table(columns, EXAMPLE)


def test_outcomes_are_aligned_by_example() -> None:
    table = example_table(b=([3, 1], [True, False], [False, False]), a=([1, 3], [True, True], [False, True]))
    found = outcomes(table, split="val")
    assert found.trials == ("a", "b")
    assert found.index.tolist() == [1, 3]
    assert found.clean.tolist() == [[True, True], [False, True]]
    assert found.robust.tolist() == [[False, True], [False, False]]
    assert outcomes(table, split="test").clean.shape == (0, 0)


def test_outcomes_on_different_examples_are_refused() -> None:
    with pytest.raises(ResultsError, match="the 2 trials must share their val examples"):
        outcomes(example_table(a=([1], [True], [True]), b=([2], [True], [True])), split="val")


def test_bootstrap_is_fast() -> None:
    """100 trials, 10,000 examples, 2,000 resamples: about two seconds on a quiet slow core."""
    matrix = np.random.default_rng(0).random((100, 10_000)) < 0.5
    start = time.process_time()
    bootstrap_accuracies(matrix, resamples=500, generator=np.random.default_rng(0))
    assert time.process_time() - start < 5
