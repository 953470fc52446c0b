"""The probability that a trial is truly on the front, from a hierarchical model of all trials of a study.

Counting how often a trial is on the front of resampled examples answers another question: resampling adds noise to
estimates that are noisy already, so that on a crowded front it calls true members dominated. The model here estimates
the true scatter of the trials from the study, and shrinks what noise explains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from analysis.fronts.front import non_dominated
from analysis.statistics.shared_noise import Measured, measure
from analysis.statistics.trade_offs import Curve, TradeOff, below_another_line, trade_offs

CELLS = (0.25, 0.5)
"""Width of the cells of the two priors, beside and along the trade-off, in standard deviations of a trial's noise."""

_CLEAR = 6.0
_REACH = 3.5
_CURVES = 6
_LEVELS = 7
_SCALES = 20
_GROWTH = (-0.3, 1.0)
_MISTAKES = 15
# The last two are not known from elsewhere. They were chosen on simulated studies, where a few dozen trials with
# scatter near the noise do not show its shape, so that errors with round depths and with sharp edges are alike, and
# where with fewer mistakes the expected number of members was wrong by a sixth to a half, either way.


@dataclass(frozen=True, kw_only=True)
class TrueAccuracies:
    """Posterior draws of the trials' true accuracies.

    Args:
        accuracies: True (clean, robust) accuracies, shape (draws, t, 2).
        scatter: Scale of the trials' true distances from the trade-off, in standard deviations of a trial's noise,
            shape (draws,). Infinite where no trade-off is modelled, as for a single trial.
        mistakes: The number of examples that the median trial gets wrong in its better accuracy, the clean one, among
            the trials of the trade-off; infinite where none is modelled.
    """

    accuracies: np.ndarray
    scatter: np.ndarray
    mistakes: float

    @property
    def decided(self) -> bool:
        """Whether the examples can show which trials are on the front.

        Where the true scatter is probably smaller than the noise, a line of members and a round cluster that has few
        of them give the same outcomes, so that probabilities of single trials mean nothing; the hypervolume's hold.
        Nor do they where trials differ by a few mistakes because they make hardly any.
        """
        return bool(self.mistakes >= _MISTAKES and (self.scatter < 1).mean() <= 0.5)


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """One coordinate of the trials, in cells of equal width.

    For each trial, the cells `near` (t, w) are within reach of its measured value, their centres `away` (t, w) from it.
    Candidates for the distribution of true values over all cells are `shapes` (b, cells), with the logarithms of their
    `prior` weights (b,) and, beside the trade-off, their `scales` (b,) in standard deviations of noise.
    """

    width: float
    near: np.ndarray
    away: np.ndarray
    shapes: np.ndarray
    prior: np.ndarray
    scales: np.ndarray


@dataclass(frozen=True, kw_only=True)
class _Fit:
    """True angles beside and along one curve, given measured angles less the curve, `values` (t, 2).

    `likelihood` (t, v, w) is that of the cells near each trial, `evidence` (b, c) the logarithm of that of all trials
    times the prior, for each pair of shapes beside and along.
    """

    curve: Curve
    values: np.ndarray
    beside: _Grid
    along: _Grid
    likelihood: np.ndarray
    evidence: np.ndarray


def membership(drawn: np.ndarray, /) -> np.ndarray:
    """Return how often each trial is on the front of drawn accuracies, shape (draws, t, 2) to (t,)."""
    return np.asarray(np.mean([non_dominated(points, maximise=True) for points in drawn], axis=0))


