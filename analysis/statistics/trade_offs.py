"""The forms that the trade-off between clean and robust accuracy of a study may have, as far as its trials show."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.polynomial import Legendre
from numpy.polynomial.legendre import legvander

from analysis.statistics.shared_noise import Measured

_DEGREE = 4
_GROUPS = 5
_FLAT = 0.2
_ROUNDS = 60
_EVIDENCE, _GAP, _FEWEST = 3.0, 3.0, 3
_TRIALS, _QUADRATIC = 12, 20
# When trials lie on two levels. Chosen on simulated studies: with less evidence, half of those whose depths are
# exponential lose their tail, and with it look undecided.

Curve: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""A function of robust angles."""


@dataclass(frozen=True, kw_only=True)
class TradeOff:
    """Clean angle as a function of the robust one: a polynomial or, between ascending cuts, constants.

    `free` counts its coefficients beside the level: the polynomial's degree, or the number of cuts.
    """

    free: int
    cuts: np.ndarray

    def fitted(self, angles: np.ndarray) -> tuple[Curve, Curve]:
        """Return the function fitted to (clean, robust) angles (m, 2) by least squares, and its derivative."""
        clean, robust = angles.T
        if not self.cuts.size:
            curve = Legendre.fit(robust, clean, self.free, domain=[robust.min() - 1e-6, robust.max() + 1e-6])
            return curve, curve.deriv()
        group = np.searchsorted(self.cuts, robust)
        levels = np.bincount(group, weights=clean) / np.bincount(group)
        return lambda where: np.asarray(levels[np.searchsorted(self.cuts, where)]), np.zeros_like


def trade_offs(measured: Measured, *, draws: int) -> list[tuple[TradeOff, int]]:
    """Return the plausible forms of the trade-off, with the draws that their BIC weights give each.

    Robust angles that differ by no more than their noise show no slope: only a constant is returned then.
    """
    forms, scores, prior = _compared(measured)
    scores = scores - 2 * prior
    weights = np.exp(-0.5 * (scores - scores.min()))
    weights[weights < 0.05] = 0.0
    shares = np.diff(np.rint(draws * np.cumsum(weights) / weights.sum()).astype(int), prepend=0)
    return [(form, share) for form, share in zip(forms, shares.tolist(), strict=True) if share]


def _flat(measured: Measured) -> bool:
    return bool(measured.angles[:, 1].var() <= np.median(measured.own[:, 1, 1]))


