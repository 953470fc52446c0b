"""Dose and response: what a strength that a grid sets does to the networks trained with it.

A dose is the number that a grid varies within a method: a penalty's weight, or the training radius. Trials of equal
dose differ by their seed, so that differences between doses are effects of the dose: nothing else was changed, and the
order of the trials was random.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from analysis.data.results import Table
from analysis.fronts.objectives import LIPSCHITZ_FLOOR
from analysis.method_styles import styles_for
from analysis.statistics.association import LIPSCHITZ, Association, independent, measure, slope, spearman
from analysis.statistics.hyperparameters import own_strengths
from analysis.statistics.intervals import Estimate

RESPONSES = {
    "val_lipschitz_scale_free_mean": "scale-free Lipschitz",
    "val_lipschitz_mean": "raw Lipschitz",
    "val_robust_accuracy": "robust accuracy",
    "val_clean_accuracy": "clean accuracy",
}
"""What is measured of each network, all on validation, and its name in texts."""

LEVELS = 3
"""Fewest doses of a method that show how the response depends on the dose."""

REFERENCE = "natural"
"""The method without a dose."""


OVERFITTED = "catastrophic_overfitting"
"""A flag on how a network was trained, FGSM fooling it far less than the attack, which leaves its measurement sound."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A study's soundly measured trials that were proposed independently of results, by dose; arrays have shape (n,).

    Args:
        whole: All rows of the study, failed ones too.
        table: The trials.
        methods: Their methods.
        dropout: Their dropout rates.
        doses: Their doses; NaN for methods without one.
        names: What the dose is, by method, in the order of figures: `lambda`, `train_epsilon`.
        cells: Labels of trials that share study, method, dropout and dose.
        settings: Labels of trials that share every setting and differ by their seed alone.
    """

    whole: Table
    table: Table
    methods: np.ndarray
    dropout: np.ndarray
    doses: np.ndarray
    names: Mapping[str, str]
    cells: np.ndarray
    settings: np.ndarray

    def response(self, name: str, /) -> np.ndarray:
        """Return one of `RESPONSES`, shape (n,), NaN where unknown; of a Lipschitz estimate log2, from the floor up."""
        values = measure(self.table, name)
        return np.log2(np.maximum(values, LIPSCHITZ_FLOOR)) if name in LIPSCHITZ else values

    def levels(self, method: str, /) -> list[float]:
        """Return a method's doses, ascending."""
        of_method = self.doses[self.methods == method]
        return sorted(set(of_method[np.isfinite(of_method)].tolist()))

    def rates(self) -> list[float]:
        """Return the dropout rates, ascending."""
        return sorted(set(self.dropout.tolist()))


@dataclass(frozen=True, kw_only=True)
class Point:
    """The mean response at one dose.

    Args:
        method: The method.
        dropout: The dropout rate.
        dose: The dose; None for the reference.
        response: One of `RESPONSES`.
        mean: Mean over trials with its 95 % t-interval, NaN with one trial; of a Lipschitz estimate the geometric mean.
        n: Number of trials.
    """

    method: str
    dropout: float
    dose: float | None
    response: str
    mean: Estimate
    n: int


@dataclass(frozen=True, kw_only=True)
class DoseEffect:
    """What one doubling of a method's dose does, and how Lipschitzness and robust accuracy go together besides.

    Args:
        method: The method.
        dose: What is doubled.
        effects: Change of each of `RESPONSES` by one doubling; a Lipschitz estimate's is that of its log2.
        correlation: Rank correlation of each Lipschitz estimate with robust accuracy over the method's trials.
        between_seeds: The same among trials of equal settings: without any intervention.
    """

    method: str
    dose: str
    effects: Mapping[str, Association | None]
    correlation: Mapping[str, Association | None]
    between_seeds: Mapping[str, Association | None]