def true_accuracies(
    clean: ArrayLike, robust: ArrayLike, /, *, generator: np.random.Generator, draws: int = 1000
) -> TrueAccuracies:
    """Draw the trials' true (clean, robust) accuracies from their joint posterior.

    "True" means on the distribution the examples came from. Measured angles arcsin(sqrt(accuracy)) are true angles plus
    noise that trials share plus noise of their own (`shared_noise`). Shared noise moves all trials together and cannot
    be distinguished from their true level, so it is drawn, not estimated; the rest is reduced by a prior that is
    estimated from the study itself. A trial that another beats in both accuracies by 6 deviations of their difference's
    noise, such as a collapsed one, is modelled on its own: its angles are as measured, with their noise. Where the
    study shows two parallel trade-offs (`trade_offs.below_another_line`), trials of the lower one are also drawn as
    measured, and move with the others under shared noise: with a single scale of distances beside a single trade-off
    they would make the upper ones look more scattered than they are. For the others:

    The study's own trade-off is subtracted: clean angle as a polynomial in the robust one, of degree 0 to 4, or as a
    constant in each of 2 to 5 groups of like robust angle, within which no trade-off is assumed. Each of them has the
    share of draws that its BIC weight gives; a constant counts a fifth, and groups at most as much as robust angles
    are likelier to come from them than from a uniform distribution. It is refitted to draws of true angles, as noise in
    the robust one flattens it, and drawn several times with the error of such a fit. This leaves for each trial its
    distance beside the trade-off and its place along it. Distances are exponential below an edge, or normal in the
    logarithm of the angle that an accuracy of one leaves, which is normal far from one and skewed near it; of unknown
    level (within 3 standard errors) and scale (from a tenth of the noise to twice the measured spread, or three times
    the noise). The prior's density falls with the scale if normal, as scale ** -0.3, and grows with an exponential one.
    Places are uniform between unknown ends, each up to 3.5 noise deviations beyond or within the outermost trial
    (without ends, the outermost would never be shrunk), then moved to where the trials are by one round of expectation
    maximisation: more would follow the noise. All pairs of candidates are compared over cells narrower than the noise;
    draws are independent.

    Args:
        clean: Classified correctly, boolean, shape (t, n): t trials on the same n examples.
        robust: Still correct under the attack, boolean, shape (t, n).
        generator: Source of the draws.
        draws: Posterior draws.

    Raises:
        ValueError: Shapes differ, or there is no example.

    Source: Morris, JASA 78 (1983), for priors estimated from the trials; Aigner, Lovell and Schmidt, Journal of
    Econometrics 6 (1977), for exponential depths below a front; Raftery, Sociological Methodology 25 (1995), for BIC
    weights; Vardi, Shepp and Kaufman, JASA 80 (1985), for the round.
    """
    outcomes = np.stack([np.asarray(clean, dtype=bool), np.asarray(robust, dtype=bool)], axis=1)
    if outcomes.ndim != 3 or outcomes.shape[2] == 0:
        raise ValueError(f"`clean` and `robust` must have shape (t, n) with n >= 1, got {np.shape(clean)}")
    near = _contenders(outcomes)
    line = near.copy()
    drawn, scatter = np.empty((draws, len(outcomes), 2)), np.full(draws, np.inf)
    if near.sum() < 2:
        near[:] = line[:] = False
    else:
        measured = measure(outcomes[near])
        lower = below_another_line(measured)
        drawn[:, near], scatter = _together(measured, lower, generator, draws=draws)
        line[near] = ~lower
    if not near.all():
        drawn[:, ~near] = _apart(measure(outcomes[~near]), generator, draws=draws)
    # Nothing is in doubt where one trial beats all others by far, however few mistakes it makes.
    mistakes = float(np.median((~outcomes[line]).sum(axis=2), axis=0).min()) if line.any() else math.inf
    # The squared sine reflects angles below 0 and above pi / 2 at the border.
    return TrueAccuracies(accuracies=np.sin(drawn) ** 2, scatter=scatter, mistakes=mistakes)


def _contenders(outcomes: np.ndarray) -> np.ndarray:
    """Mark the trials that no other trial beats in both accuracies by `_CLEAR` deviations of noise, shape (t,)."""
    angles = np.arcsin(np.sqrt(outcomes.mean(axis=2)))
    margin = _CLEAR / math.sqrt(2 * outcomes.shape[2])
    return np.asarray(~(angles[:, None] + margin < angles[None]).all(axis=2).any(axis=1))


def _apart(measured: Measured, generator: np.random.Generator, *, draws: int) -> np.ndarray:
    """Draw true angles of trials modelled independently, shape (draws, t, 2)."""
    noise = measured.own + measured.shared @ measured.shared.transpose(0, 2, 1)
    return _as_measured(measured.angles, noise, generator, draws=draws)


def _as_measured(angles: np.ndarray, noise: np.ndarray, generator: np.random.Generator, *, draws: int) -> np.ndarray:
    """Draw true angles about measured ones (t, 2) with the covariances of their noise (t, 2, 2)."""
    root = np.linalg.cholesky(noise)
    return np.asarray(angles + (root @ generator.standard_normal((draws, len(root), 2, 1)))[..., 0])


