"""The probability that a trial is truly on the front, from a hierarchical model of all trials of a study.

Counting how often a trial is on the front of resampled examples answers another question: resampling adds noise to
estimates that are noisy already, so that on a crowded front it calls true members dominated. The model here estimates
the true scatter of the trials from the study, and shrinks what noise explains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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
_LEAST_WEIGHT = 0.05
_MASSES = np.geomspace(0.1, 100, 20)


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """One coordinate of the trials in cells of equal width.

    Args:
        low: Lower edge of the first cell.
        width: Width of a cell.
        near: Cells within reach of each trial's measured value, shape (t, w).
        bases: Candidates for the expected distribution over all cells, shape (cells, b).
        scale: Logarithm of the product of mass + earlier trials, over all trials, for each of `_MASSES`.
    """

    low: float
    width: float
    near: np.ndarray
    bases: np.ndarray
    scale: np.ndarray

    def away(self, measured: np.ndarray) -> np.ndarray:
        """Return the distances of the near cells' centres from measured values (t,), shape (t, w)."""
        return np.asarray(self.low + (self.near + 0.5) * self.width - measured[:, None])


def membership(drawn: np.ndarray, /) -> np.ndarray:
    """Return how often each trial is on the front of drawn accuracies, shape (draws, t, 2) to (t,)."""
    return np.asarray(np.mean([non_dominated(points, maximise=True) for points in drawn], axis=0))


def true_accuracies(
    clean: ArrayLike,
    robust: ArrayLike,
    /,
    *,
    generator: np.random.Generator,
    draws: int = 1000,
    burn_in: int = 200,
) -> np.ndarray:
    """Draw the trials' true (clean, robust) accuracies from their joint posterior.

    "True" means on the distribution the examples came from. Measured angles arcsin(sqrt(accuracy)) are true angles plus
    noise that trials share plus noise of their own (`shared_noise`). Shared noise moves all trials together and cannot
    be distinguished from their true level, so it is drawn, not estimated; the rest is reduced by a prior that is
    estimated from the study itself. A trial that another beats in both accuracies by 6 deviations of their difference's
    noise, such as a collapsed one, is modelled on its own: its angles are as measured, with their noise. For the
    others:

    The study's own trade-off is subtracted: clean angle as a polynomial in the robust one, of degree 0 to 4, each with
    the share of draws that its BIC weight gives; refitted to draws of true angles, as noise in the robust one flattens
    it. This leaves for each trial its distance beside the trade-off and its place along it. Each of the two has an
    unknown distribution over trials, with a Dirichlet process as its prior. Its expected shape is uniform along the
    trade-off, between unknown ends (within 3.5 noise deviations of the outermost trials: without ends, the outermost
    would never be shrunk); beside it, normal or exponential below an edge, of unknown level (within 3 standard errors)
    and scale (log-uniform from a tenth of the noise). The process's mass is log-uniform from 0.1 (trials alike) to 100
    (the expected shape). So no form is imposed on how trials concentrate at an end or an edge, which determines how far
    luck moves the best of them. Drawn by Gibbs sampling over cells narrower than the noise.

    Args:
        clean: Classified correctly, boolean, shape (t, n): t trials on the same n examples.
        robust: Still correct under the attack, boolean, shape (t, n).
        generator: Source of the draws.
        draws: Posterior draws kept.
        burn_in: Draws dropped before them.

    Returns:
        Shape (draws, t, 2).

    Raises:
        ValueError: Shapes differ, or there is no example.

    Source: Escobar, JASA 89 (1994), normal means under a Dirichlet process prior; Escobar and West, JASA 90 (1995),
    for learning its mass; Raftery, Sociological Methodology 25 (1995), for BIC weights.
    """
    outcomes = np.stack([np.asarray(clean, dtype=bool), np.asarray(robust, dtype=bool)], axis=1)
    if outcomes.ndim != 3 or outcomes.shape[2] == 0:
        raise ValueError(f"`clean` and `robust` must have shape (t, n) with n >= 1, got {np.shape(clean)}")
    near = _contenders(outcomes)
    drawn = np.empty((draws, len(outcomes), 2))
    for chosen, draw in ((near, _together), (~near, _apart)):
        if chosen.any():
            drawn[:, chosen] = draw(measure(outcomes[chosen]), generator, draws=draws, burn_in=burn_in)
    # The squared sine reflects angles below 0 and above pi / 2 at the border.
    return np.asarray(np.sin(drawn) ** 2)


def _contenders(outcomes: np.ndarray) -> np.ndarray:
    """Mark the trials that no other trial beats in both accuracies by `_CLEAR` deviations of noise, shape (t,)."""
    angles = np.arcsin(np.sqrt(outcomes.mean(axis=2)))
    margin = _CLEAR / math.sqrt(2 * outcomes.shape[2])
    return np.asarray(~(angles[:, None] + margin < angles[None]).all(axis=2).any(axis=1))


