"""Score intervals of accuracies, of paired differences and of means; summaries of posterior draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from analysis.data.results import Table
from analysis.data.schema import ResultsError

Z = NormalDist().inv_cdf(0.975)
"""Standard deviations that a 95 % interval reaches each way."""


class Interval(NamedTuple):
    """Lower and upper ends, arrays of one shape."""

    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Per-example outcomes of several trials on the same examples.

    Args:
        trials: Trial ids, length t.
        index: Positions of the examples in the source's file order, shape (n,).
        clean: Classified correctly, boolean, shape (t, n).
        robust: Still correct under the attack, boolean, shape (t, n).
    """

    trials: tuple[str, ...]
    index: np.ndarray
    clean: np.ndarray
    robust: np.ndarray


def outcomes(examples: Table, /, *, split: str, checkpoint: str = "last") -> Outcomes:
    """Align the per-example outcomes of a table, as `read_examples` gives it.

    Args:
        examples: Example rows.
        split: "train", "val" or "test".
        checkpoint: "last" or "best".

    Raises:
        ResultsError: Trials were measured on different examples, attacks or radii.
    """
    columns = {
        name: examples[name].to_numpy(zero_copy_only=False) for name in ("split", "checkpoint", "trial_id", "index")
    }
    chosen = np.flatnonzero((columns["split"] == split) & (columns["checkpoint"] == checkpoint))
    part = examples.take(chosen)
    for name in ("attack", "epsilon"):
        distinct = sorted(set(part[name].to_pylist()))
        if len(distinct) > 1:
            raise ResultsError(
                f"outcomes must come from one {name}, got {', '.join(map(str, distinct))}; select one first"
            )
    trials, rows = np.unique(columns["trial_id"][chosen], return_inverse=True)
    index, places = np.unique(columns["index"][chosen], return_inverse=True)
    cells = len(trials) * len(index)
    if len(chosen) != cells or len(np.unique(rows * len(index) + places)) != cells:
        raise ResultsError(
            f"the {len(trials)} trials must share their {split} examples, each once, to be compared in pairs"
        )

    def matrix(name: str) -> np.ndarray:
        aligned = np.zeros((len(trials), len(index)), dtype=bool)
        aligned[rows, places] = part[name].to_numpy(zero_copy_only=False)
        return aligned

    return Outcomes(
        trials=tuple(map(str, trials)), index=index, clean=matrix("clean_correct"), robust=matrix("robust_correct")
    )


