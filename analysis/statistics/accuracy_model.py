"""The probability that a trial is truly on the front, from a hierarchical model of all trials of a study.

Counting how often a trial is on the front of resampled examples answers another question: resampling adds noise to
estimates that are noisy already, so that on a crowded front it calls true members dominated. The model here estimates
the true scatter of the trials from the study, and shrinks what noise explains.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.polynomial import Legendre
from numpy.typing import ArrayLike

from analysis.fronts.front import non_dominated
from analysis.statistics.shared_noise import Measured, measure

CELLS = (0.25, 0.5)
"""Width of the cells of the two priors, beside and along the trade-off, in standard deviations of a trial's noise."""

_CLEAR = 6.0
_REACH = 3.5
_DEGREE = 4
_GROUPS = 5

_Curve: TypeAlias = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class _TradeOff:
    """Clean angle as a function of the robust one: a polynomial or, between ascending cuts, constants.

    `free` counts its coefficients beside the level: the polynomial's degree, or the number of cuts.
    """

    free: int
    cuts: np.ndarray

    def fitted(self, angles: np.ndarray) -> tuple[_Curve, _Curve]:
        """Return the function fitted to (clean, robust) angles (m, 2) by least squares, and its derivative."""
        clean, robust = angles.T
        if not self.cuts.size:
            curve = Legendre.fit(robust, clean, self.free, domain=[robust.min() - 1e-6, robust.max() + 1e-6])
            return curve, curve.deriv()
        group = np.searchsorted(self.cuts, robust)
        levels = np.bincount(group, weights=clean) / np.bincount(group)
        return lambda where: np.asarray(levels[np.searchsorted(self.cuts, where)]), np.zeros_like


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """One coordinate of the trials, in cells of equal width.

    For each trial, the cells `near` (t, w) are within reach of its measured value, their centres `away` (t, w) from it.
    Candidates for the distribution of true values over all cells are `shapes` (b, cells), with the logarithms of their
    `prior` weights (b,).
    """

    width: float
    near: np.ndarray
    away: np.ndarray
    shapes: np.ndarray
    prior: np.ndarray


def membership(drawn: np.ndarray, /) -> np.ndarray:
    """Return how often each trial is on the front of drawn accuracies, shape (draws, t, 2) to (t,)."""
    return np.asarray(np.mean([non_dominated(points, maximise=True) for points in drawn], axis=0))


def true_accuracies(
    clean: ArrayLike, robust: ArrayLike, /, *, generator: np.random.Generator, draws: int = 1000
) -> np.ndarray:
    """Draw the trials' true (clean, robust) accuracies from their joint posterior.

    "True" means on the distribution the examples came from. Measured angles arcsin(sqrt(accuracy)) are true angles plus
    noise that trials share plus noise of their own (`shared_noise`). Shared noise moves all trials together and cannot
    be distinguished from their true level, so it is drawn, not estimated; the rest is reduced by a prior that is
    estimated from the study itself. A trial that another beats in both accuracies by 6 deviations of their difference's
    noise, such as a collapsed one, is modelled on its own: its angles are as measured, with their noise. For the
    others:

    The study's own trade-off is subtracted: clean angle as a polynomial in the robust one, of degree 0 to 4, or as a
    constant in each of 2 to 5 groups of like robust angle, within which no trade-off is assumed. Each of them has the
    share of draws that its BIC weight gives, and is refitted to draws of true angles, as noise in the robust one
    flattens it. This leaves for each trial its distance beside the trade-off and its place along it. Distances are
    exponential below an edge or, half as likely, normal, of unknown level (within 3 standard errors) and scale (flat
    from a tenth of the noise to twice the measured spread, or three times the noise). A scale far below the noise puts
    all trials on the front; a prior flat in the scale, unlike one flat in its logarithm, does not favour it. Scales are
    weighted by the restricted likelihood, as fitting a curve takes away some of the scatter. Places are uniform between
    unknown ends, up to 3.5 noise deviations beyond or within the outermost trials (without ends, the outermost would
    never be shrunk), then moved to where the trials are by five rounds of expectation maximisation: fewer than would
    follow the noise. All pairs of candidates are compared over cells narrower than the noise; draws are independent.

    Args:
        clean: Classified correctly, boolean, shape (t, n): t trials on the same n examples.
        robust: Still correct under the attack, boolean, shape (t, n).
        generator: Source of the draws.
        draws: Posterior draws.

    Returns:
        Shape (draws, t, 2).

    Raises:
        ValueError: Shapes differ, or there is no example.

    Source: Morris, JASA 78 (1983), for priors estimated from the trials; Gelman, Bayesian Analysis 1 (2006), for the
    flat scale; Patterson and Thompson, Biometrika 58 (1971), for the restricted likelihood; Raftery, Sociological
    Methodology 25 (1995), for BIC weights; Vardi, Shepp and Kaufman, JASA 80 (1985), for a few rounds.
    """
    outcomes = np.stack([np.asarray(clean, dtype=bool), np.asarray(robust, dtype=bool)], axis=1)
    if outcomes.ndim != 3 or outcomes.shape[2] == 0:
        raise ValueError(f"`clean` and `robust` must have shape (t, n) with n >= 1, got {np.shape(clean)}")
    near = _contenders(outcomes)
    drawn = np.empty((draws, len(outcomes), 2))
    for chosen, draw in ((near, _together), (~near, _apart)):
        if chosen.any():
            drawn[:, chosen] = draw(measure(outcomes[chosen]), generator, draws=draws)
    # The squared sine reflects angles below 0 and above pi / 2 at the border.
    return np.asarray(np.sin(drawn) ** 2)


