"""The forms that the trade-off between clean and robust accuracy of a study may have, as far as its trials show."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.polynomial import Legendre

from analysis.statistics.shared_noise import Measured

_DEGREE = 4
_GROUPS = 5
_FLAT = 0.2

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
    angles, trials = measured.angles, len(measured.angles)
    flat = angles[:, 1].var() <= np.median(measured.own[:, 1, 1])
    degrees, most = (0, 1) if flat else (min(_DEGREE, (trials - 1) // 4), min(_GROUPS, trials // 3))
    forms = [TradeOff(free=free, cuts=np.empty(0)) for free in range(degrees + 1)]
    prior = [math.log(_FLAT)] + [0.0] * degrees
    for groups in range(2, most + 1):
        cuts = _cuts(angles[:, 1], groups)
        if np.bincount(np.searchsorted(cuts, angles[:, 1]), minlength=groups).min() > 1:
            forms.append(TradeOff(free=groups - 1, cuts=cuts))
            prior.append(min(_grouped(angles[:, 1], cuts), 0.0))
    errors = [np.mean((angles[:, 0] - form.fitted(angles)[0](angles[:, 1])) ** 2) for form in forms]
    scores = trials * np.log(np.array(errors) + 1e-9) + np.array([form.free for form in forms]) * math.log(trials)
    scores -= 2 * np.array(prior)
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


def _grouped(values: np.ndarray, cuts: np.ndarray) -> float:
    """Return the log likelihood of values (t,) in normal groups between cuts, less that of uniform ones."""
    trials, group = len(values), np.searchsorted(cuts, values)
    count = np.bincount(group)
    within = values - (np.bincount(group, weights=values) / count)[group]
    variance = float(within @ within) / (trials - len(count)) + 1e-12
    width = float(np.ptp(values)) * (trials + 1) / (trials - 1)
    normal = float(count @ np.log(count / trials)) - 0.5 * trials * math.log(2 * math.pi * math.e * variance)
    return normal + trials * math.log(width)