def experiment_of(table: Table, /) -> Experiment | None:
    """Return a study's trials by dose; None where no method has `LEVELS` doses with several trials each.

    A method's dose is its strength where the study varies that (the first by name of its own parameters that varies),
    else its training radius. Methods without such a dose are left out, all but natural training.

    Args:
        table: Result rows of one or several studies.
    """
    share = table.filter(soundly_measured(table) & independent(table))
    methods = np.asarray(share["method"].to_pylist(), dtype=object)
    dropout = np.nan_to_num(measure(share, "param.dropout"))
    studies = np.asarray(share["study"].to_pylist(), dtype=object)
    doses, names = np.full(len(methods), np.nan), {}
    strengths = own_strengths(share)
    for method in styles_for(methods):
        name = strengths.get(method, "train_epsilon")
        values = measure(share, name if name == "train_epsilon" else f"param.{name}")
        of_method = methods == method
        if _repeated(values[of_method], dropout[of_method], studies[of_method]) >= LEVELS:
            doses[of_method], names[method] = values[of_method], name
    if not names:
        return None
    kept = np.isfinite(doses) | (methods == REFERENCE)
    share = share.filter(kept)
    methods, dropout, studies, doses = methods[kept], dropout[kept], studies[kept], doses[kept]
    first = [
        number if of is None else of
        for number, of in zip(share["number"].to_pylist(), share["replicate_of"].to_pylist(), strict=True)
    ]
    return Experiment(
        whole=table,
        table=share,
        methods=methods,
        dropout=dropout,
        doses=doses,
        names=names,
        cells=labels(studies, methods, dropout, np.nan_to_num(doses, nan=-1.0)),
        settings=labels(studies, first),
    )


def soundly_measured(table: Table, /) -> np.ndarray:
    """Mark the completed trials without flags that doubt the measurement, shape (n,).

    `OVERFITTED` is none of these. Weak doses have it by their nature, so leaving them out would choose by the response.
    """
    rows = zip(table["status"].to_pylist(), table["flags"].to_pylist(), strict=True)
    return np.array([status == "completed" and set(flags or ()) <= {OVERFITTED} for status, flags in rows], dtype=bool)


def labels(*columns: ArrayLike) -> np.ndarray:
    """Return a number for each distinct row of columns of shape (n,), shape (n,)."""
    rows = list(zip(*(np.asarray(column, dtype=object) for column in columns), strict=True))
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(row, len(numbers)) for row in rows], dtype=int)


def _repeated(doses: np.ndarray, dropout: np.ndarray, studies: np.ndarray) -> int:
    """Return how many doses have several trials at one dropout rate of one study."""
    known = np.isfinite(doses)
    cells = labels(studies[known], dropout[known], doses[known])
    return len({dose for dose, cell in zip(doses[known], cells, strict=True) if (cells == cell).sum() > 1})


def contrast(values: ArrayLike, cells: ArrayLike, weights: Mapping[int, float], /) -> Estimate | None:
    """Return a weighted sum of cells' means with its 95 % t-interval; the variance within cells is pooled.

    Args:
        values: Shape (n,); NaN is left out.
        cells: Labels, shape (n,).
        weights: Of each cell in the sum; the other cells have no part in it.

    Returns:
        None where a cell has no value; an interval of NaN where no cell has two.
    """
    from scipy import stats

    numbers, of = np.asarray(values, dtype=np.float64), np.asarray(cells)
    groups = [numbers[(of == cell) & np.isfinite(numbers)] for cell in weights]
    if not groups or any(not len(group) for group in groups):
        return None
    shares = np.array(list(weights.values()))
    sizes = np.array([len(group) for group in groups])
    value, freedom = float(shares @ [group.mean() for group in groups]), int((sizes - 1).sum())
    if not freedom:
        return Estimate(value=value, low=np.nan, high=np.nan)
    pooled = sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / freedom
    half = float(stats.t.ppf(0.975, freedom) * np.sqrt(pooled * (shares**2 / sizes).sum()))
    return Estimate(value=value, low=value - half, high=value + half)