def _together(
    measured: Measured, lower: np.ndarray, generator: np.random.Generator, *, draws: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw true angles of trials that shared noise moves together, and scales of the scatter of those not `lower` (t,).

    Shapes (draws, t, 2) and (draws,).
    """
    drawn = np.empty((draws, len(lower), 2))
    drawn[:, ~lower], scatter = _about_a_trade_off(measured.part(~lower), generator, draws=draws)
    if lower.any():
        drawn[:, lower] = _as_measured(measured.angles[lower], measured.own[lower], generator, draws=draws)
    factors = generator.standard_normal((draws, measured.shared.shape[2]))
    return drawn - np.einsum("tik,dk->dti", measured.shared, factors), scatter


def _about_a_trade_off(
    measured: Measured, generator: np.random.Generator, *, draws: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw true angles, up to shared noise, from all plausible trade-offs, and scales of the scatter beside them."""
    kept, scatter = [], []
    for trade_off, share in trade_offs(measured, draws=draws):
        angles = measured.angles
        if trade_off.free:
            # Noise in the robust angle flattens a curve fitted to measured angles, but not one fitted to drawn ones.
            drawn, _ = _drawn([_fit(measured, *trade_off.fitted(angles))], generator, draws=100)
            angles = np.concatenate([angles, drawn.reshape(-1, 2)])
        fits = _fits_about(measured, trade_off, *trade_off.fitted(angles), generator)
        drawn, scales = _drawn(fits, generator, draws=share)
        kept.append(drawn)
        scatter.append(scales)
    return np.concatenate(kept), np.concatenate(scatter)


def _fits_about(
    measured: Measured, trade_off: TradeOff, curve: Curve, slope: Curve, generator: np.random.Generator
) -> list[_Fit]:
    """Fit curves that differ from the given one as fits to other trials would.

    A fit is linear in clean angles: one to noise as large as the scatter is its error. Curves drawn in this way are
    weighted by their evidence over their density, so that each counts as under a flat prior.
    """
    if not trade_off.free:
        return [_fit(measured, curve, slope)]
    clean, robust = measured.angles.T
    left = max(len(clean) - trade_off.free - 1, 1)
    scatter = float((clean - curve(robust)).std()) * math.sqrt(len(clean) / left) + 1e-9
    fits = []
    for _ in range(_CURVES):
        noise = scatter * generator.standard_normal(len(clean))
        error, tilt = trade_off.fitted(np.stack([noise, robust], axis=1))
        apart = error(robust) - error(robust).mean()
        density = -0.5 * float(apart @ apart) / scatter**2
        fits.append(_fit(measured, _sum(curve, error), _sum(slope, tilt), prior=-density))
    return fits


def _sum(first: Curve, second: Curve) -> Curve:
    return lambda where: first(where) + second(where)


def _fit(measured: Measured, curve: Curve, slope: Curve, *, prior: float = 0.0) -> _Fit:
    """Compare all pairs of shapes beside and along a curve; `prior` is added to the logarithm of their evidence."""
    clean, robust = measured.angles.T
    turn = np.tile(np.eye(2), (len(clean), 1, 1))
    turn[:, 0, 1] = -slope(robust)
    noise = turn @ measured.own @ turn.transpose(0, 2, 1)
    values = np.stack([clean - curve(robust), robust], axis=1)
    deviations = np.sqrt(noise[:, [0, 1], [0, 1]])
    beside = _beside(values[:, 0], deviations[:, 0], room=float(np.median(math.pi / 2 - clean)))
    along = _along(robust, deviations[:, 1])
    likelihood = _likelihood([beside.away, along.away], noise)
    evidence = prior + beside.prior[:, None] + along.prior
    for trial, density in enumerate(likelihood):
        evidence += np.log(beside.shapes[:, beside.near[trial]] @ density @ along.shapes[:, along.near[trial]].T)
    return _Fit(curve=curve, values=values, beside=beside, along=along, likelihood=likelihood, evidence=evidence)


def _drawn(fits: list[_Fit], generator: np.random.Generator, *, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw true angles, up to shared noise, from fits as their evidence weighs them, and scales of the scatter.

    Shapes (draws, t, 2) and (draws,).
    """
    evidence = np.stack([fit.evidence for fit in fits])
    weights = np.exp(evidence - evidence.max()).ravel()
    trials = len(fits[0].values)
    every = np.arange(trials)
    kept, scatter = np.empty((draws, trials, 2)), np.empty(draws)
    for draw, number in enumerate(generator.choice(len(weights), size=draws, p=weights / weights.sum())):
        which, first, second = np.unravel_index(number, evidence.shape)
        fit = fits[which]
        scatter[draw] = fit.beside.scales[first]
        across, place = fit.beside.shapes[first][fit.beside.near], fit.along.shapes[second][fit.along.near]
        chosen = _picked(across * (fit.likelihood @ place[:, :, None])[..., 0], generator)
        columns = chosen, _picked(fit.likelihood[every, chosen] * place, generator)
        for i, (grid, column) in enumerate(zip((fit.beside, fit.along), columns, strict=True)):
            inside = (generator.random(trials) - 0.5) * grid.width
            kept[draw, :, i] = fit.values[:, i] + grid.away[every, column] + inside
        kept[draw, :, 0] += fit.curve(kept[draw, :, 1])
    return kept, scatter


def _picked(weights: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Draw a column for each row, with probabilities as its weights (t, v), shape (t,)."""
    reached = np.cumsum(weights, axis=1)
    picked = (reached < generator.random((len(weights), 1)) * reached[:, -1:]).sum(axis=1)
    return np.asarray(np.minimum(picked, weights.shape[1] - 1))


def _cells(values: np.ndarray, noise: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Cut the range of values (t,), noise sds (t,), into cells: their centres, and those near each value (t, w)."""
    half = math.ceil(_REACH * float(noise.max()) / width)
    low = float(values.min()) - (half + 0.5) * width
    cells = np.floor((values - low) / width).astype(np.intp)
    centres = low + (np.arange(int(cells.max()) + half + 1) + 0.5) * width
    return centres, cells[:, None] + np.arange(-half, half + 1)


def _shares(shapes: np.ndarray) -> np.ndarray:
    """Scale densities (b, cells) to sum to one; far cells keep a little, so that a trial reaches a narrow shape."""
    return np.asarray((shapes + 1e-9) / (shapes + 1e-9).sum(axis=1, keepdims=True))


def _beside(values: np.ndarray, noise: np.ndarray, *, room: float) -> _Grid:
    """Return the candidates for the distribution of distances (t,) beside the trade-off, noise sds (t,).

    `room` is the usual distance from the trade-off to an accuracy of one.
    """
    usual, spread = float(np.median(noise)), float(values.std())
    width = CELLS[0] * usual
    centres, near = _cells(values, noise, width)
    levels = np.linspace(-3, 3, _LEVELS)[:, None] * spread / math.sqrt(len(values))
    scales = np.linspace(0.1 * usual, max(2 * spread, 3 * usual), _SCALES)
    above = (centres - levels)[:, None]
    apart = above / scales[:, None]
    below_edge = np.where(apart <= 1, np.exp(np.minimum(apart, 1) - 1), 0.0)
    room = max(room, 5 * usual, 3 * spread)
    left = np.maximum(1 - above / room, 1e-3)
    rounded = np.exp(-0.5 * (np.log(left) * room / scales[:, None]) ** 2) / left
    shapes = _shares(np.concatenate([rounded, below_edge]).reshape(-1, len(centres)))
    size = np.tile(np.log(scales / usual), len(levels))
    prior = np.concatenate([_GROWTH[0] * size, _GROWTH[1] * size])
    away = centres[near] - values[:, None]
    sizes = np.tile(scales / usual, 2 * _LEVELS)
    return _Grid(width=width, near=near, away=away, shapes=shapes, prior=prior, scales=sizes)


def _along(values: np.ndarray, noise: np.ndarray) -> _Grid:
    """Return the candidates for the distribution of places (t,) along the trade-off, noise sds (t,)."""
    usual = float(np.median(noise))
    width = CELLS[1] * usual
    centres, near = _cells(values, noise, width)
    away = centres[near] - values[:, None]
    beyond = np.linspace(-_REACH, _REACH, 7)[:, None] * usual
    inside = (centres >= values.min() - beyond)[:, None] & (centres <= values.max() + beyond)
    inside = inside.reshape(-1, len(centres))
    shapes = _shares(inside[inside.any(axis=1)].astype(np.float64))
    density = np.zeros((len(values), len(centres)))
    np.put_along_axis(density, near, np.exp(-0.5 * (away / noise[:, None]) ** 2), axis=1)
    shapes *= (1 / (shapes @ density.T)) @ density / len(values)
    return _Grid(width=width, near=near, away=away, shapes=shapes, prior=np.zeros(len(shapes)), scales=np.ones(0))


def _likelihood(away: list[np.ndarray], noise: np.ndarray) -> np.ndarray:
    """Return the density of noise at each pair of distances, shapes (t, v) and (t, w) to (t, v, w), up to a factor."""
    precision = np.linalg.inv(noise)[:, :, :, None, None]
    first, second = away[0][:, :, None], away[1][:, None, :]
    quadratic = precision[:, 0, 0] * first**2 + 2 * precision[:, 0, 1] * first * second + precision[:, 1, 1] * second**2
    return np.asarray(np.exp(-0.5 * quadratic))