def _contenders(outcomes: np.ndarray) -> np.ndarray:
    """Mark the trials that no other trial beats in both accuracies by `_CLEAR` deviations of noise, shape (t,)."""
    angles = np.arcsin(np.sqrt(outcomes.mean(axis=2)))
    margin = _CLEAR / math.sqrt(2 * outcomes.shape[2])
    return np.asarray(~(angles[:, None] + margin < angles[None]).all(axis=2).any(axis=1))


def _apart(measured: Measured, generator: np.random.Generator, *, draws: int) -> np.ndarray:
    """Draw true angles of trials modelled independently, shape (draws, t, 2)."""
    root = np.linalg.cholesky(measured.own + measured.shared @ measured.shared.transpose(0, 2, 1))
    return np.asarray(measured.angles + (root @ generator.standard_normal((draws, len(root), 2, 1)))[..., 0])


def _together(measured: Measured, generator: np.random.Generator, *, draws: int) -> np.ndarray:
    """Draw true angles of trials modelled jointly, moved together by shared noise, shape (draws, t, 2)."""
    if len(measured.angles) < 2:
        return _apart(measured, generator, draws=draws)
    kept = []
    for trade_off, share in _trade_offs(measured, draws=draws):
        angles = measured.angles
        if trade_off.free:
            # Noise in the robust angle flattens a curve fitted to measured angles, but not one fitted to drawn ones.
            drawn = _drawn(measured, trade_off, angles, generator, draws=100)
            angles = np.concatenate([angles, drawn.reshape(-1, 2)])
        kept.append(_drawn(measured, trade_off, angles, generator, draws=share))
    factors = generator.standard_normal((draws, measured.shared.shape[2]))
    return np.asarray(np.concatenate(kept) - np.einsum("tik,dk->dti", measured.shared, factors))


def _drawn(
    measured: Measured, trade_off: _TradeOff, angles: np.ndarray, generator: np.random.Generator, *, draws: int
) -> np.ndarray:
    """Draw true angles, up to shared noise, beside and along a trade-off fitted to angles (m, 2): (draws, t, 2)."""
    curve, slope = trade_off.fitted(angles)
    trials, every = len(measured.angles), np.arange(len(measured.angles))
    turn = np.tile(np.eye(2), (trials, 1, 1))
    turn[:, 0, 1] = -slope(measured.angles[:, 1])
    noise = turn @ measured.own @ turn.transpose(0, 2, 1)
    values = measured.angles - np.stack([curve(measured.angles[:, 1]), np.zeros(trials)], axis=1)
    deviations = np.sqrt(noise[:, [0, 1], [0, 1]])
    beside = _grid(values[:, 0], deviations[:, 0], cell=CELLS[0], free=trade_off.free)
    along = _grid(values[:, 1], deviations[:, 1], cell=CELLS[1], free=None)
    likelihood = _likelihood([beside.away, along.away], noise)
    fits = beside.prior[:, None] + along.prior
    for trial, density in enumerate(likelihood):
        fits += np.log(beside.shapes[:, beside.near[trial]] @ density @ along.shapes[:, along.near[trial]].T)
    weights = np.exp(fits - fits.max()).ravel()
    kept = np.empty((draws, trials, 2))
    for draw, pair in enumerate(generator.choice(len(weights), size=draws, p=weights / weights.sum())):
        first, second = divmod(int(pair), len(along.shapes))
        across, place = beside.shapes[first][beside.near], along.shapes[second][along.near]
        chosen = _picked(across * (likelihood @ place[:, :, None])[..., 0], generator)
        second = _picked(likelihood[every, chosen] * place, generator)
        for i, (grid, column) in enumerate(((beside, chosen), (along, second))):
            kept[draw, :, i] = values[:, i] + grid.away[every, column] + (generator.random(trials) - 0.5) * grid.width
    kept[..., 0] += curve(kept[..., 1])
    return kept