def points(experiment: Experiment, /) -> list[Point]:
    """Return the mean of every response at every dose and dropout rate that has trials, the reference first."""
    found = []
    for method in [REFERENCE, *experiment.names]:
        for dropout in experiment.rates():
            for dose in experiment.levels(method) if method in experiment.names else [None]:
                chosen = (experiment.methods == method) & (experiment.dropout == dropout)
                chosen &= True if dose is None else experiment.doses == dose
                found += [_point(experiment, name, chosen, (method, dropout, dose)) for name in RESPONSES]
    return [point for point in found if point is not None]


def _point(
    experiment: Experiment, name: str, chosen: np.ndarray, where: tuple[str, float, float | None]
) -> Point | None:
    values = experiment.response(name)[chosen]
    mean = contrast(values, np.zeros(len(values), dtype=int), {0: 1.0})
    if mean is None:
        return None
    if name in LIPSCHITZ:
        mean = Estimate(value=2.0**mean.value, low=2.0**mean.low, high=2.0**mean.high)
    method, dropout, dose = where
    n = int(np.isfinite(values).sum())
    return Point(method=method, dropout=dropout, dose=dose, response=name, mean=mean, n=n)


def dose_effects(experiment: Experiment, /) -> list[DoseEffect]:
    """Return for each method what one doubling of its dose does, and its correlations.

    An effect is the slope over log2 of the doses above 0, by least squares with an intercept for each dropout rate (of
    each study), and its interval is heteroscedasticity-robust (HC3): see `association.slope`. Where the response does
    not follow a straight line the slope is its mean trend over the doses tried.
    """
    found = []
    studies = experiment.table["study"].to_pylist()
    robust = experiment.response("val_robust_accuracy")
    for method, dose in experiment.names.items():
        chosen = (experiment.methods == method) & (experiment.doses > 0)
        doublings = np.log2(experiment.doses[chosen])
        groups = labels(studies, experiment.dropout)[chosen]
        effects = {name: slope(doublings, experiment.response(name)[chosen], groups=groups) for name in RESPONSES}
        smooth = {name: experiment.response(name) for name in LIPSCHITZ}
        over = {name: spearman(x[chosen], robust[chosen]) for name, x in smooth.items()}
        same = {
            name: spearman(x[chosen], robust[chosen], groups=experiment.settings[chosen]) for name, x in smooth.items()
        }
        found.append(DoseEffect(method=method, dose=dose, effects=effects, correlation=over, between_seeds=same))
    return found


def dropout_gaps(experiment: Experiment, name: str, /) -> dict[float, tuple[Estimate | None, Estimate | None]]:
    """Return the mean of a gap at each dropout rate, and its difference from that at the lowest rate.

    Only the methods' doses that have trials at all rates count, each equally, so that rates are compared like for like.

    Args:
        experiment: The trials.
        name: `clean_gap` or `robust_gap`, train minus validation.
    """
    gaps, rates = measure(experiment.table, name), experiment.rates()
    arms = labels(experiment.table["study"].to_pylist(), experiment.methods, np.nan_to_num(experiment.doses, nan=-1.0))
    known = np.isfinite(gaps)
    matched = [arm for arm in set(arms) if {*experiment.dropout[known & (arms == arm)]} == set(rates)]
    weights = {
        rate: {
            int(experiment.cells[(arms == arm) & (experiment.dropout == rate)][0]): 1 / len(matched) for arm in matched
        }
        for rate in rates
    }
    least = {cell: -share for cell, share in weights[rates[0]].items()}
    return {
        rate: (
            contrast(gaps, experiment.cells, of_rate),
            None if rate == rates[0] else contrast(gaps, experiment.cells, {**of_rate, **least}),
        )
        for rate, of_rate in weights.items()
    }


def dose_label(name: str, /) -> str:
    """Return a dose's name for axes and tables."""
    return "training radius ε" if name == "train_epsilon" else name.replace("_", " ")