def wilson_interval(successes: ArrayLike, examples: ArrayLike, /, *, confidence: float = 0.95) -> Interval:
    """Return the score interval of a proportion: all p that a two-sided z-test would not reject.

    Args:
        successes: Counts, any shape.
        examples: Sample sizes, broadcast against `successes`; 0 gives the interval [0, 1].
        confidence: Nominal coverage, in (0, 1).

    Source: Wilson, JASA 22 (1927).

    Examples:
        >>> low, high = rs.wilson_interval(740, 1000)
        >>> f"{low:.3f} to {high:.3f}"
        '0.712 to 0.766'
    """
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` must be in (0, 1), got {confidence}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    count, n = np.broadcast_arrays(np.asarray(successes, dtype=float), np.asarray(examples, dtype=float))
    if (count < 0).any() or (count > n).any():
        raise ValueError("`successes` must be between 0 and `examples`")
    centre = (count + z**2 / 2) / (n + z**2)
    # Counts instead of proportions, so that zero examples need no special case.
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.where(n > 0, count * (n - count) / np.maximum(n, 1), 0.0)
    half = z * np.sqrt(spread + z**2 / 4) / (n + z**2)
    return Interval(np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0))


def mean_interval(values: ArrayLike, /) -> Interval:
    """Return the normal-approximation 95 % interval of a mean: the mean ± z standard errors.

    Args:
        values: One per example, shape (n,), n >= 2, finite.
    """
    sample = np.asarray(values, dtype=np.float64)
    half = Z * sample.std(ddof=1) / np.sqrt(len(sample))
    return Interval(sample.mean() - half, sample.mean() + half)


def paired_difference_interval(only_first: ArrayLike, only_second: ArrayLike, examples: ArrayLike, /) -> Interval:
    """Return the 95 % score interval of accuracy(first) - accuracy(second), both measured on the same examples.

    With b = only_first, c = only_second and a difference d, the test statistic is
    (b - c - n d) / sqrt(n (2 q + d (1 - d))), q being the maximum-likelihood proportion of only-second examples given
    d; the interval is all d that the two-sided z-test would not reject. It holds where both accuracies are near 0 or 1.

    Args:
        only_first: Examples that only the first classifies correctly, any shape.
        only_second: Examples that only the second classifies correctly.
        examples: Examples in all, at least 1.

    Source: Tango, Statistics in Medicine 17 (1998).
    """
    b, c, n = (np.asarray(a, dtype=float) for a in np.broadcast_arrays(only_first, only_second, examples))
    if (b < 0).any() or (c < 0).any() or (b + c > n).any() or (n < 1).any():
        raise ValueError("`only_first` and `only_second` must be counts whose sum is at most `examples`")

    def statistic(d: np.ndarray) -> np.ndarray:
        w = d * (2 * n - b + c) - b - c
        q = (np.sqrt(np.maximum(w**2 + 8 * n * c * d * (1 - d), 0.0)) - w) / (4 * n)
        variance = np.maximum(n * (2 * np.maximum(q, np.maximum(-d, 0.0)) + d * (1 - d)), 1e-300)
        return np.asarray((b - c - n * d) / np.sqrt(variance))

    def crossing(level: float) -> np.ndarray:
        low, high = np.full(b.shape, -1.0), np.full(b.shape, 1.0)
        # The statistic falls in d; 55 halvings of [-1, 1] reach the last bit of a float.
        for _ in range(55):
            middle = (low + high) / 2
            above = statistic(middle) > level
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        return np.asarray((low + high) / 2)

    return Interval(crossing(Z), crossing(-Z))


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its interval.

    Args:
        value: Posterior mean, or the estimate itself.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def signed(self, *, digits: int = 3) -> str:
        """Return the same with signs, for differences."""
        value, low, high = (f"{number:+.{digits}f}" for number in (self.value, self.low, self.high))
        return f"{value} [{low}, {high}]"


def summary(drawn: ArrayLike, /) -> Estimate:
    """Return the mean and the central 95 % interval of draws, shape (draws,)."""
    array = np.asarray(drawn, dtype=np.float64)
    # A new draw lies below the k-th of m in k / (m + 1) of cases; numpy's default quantiles cover less than nominal.
    low, high = np.quantile(array, [0.025, 0.975], method="weibull")
    return Estimate(value=float(array.mean()), low=float(low), high=float(high))


def accuracy_estimate(share: float, examples: int, /) -> Estimate:
    """Return a measured accuracy with its Wilson interval."""
    low, high = wilson_interval(round(share * examples), examples)
    return Estimate(value=share, low=float(low), high=float(high))


def accuracy_of(row: Mapping[str, Any], kind: str, /) -> Estimate:
    """Return a row's `<kind>_accuracy` with its Wilson interval."""
    return accuracy_estimate(row[f"{kind}_accuracy"], row["examples"])


def difference(first: Estimate, second: Estimate, /) -> Estimate:
    """Return the difference of two accuracies with an interval from theirs, as if measured on different examples.

    It is conservative for accuracies on the same examples.

    Source: Newcombe, Statistics in Medicine 17 (1998), method 10.
    """
    value = first.value - second.value
    below = np.hypot(first.value - first.low, second.high - second.value)
    above = np.hypot(first.high - first.value, second.value - second.low)
    return Estimate(value=value, low=float(value - below), high=float(value + above))
