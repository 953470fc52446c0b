"""Measured accuracies on a scale of constant noise, and the part of that noise that trials share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

FACTORS = 3
"""Most shared factors."""

_ALIKE = 0.8
"""Part of the added half disagreement that trials share; it alone correlates trials that fail on no example."""

_GOLDEN = (5**0.5 - 1) / 2
_ROUNDS = 10
_MANY = 100
_LEAST = 1e-3


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Angles arcsin(sqrt(accuracy)) with their noise: angles = true angles + shared @ factors + own noise.

    Args:
        angles: Of (clean, robust) accuracy, shape (t, 2), in [0, pi / 2].
        shared: Loadings on k standard normal factors common to all trials, shape (t, 2, k).
        own: Covariance of the rest, independent between trials, shape (t, 2, 2).
    """

    angles: np.ndarray
    shared: np.ndarray
    own: np.ndarray

    def part(self, trials: np.ndarray, /) -> Measured:
        """Return some of the trials, a boolean mask (t,)."""
        return Measured(angles=self.angles[trials], shared=self.shared[trials], own=self.own[trials])


def measure(outcomes: np.ndarray, /) -> Measured:
    """Return angles and noise of outcomes.

    The angle of a share of n examples has variance 1 / (4 n) for every share, also near 0 and 1, so that neither the
    noise of a trial nor its weight depends on its luck. Trials that fail on the same examples err together; this is
    estimated from the correlations of outcomes between trials as a few shared factors whose loadings are linear in a
    trial's angles. Half a disagreement is added to each variance, so that few examples do not make two trials certainly
    equal; trials share most of it, since those that fail on no example still rest on the same examples.

    Args:
        outcomes: (clean, robust) correctness, boolean, shape (t, 2, n), n >= 1.

    Source: Anscombe, Biometrika 35 (1948), for the angle; Brown, Annals of Applied Statistics 2 (2008), for the counts
    1/4 and 1/2 that free its mean from bias; Horn, Psychometrika 30 (1965), and Marchenko and Pastur (1967) for how
    large an eigenvalue noise alone makes; Harman and Jones, Psychometrika 31 (1966), for factors that fit the
    correlations between trials and leave out those within.
    """
    examples = outcomes.shape[2]
    flat = outcomes.astype(np.float64)
    angles = np.arcsin(np.sqrt((flat.sum(axis=2) + 0.25) / (examples + 0.5)))
    flat -= flat.mean(axis=2, keepdims=True)
    alike = np.full((*flat.shape[:2], 1), math.sqrt(_ALIKE / 2))
    flat = np.concatenate([flat, alike], axis=2)
    flat /= np.sqrt((flat**2).sum(axis=2, keepdims=True) + (1 - _ALIKE) / 2)
    within = np.einsum("tin,tjn->tij", flat, flat)
    within[:, [0, 1], [0, 1]] = 1.0
    root = np.linalg.cholesky(within)
    white = np.linalg.solve(root, flat)
    variance = 1 / (4 * examples)
    # Trials of similar accuracy have similar loadings. Further differences are mostly chance, and a factor that moves
    # neighbours apart can be distinguished from their level: it belongs to their own noise.
    place = np.column_stack([np.ones(len(angles)), angles])
    loadings = (root @ _factors(white)).reshape(len(angles), -1)
    smooth = place @ np.linalg.lstsq(place, loadings, rcond=None)[0]
    shared = np.sqrt(variance) * smooth.reshape(len(angles), 2, -1)
    rest, axes = np.linalg.eigh(variance * within - shared @ shared.transpose(0, 2, 1))
    own = (axes * np.maximum(rest, _LEAST * variance)[:, None]) @ axes.transpose(0, 2, 1)
    return Measured(angles=angles, shared=shared, own=own)


def _factors(white: np.ndarray) -> np.ndarray:
    """Return loadings (t, 2, k) that fit the correlations of (t, 2, n) between trials, leaving out those within one.

    Factors are kept whose eigenvalue exceeds that of unrelated trials: the largest of the same rows with each trial's
    examples shifted by a different number of places.
    """
    trials, _, examples = white.shape
    within = np.kron(np.eye(trials, dtype=bool), np.ones((2, 2), dtype=bool))

    def between(rows: np.ndarray) -> np.ndarray:
        flat = rows.reshape(2 * trials, examples)
        return np.where(within, 0.0, flat @ flat.T)

    moved = np.stack([np.roll(rows, int(_GOLDEN * number * examples), axis=1) for number, rows in enumerate(white)])
    edge = max(np.linalg.eigvalsh(between(moved))[-1], (1 + np.sqrt(2 * trials / examples)) ** 2 - 1)
    target = between(white)
    count = min(int((np.linalg.eigvalsh(target) > edge).sum()), FACTORS)
    loadings = np.zeros((2 * trials, 0))
    # Among many trials the correlations left out weigh little, and a round costs the cube of their number.
    rounds = _ROUNDS if trials <= _MANY else 2
    for _ in range(rounds if count else 0):
        values, vectors = np.linalg.eigh(np.where(within, loadings @ loadings.T, target))
        loadings = vectors[:, -count:] * np.sqrt(np.maximum(values[-count:], 0.0))
    return loadings.reshape(trials, 2, -1)