def _picked(weights: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Draw a column for each row, with probabilities as its weights (t, v), shape (t,)."""
    reached = np.cumsum(weights, axis=1)
    picked = (reached < generator.random((len(weights), 1)) * reached[:, -1:]).sum(axis=1)
    return np.asarray(np.minimum(picked, weights.shape[1] - 1))


def _trade_offs(measured: Measured, *, draws: int) -> list[tuple[_TradeOff, int]]:
    """Return the plausible forms of the trade-off, with the draws that their BIC weights give each.

    Robust angles that differ by no more than their noise show no slope: only a constant is returned then.
    """
    angles, trials = measured.angles, len(measured.angles)
    flat = angles[:, 1].var() <= np.median(measured.own[:, 1, 1])
    degrees, most = (0, 1) if flat else (min(_DEGREE, (trials - 1) // 4), min(_GROUPS, trials // 3))
    forms = [_TradeOff(free=free, cuts=np.empty(0)) for free in range(degrees + 1)]
    for groups in range(2, most + 1):
        cuts = _cuts(angles[:, 1], groups)
        if np.bincount(np.searchsorted(cuts, angles[:, 1]), minlength=groups).min() > 1:
            forms.append(_TradeOff(free=groups - 1, cuts=cuts))
    errors = [np.mean((angles[:, 0] - form.fitted(angles)[0](angles[:, 1])) ** 2) for form in forms]
    scores = trials * np.log(np.array(errors) + 1e-9) + np.array([form.free for form in forms]) * math.log(trials)
    weights = np.exp(-0.5 * (scores - scores.min()))
    weights[weights < 0.05] = 0.0
    shares = np.diff(np.rint(draws * np.cumsum(weights) / weights.sum()).astype(int), prepend=0)
    return [(form, share) for form, share in zip(forms, shares.tolist(), strict=True) if share]


def _cuts(values: np.ndarray, groups: int) -> np.ndarray:
    """Return the cuts between groups of values around their nearest mean (k-means from quantiles), ascending."""
    means = np.quantile(values, (np.arange(groups) + 0.5) / groups)
    for _ in range(30):
        group = np.searchsorted((means[1:] + means[:-1]) / 2, values)
        count = np.bincount(group, minlength=groups)
        means = np.where(count, np.bincount(group, weights=values, minlength=groups) / np.maximum(count, 1), means)
    return np.asarray((means[1:] + means[:-1]) / 2)


def _grid(values: np.ndarray, noise: np.ndarray, *, cell: float, free: int | None) -> _Grid:
    """Cut the range of values (t,), noise sds (t,), into cells, and give the candidate distributions over them.

    `free` counts the coefficients of the trade-off beside which values lie; it is None for values along it.
    """
    usual = float(np.median(noise))
    width = cell * usual
    half = math.ceil(_REACH * float(noise.max()) / width)
    low = float(values.min()) - (half + 0.5) * width
    cells = np.floor((values - low) / width).astype(np.intp)
    centres = low + (np.arange(int(cells.max()) + half + 1) + 0.5) * width
    if free is None:
        beyond = np.linspace(-_REACH, _REACH, 15)[:, None] * usual
        shapes = ((centres >= values.min() - beyond) & (centres <= values.max() + beyond)).astype(np.float64)
        shapes = shapes[shapes.any(axis=1)]
        prior = np.zeros(len(shapes))
    else:
        spread = float(values.std())
        levels = np.linspace(-3, 3, 9) * spread / math.sqrt(len(values))
        scales = np.linspace(0.1 * usual, max(2 * spread, 3 * usual), 30)
        apart = (centres - levels[:, None, None]) / scales[:, None]
        below_edge = np.where(apart <= 1, np.exp(np.minimum(apart, 1) - 1), 0.0)
        shapes = np.concatenate([np.exp(-0.5 * apart**2), below_edge]).reshape(-1, len(centres))
        restricted = np.tile(0.5 * free * np.log(usual**2 + scales**2), len(levels))
        prior = np.concatenate([restricted, restricted + math.log(2)])
    # Far cells keep a small weight, so that every trial stays within reach of a narrow shape.
    shapes += 1e-9
    shapes /= shapes.sum(axis=1, keepdims=True)
    near = cells[:, None] + np.arange(-half, half + 1)
    away = centres[near] - values[:, None]
    if free is None:
        density = np.zeros((len(values), len(centres)))
        np.put_along_axis(density, near, np.exp(-0.5 * (away / noise[:, None]) ** 2), axis=1)
        for _ in range(5):
            shapes *= (1 / (shapes @ density.T)) @ density / len(values)
    return _Grid(width=width, near=near, away=away, shapes=shapes, prior=prior)


def _likelihood(away: list[np.ndarray], noise: np.ndarray) -> np.ndarray:
    """Return the density of noise at each pair of distances, shapes (t, v) and (t, w) to (t, v, w), up to a factor."""
    precision = np.linalg.inv(noise)[:, :, :, None, None]
    first, second = away[0][:, :, None], away[1][:, None, :]
    quadratic = precision[:, 0, 0] * first**2 + 2 * precision[:, 0, 1] * first * second + precision[:, 1, 1] * second**2
    return np.asarray(np.exp(-0.5 * quadratic))