def _compared(measured: Measured) -> tuple[list[TradeOff], np.ndarray, np.ndarray]:
    """Return the possible forms of the trade-off, their BIC up to a constant, and the logarithms of their priors."""
    angles, trials = measured.angles, len(measured.angles)
    degrees, most = (0, 1) if _flat(measured) else (min(_DEGREE, (trials - 1) // 4), min(_GROUPS, trials // 3))
    forms = [TradeOff(free=free, cuts=np.empty(0)) for free in range(degrees + 1)]
    prior = [math.log(_FLAT)] + [0.0] * degrees
    for groups in range(2, most + 1):
        cuts = _cuts(angles[:, 1], groups)
        if np.bincount(np.searchsorted(cuts, angles[:, 1]), minlength=groups).min() > 1:
            forms.append(TradeOff(free=groups - 1, cuts=cuts))
            prior.append(min(_grouped(angles[:, 1], cuts), 0.0))
    errors = [np.mean((angles[:, 0] - form.fitted(angles)[0](angles[:, 1])) ** 2) for form in forms]
    scores = trials * np.log(np.array(errors) + 1e-9) + np.array([form.free for form in forms]) * math.log(trials)
    return forms, scores, np.array(prior)


def below_another_line(measured: Measured) -> np.ndarray:
    """Mark the trials of the lower of two parallel trade-offs that one of the upper beats in both accuracies, (t,).

    A straight trade-off, quadratic for 20 trials or more, is fitted with two levels, to which trials belong with
    probabilities (expectation maximisation). None is marked unless there are 12 trials, whose robust angles differ by
    more than their noise, BIC prefers two levels by 3 to every form with one, the gap is 3 deviations of the noise and
    of what is left, and 3 trials are on the upper one.
    """
    clean, robust = measured.angles.T
    trials, none = len(clean), np.zeros(len(clean), dtype=bool)
    if trials < _TRIALS or _flat(measured):
        return none
    degree = min(1 if trials < _QUADRATIC else 2, len(np.unique(robust)) - 1)
    curve = Legendre.fit(robust, clean, degree, domain=[robust.min(), robust.max()])
    left, turn = clean - curve(robust), np.column_stack([np.ones(trials), -curve.deriv()(robust)])
    noise = math.sqrt(np.median(np.einsum("ti,tij,tj->t", turn, measured.own, turn)))
    offset, scale = curve.mapparms()
    basis = legvander(offset + scale * robust, degree)
    starts = [(left > np.quantile(left, share)).astype(np.float64) for share in (0.2, 0.5, 0.8)]
    fits = [_two_levels(basis, clean, start) for start in starts]
    likelihood, gap, scatter, upper = max(fits, key=lambda fit: fit[0])
    score = (degree + 2) * math.log(trials) - 2 * likelihood - trials
    evidence = _compared(measured)[1].min() - score
    if evidence < _EVIDENCE or gap < _GAP * max(scatter, noise) or upper.sum() < _FEWEST:
        return none
    # A lower trial that none of the upper beats, at an end of its line, may be on the front, and stays.
    beaten = np.all(measured.angles[:, None] < measured.angles[None, upper], axis=2)
    return np.asarray(~upper & beaten.any(axis=1))


def _two_levels(basis: np.ndarray, clean: np.ndarray, upper: np.ndarray) -> tuple[float, float, float, np.ndarray]:
    """Fit clean angles (t,) by `basis` (t, k) and a gap, from a start `upper` (t,) in [0, 1].

    Returns the log likelihood, up to a constant, the gap, the standard deviation beside both levels, and who is on the
    higher one, (t,), whichever of them the start had called upper.
    """
    low, high = (np.column_stack([basis, np.full(len(clean), level)]) for level in (0.0, 1.0))
    for _ in range(_ROUNDS):
        weights = np.sqrt(np.concatenate([1 - upper, upper]))
        both = np.concatenate([low, high]) * weights[:, None]
        solution = np.linalg.lstsq(both, np.tile(clean, 2) * weights, rcond=None)[0]
        errors = np.stack([clean - low @ solution, clean - high @ solution])
        share = np.clip(upper.mean(), 1e-3, 1 - 1e-3)
        variance = float(((1 - upper) * errors[0] ** 2 + upper * errors[1] ** 2).mean()) + 1e-9
        density = np.log([[1 - share], [share]]) - 0.5 * errors**2 / variance
        every = np.logaddexp(*density)
        upper = np.exp(density[1] - every)
    gap = float(solution[-1])
    likelihood = float(every.sum()) - 0.5 * len(clean) * math.log(variance)
    return likelihood, abs(gap), math.sqrt(variance), (upper > 0.5) == (gap > 0)


def _cuts(values: np.ndarray, groups: int) -> np.ndarray:
    """Return the cuts between groups of values around their nearest mean (k-means from quantiles), ascending."""
    means = np.quantile(values, (np.arange(groups) + 0.5) / groups)
    for _ in range(30):
        group = np.searchsorted((means[1:] + means[:-1]) / 2, values)
        count = np.bincount(group, minlength=groups)
        means = np.where(count, np.bincount(group, weights=values, minlength=groups) / np.maximum(count, 1), means)
    return np.asarray((means[1:] + means[:-1]) / 2)


def _grouped(values: np.ndarray, cuts: np.ndarray) -> float:
    """Return the log likelihood of values (t,) in normal groups between cuts, less that of uniform ones."""
    trials, group = len(values), np.searchsorted(cuts, values)
    count = np.bincount(group)
    within = values - (np.bincount(group, weights=values) / count)[group]
    variance = float(within @ within) / (trials - len(count)) + 1e-12
    width = float(np.ptp(values)) * (trials + 1) / (trials - 1)
    normal = float(count @ np.log(count / trials)) - 0.5 * trials * math.log(2 * math.pi * math.e * variance)
    return normal + trials * math.log(width)
