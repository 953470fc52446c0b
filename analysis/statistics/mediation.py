"""How much of a method's gain in robust accuracy goes with its change in Lipschitzness; a description, no cause.

The part is a product of coefficients: the method's difference in log2 Lipschitzness from natural training, times the
slope of robust accuracy on log2 Lipschitzness among the trials of one method and dropout rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.statistics.intervals import Estimate
from analysis.statistics.intervention import REFERENCE, Experiment, contrast, labels

MEDIATOR = "val_lipschitz_scale_free_mean"
"""The scale-free estimate: smaller logits alone do not lower it."""

ASSUMPTIONS = (
    "No causal share is claimed. 'Goes with' would read 'is due to' only if nothing else that the strength changes "
    "(margins, fit, gradient masking) moved Lipschitzness and robust accuracy together, if one more halving of "
    "Lipschitzness were worth the same in every method and at every strength, and if both were measured without error "
    "that they share; they are measured on the same images, and none of this was tested here."
)
"""What a causal reading would need."""

DRAWS = 2000


@dataclass(frozen=True, kw_only=True)
class Part:
    """One dose of a method against natural training at the same dropout rates.

    Args:
        method: The method.
        dose: The dose.
        total: Difference in robust accuracy, with its 95 % t-interval over seeds.
        doublings: Difference in log2 of the scale-free Lipschitz estimate, likewise; below 0 where it is smoother.
        part: The part of `total` that goes with `doublings`, with its 95 % bootstrap interval over seeds.
        rest: `total` less `part`, likewise.
        n: Number of the method's trials.
    """

    method: str
    dose: float
    total: Estimate
    doublings: Estimate
    part: Estimate
    rest: Estimate
    n: int


@dataclass(frozen=True, kw_only=True)
class Mediation:
    """The parts of all doses, and the slope that they rest on.

    Args:
        slope: Change of robust accuracy that goes with one doubling of Lipschitzness within a method and dropout rate,
            with its 95 % bootstrap interval over seeds.
        parts: By method and dose.
    """

    slope: Estimate
    parts: tuple[Part, ...]


def mediation(experiment: Experiment, /, *, generator: np.random.Generator, draws: int = DRAWS) -> Mediation | None:
    """Return how the methods' gains over natural training divide; None without natural training to compare with.

    The slope is by least squares over all trials, with an intercept for each method and dropout rate. Seeds are drawn
    within cells (trials of one method, dropout rate and dose): of n one fewer than n, with replacement, which makes the
    variance of a cell's mean the unbiased one also for two or three seeds.

    Args:
        experiment: The trials.
        generator: Source of the draws.
        draws: Number of draws.

    Source: Rao and Wu, JASA 83 (1988), for the size of the draws.
    """
    x, y = experiment.response(MEDIATOR), experiment.response("val_robust_accuracy")
    known = np.isfinite(x) & np.isfinite(y)
    if not (known & (experiment.methods == REFERENCE)).any():
        return None
    cells = np.where(known, experiment.cells, -1)
    groups = labels(experiment.table["study"].to_pylist(), experiment.methods, experiment.dropout)
    drawn = _draws(cells, generator=generator, draws=draws)
    # the trials themselves come first, so that every estimate has its point and its draws in one array
    weights = np.vstack([known.astype(float), drawn])
    slopes = _slopes(weights, np.where(known, x, 0.0), np.where(known, y, 0.0), groups)
    if not np.isfinite(slopes[0]):
        return None
    parts = []
    for method in experiment.names:
        for dose in experiment.levels(method):
            if (found := _part(experiment, method, dose, cells=cells, weights=weights, slopes=slopes)) is not None:
                parts.append(found)
    return Mediation(slope=_estimate(slopes), parts=tuple(parts))


def _part(
    experiment: Experiment, method: str, dose: float, *, cells: np.ndarray, weights: np.ndarray, slopes: np.ndarray
) -> Part | None:
    shares = _shares(experiment, method, dose, cells=cells)
    x, y = experiment.response(MEDIATOR), experiment.response("val_robust_accuracy")
    total, doublings = contrast(y, cells, shares), contrast(x, cells, shares)
    if total is None or doublings is None:
        return None
    totals, changes = _contrasts(weights, y, cells, shares), _contrasts(weights, x, cells, shares)
    of_dose = (experiment.methods == method) & (experiment.doses == dose)
    return Part(
        method=method,
        dose=dose,
        total=total,
        doublings=doublings,
        part=_estimate(slopes * changes),
        rest=_estimate(totals - slopes * changes),
        n=int((of_dose & np.isin(cells, list(shares))).sum()),
    )


def _shares(experiment: Experiment, method: str, dose: float, *, cells: np.ndarray) -> dict[int, float]:
    """Return the weights of a dose's cells and of natural training's at the same dropout rates, all pairs equal."""
    of_dose = (experiment.methods == method) & (experiment.doses == dose) & (cells >= 0)
    of_reference = (experiment.methods == REFERENCE) & (cells >= 0)
    studies = np.asarray(experiment.table["study"].to_pylist(), dtype=object)
    blocks = labels(studies, experiment.dropout)
    shared = sorted({*blocks[of_dose]} & {*blocks[of_reference]})
    shares: dict[int, float] = {}
    for block in shared:
        shares[int(cells[of_dose & (blocks == block)][0])] = 1 / len(shared)
        shares[int(cells[of_reference & (blocks == block)][0])] = -1 / len(shared)
    return shares


def _draws(cells: np.ndarray, *, generator: np.random.Generator, draws: int) -> np.ndarray:
    """Return the trials' weights in each draw, shape (draws, n): each cell's sum to its size; a cell of one stays."""
    weights = np.zeros((draws, len(cells)))
    for cell in np.unique(cells[cells >= 0]):
        members = np.flatnonzero(cells == cell)
        size = len(members)
        if size == 1:
            weights[:, members] = 1.0
            continue
        counts = generator.multinomial(size - 1, np.full(size, 1 / size), size=draws)
        weights[:, members] = counts * size / (size - 1)
    return weights


def _slopes(weights: np.ndarray, x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the slopes of y on x with an intercept for each group, for each row of weights, shape (draws,)."""
    inside = np.eye(groups.max() + 1)[groups]
    sizes = np.maximum(weights @ inside, 1e-12)
    mean_x, mean_y = (weights * x) @ inside / sizes, (weights * y) @ inside / sizes
    covariance = weights @ (x * y) - (sizes * mean_x * mean_y).sum(axis=1)
    variance = weights @ x**2 - (sizes * mean_x**2).sum(axis=1)
    return np.where(variance > 1e-9, covariance / np.maximum(variance, 1e-9), np.nan)


def _contrasts(weights: np.ndarray, values: np.ndarray, cells: np.ndarray, shares: dict[int, float]) -> np.ndarray:
    """Return the weighted sum of cells' means for each row of weights, shape (draws,)."""
    total = np.zeros(len(weights))
    for cell, share in shares.items():
        members = cells == cell
        total += share * (weights[:, members] @ values[members]) / weights[:, members].sum(axis=1)
    return total


def _estimate(values: np.ndarray) -> Estimate:
    """Return the first value with the central 95 % of the others."""
    low, high = np.nanquantile(values[1:], [0.025, 0.975])
    return Estimate(value=float(values[0]), low=float(low), high=float(high))