def _apart(measured: Measured, generator: np.random.Generator, *, draws: int, **_: int) -> np.ndarray:
    """Draw true angles of trials modelled independently, shape (draws, t, 2)."""
    root = np.linalg.cholesky(measured.own + measured.shared @ measured.shared.transpose(0, 2, 1))
    return np.asarray(measured.angles + (root @ generator.standard_normal((draws, len(root), 2, 1)))[..., 0])


def _together(measured: Measured, generator: np.random.Generator, *, draws: int, burn_in: int) -> np.ndarray:
    """Draw true angles of trials modelled jointly, moved together by shared noise, shape (draws, t, 2)."""
    if len(measured.angles) < 2:
        return _apart(measured, generator, draws=draws)
    angles = _angles(measured, generator, draws=draws, burn_in=burn_in)
    factors = generator.standard_normal((draws, measured.shared.shape[2]))
    return np.asarray(angles - np.einsum("tik,dk->dti", measured.shared, factors))


def _angles(measured: Measured, generator: np.random.Generator, *, draws: int, burn_in: int) -> np.ndarray:
    """Draw true angles, up to shared noise, shape (draws, t, 2), some of them under each plausible trade-off."""
    kept = []
    for curve, share in _trade_offs(measured, draws=draws):
        for part in (share // 2, share - share // 2):
            fitted = curve
            if curve.degree():
                # Noise in the robust angle flattens a curve fitted to measured angles, but not one fitted to drawn
                # ones. The fit depends on the draws, so each half of them has its own.
                drawn = _sweep(measured, curve, generator, sweeps=burn_in)[burn_in // 2 :].reshape(-1, 2)
                fitted = Legendre.fit(drawn[:, 1], drawn[:, 0], curve.degree(), domain=curve.domain)
            kept.append(_sweep(measured, fitted, generator, sweeps=burn_in + part)[burn_in:])
    return np.concatenate(kept)


def _sweep(measured: Measured, curve: Legendre, generator: np.random.Generator, *, sweeps: int) -> np.ndarray:
    """Draw true angles beside and along one curve, shape (sweeps, t, 2), starting from the measured ones."""
    turn = np.tile(np.eye(2), (len(measured.angles), 1, 1))
    turn[:, 0, 1] = -curve.deriv()(measured.angles[:, 1])
    noise = turn @ measured.own @ turn.transpose(0, 2, 1)
    values = measured.angles - np.stack([curve(measured.angles[:, 1]), np.zeros(len(noise))], axis=1)
    grids = [_grid(values[:, i], np.sqrt(noise[:, i, i]), cell=CELLS[i], beside=i == 0) for i in range(2)]
    likelihood = _likelihood([grid.away(values[:, i]) for i, grid in enumerate(grids)], noise)
    trials = len(likelihood)
    every = np.arange(trials)
    cells = [grid.near[:, grid.near.shape[1] // 2] for grid in grids]
    weights, mass = [grid.bases[:, 0] for grid in grids], [1.0, 1.0]
    kept = np.empty((sweeps, trials, 2))
    for step in range(sweeps):
        for i, grid in enumerate(grids):
            weights[i], mass[i] = _draw_weights(grid, cells[i], mass[i], generator)
        beside, along = (weights[i][grid.near] for i, grid in enumerate(grids))
        first = _picked(beside * (likelihood @ along[:, :, None])[..., 0], generator)
        second = _picked(likelihood[every, first] * along, generator)
        cells = [grid.near[every, place] for grid, place in zip(grids, (first, second), strict=True)]
        inside = generator.random((2, trials))
        for i, grid in enumerate(grids):
            kept[step, :, i] = grid.low + (cells[i] + inside[i]) * grid.width
    kept[..., 0] += curve(kept[..., 1])
    return kept


def _picked(weights: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Draw a column for each row, with probabilities as its weights (t, v), shape (t,)."""
    reached = np.cumsum(weights, axis=1)
    picked = (reached < generator.random((len(weights), 1)) * reached[:, -1:]).sum(axis=1)
    return np.asarray(np.minimum(picked, weights.shape[1] - 1))


def _trade_offs(measured: Measured, *, draws: int) -> list[tuple[Legendre, int]]:
    """Return the clean angle as polynomials in the robust one, with the draws that BIC weights give each degree.

    Robust angles that differ by no more than their noise show no slope: only a constant is returned then.
    """
    angles, trials = measured.angles, len(measured.angles)
    window = [angles[:, 1].min() - 1e-6, angles[:, 1].max() + 1e-6]
    flat = angles[:, 1].var() <= np.median(measured.own[:, 1, 1])
    degrees = 0 if flat else min(_DEGREE, (trials - 1) // 4)
    fits = [Legendre.fit(angles[:, 1], angles[:, 0], degree, domain=window) for degree in range(degrees + 1)]
    errors = np.array([np.mean((angles[:, 0] - fit(angles[:, 1])) ** 2) for fit in fits]) + 1e-9
    scores = trials * np.log(errors) + np.arange(len(fits)) * math.log(trials)
    weights = np.exp(-0.5 * (scores - scores.min()))
    weights[weights < _LEAST_WEIGHT] = 0.0
    shares = np.diff(np.rint(draws * np.cumsum(weights) / weights.sum()).astype(int), prepend=0)
    return [(fit, share) for fit, share in zip(fits, shares.tolist(), strict=True) if share]


def _grid(values: np.ndarray, noise: np.ndarray, *, cell: float, beside: bool) -> _Grid:
    """Cut the range of values (t,), noise sds (t,), into cells, and give the expected shapes over them."""
    usual = float(np.median(noise))
    width = cell * usual
    half = math.ceil(_REACH * float(noise.max()) / width)
    low = float(values.min()) - (half + 0.5) * width
    cells = np.floor((values - low) / width).astype(np.intp)
    size = int(cells.max()) + half + 1
    centres = low + (np.arange(size) + 0.5) * width
    if beside:
        spread = float(values.std())
        levels = np.linspace(-3, 3, 9) * spread / math.sqrt(len(values))
        scales = np.geomspace(0.1 * usual, max(2 * spread, 3 * usual), 15)
        apart = (centres - levels[:, None, None]) / scales[:, None]
        normal_shape = np.exp(-0.5 * apart**2)
        below_edge = np.where(apart <= 1, np.exp(np.minimum(apart, 1) - 1), 0.0)
        bases = np.concatenate([normal_shape, below_edge]).reshape(-1, size)
    else:
        ends = np.linspace(-_REACH, _REACH, 15) * usual
        first, last = values.min() + ends[:, None, None], values.max() + ends[:, None]
        inside = (centres >= first) & (centres <= last)
        bases = inside.reshape(-1, size).astype(np.float64)
        bases = bases[bases.any(axis=1)]
    # Far cells keep a small weight, so that every trial stays within reach of a narrow shape.
    bases += 1e-9
    bases /= bases.sum(axis=1, keepdims=True)
    near = cells[:, None] + np.arange(-half, half + 1)
    scale = _log_products(_MASSES + np.arange(len(cells))[:, None])
    return _Grid(low=low, width=width, near=near, bases=np.ascontiguousarray(bases.T), scale=scale)


def _likelihood(away: list[np.ndarray], noise: np.ndarray) -> np.ndarray:
    """Return the density of noise at each pair of distances, shapes (t, v) and (t, w) to (t, v, w), up to a factor."""
    precision = np.linalg.inv(noise)[:, :, :, None, None]
    first, second = away[0][:, :, None], away[1][:, None, :]
    quadratic = precision[:, 0, 0] * first**2 + 2 * precision[:, 0, 1] * first * second + precision[:, 1, 1] * second**2
    return np.asarray(np.exp(-0.5 * quadratic))


def _draw_weights(
    grid: _Grid, cells: np.ndarray, mass: float, generator: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Draw the expected shape and the process's mass given the trials' cells (t,), then the weights of all cells.

    Trials that come one after the other fall into cell c with probability (mass * base_c + earlier trials in c) /
    (mass + earlier trials), which gives the likelihood of base and mass.
    """
    filled = np.sort(cells)
    earlier = (np.arange(len(cells)) - np.searchsorted(filled, filled)).astype(np.float64)[:, None]
    # The largest of log probabilities plus Gumbel noise is a draw from them.
    factors = grid.bases.take(filled, axis=0)
    factors *= mass
    factors += earlier
    fits = _log_products(factors)
    base = grid.bases[:, np.argmax(fits + generator.gumbel(size=len(fits)))]
    fits = _log_products(base[filled, None] * _MASSES + earlier) - grid.scale
    mass = float(_MASSES[np.argmax(fits + generator.gumbel(size=len(fits)))])
    count = np.bincount(cells, minlength=len(base))
    return np.maximum(generator.standard_gamma(count + mass * base), 1e-300), mass


def _log_products(factors: np.ndarray) -> np.ndarray:
    """Return the log of each column's product, shape (t, c) to (c,); products of sixteen factors do not overflow."""
    return np.asarray(np.log(np.multiply.reduceat(factors, np.arange(0, len(factors), 16), axis=0)).sum(axis=0))
