"""The probability that a trial is truly on the front, by a hierarchical model of all trials of a study.

Counting how often a trial is on the front of resampled examples answers another question: resampling adds noise to
estimates that hold noise already, so where many trials crowd the front it calls members dominated that are not. The
model here learns from the study how far trials really scatter, and shrinks what noise explains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

COMPONENTS = 6
"""Normal components of the prior for true accuracies; empty ones cost nothing."""

SCATTER = 0.1
"""Prior expectation of a component's covariance, as a share of the covariance of all trials of the study."""

_FREEDOM = 5.0
_MEAN_WEIGHT = 0.05


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """Logits of (clean, robust) accuracy, shape (t, 2), and the precision of their joint noise, shape (2 t, 2 t)."""

    logits: np.ndarray
    precision: np.ndarray


def front_probability(
    clean: ArrayLike,
    robust: ArrayLike,
    /,
    *,
    generator: np.random.Generator,
    draws: int = 1000,
    burn_in: int = 200,
) -> np.ndarray:
    """Return for each trial the posterior probability that no other trial truly dominates it.

    Args:
        clean: As `true_accuracies` takes it.
        robust: Likewise.
        generator: Source of the draws.
        draws: Posterior draws kept.
        burn_in: Draws dropped before them.

    Returns:
        Shape (t,); 1 for a single trial.

    Raises:
        ValueError: Shapes differ, or there is no example.
    """
    drawn = true_accuracies(clean, robust, generator=generator, draws=draws, burn_in=burn_in)
    return membership(drawn)


def membership(drawn: np.ndarray, /) -> np.ndarray:
    """Return how often each trial is on the front of drawn accuracies, shape (draws, t, 2) to (t,)."""
    return np.asarray(np.mean([_undominated(points) for points in drawn], axis=0))


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

    "True" means on the distribution the examples came from. Model, with theta_t the logits of trial t's true (clean,
    robust) accuracy: measured logits of all trials ~ Normal(theta, noise), the noise covariance being that of the
    shared examples (so that trials that fail on the same examples are compared more sharply), and theta_t ~ a mixture
    of `COMPONENTS` normals. Prior of the mixture: weights Dirichlet(1 / COMPONENTS); covariances inverse-Wishart with 5
    degrees of freedom and mean `SCATTER` x (covariance of the study's trials); means normal around the study's mean
    with 1 / 0.05 times that covariance. Drawn by Gibbs sampling, with
    a step that moves each component and its members together.

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

    Source: the overfitted mixture is that of Rousseau and Mengersen, JRSS B 73 (2011).
    """
    outcomes = np.stack([np.asarray(clean, dtype=bool), np.asarray(robust, dtype=bool)], axis=1)
    if outcomes.ndim != 3 or outcomes.shape[2] == 0:
        raise ValueError(f"`clean` and `robust` must have shape (t, n) with n >= 1, got {np.shape(clean)}")
    trials = len(outcomes)
    measured = _measure(outcomes)
    if trials < 2:
        noise = np.linalg.cholesky(np.linalg.inv(measured.precision)) @ generator.standard_normal((2, draws))
        return _accuracy((measured.logits.ravel() + noise.T).reshape(draws, trials, 2))
    scale = np.cov(measured.logits.T) + 1e-6 * np.eye(2)
    truth = measured.logits
    label = generator.integers(COMPONENTS, size=trials)
    kept = np.empty((draws, trials, 2))
    for step in range(burn_in + draws):
        weights, means, precisions = _draw_mixture(truth, label, measured.logits.mean(axis=0), scale, generator)
        label = _draw_labels(truth, weights, means, precisions, generator)
        truth = _draw_truth(measured, means[label], precisions[label], generator)
        truth = truth + _draw_shifts(measured, truth, label, means, precisions, generator)[label]
        if step >= burn_in:
            kept[step - burn_in] = truth
    return _accuracy(kept)


def _accuracy(logits: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-logits)))


def _measure(outcomes: np.ndarray) -> _Measured:
    """Return logits and noise of outcomes (t, 2, n); half a success and half a failure are added to each count."""
    trials, _, examples = outcomes.shape
    flat = outcomes.reshape(2 * trials, examples).astype(np.float64)
    share = (flat.sum(axis=1) + 0.5) / (examples + 1)
    binomial = share * (1 - share) / examples
    covariance = np.atleast_2d(np.cov(flat, bias=True)) / examples
    # Equal or constant outcomes make the sample covariance singular; the added counts' own noise makes it proper.
    floor = np.maximum(binomial - np.diag(covariance), 1e-3 * binomial)
    slope = 1 / (share * (1 - share))
    noise = slope[:, None] * (covariance + np.diag(floor)) * slope
    # The inverse of an estimated covariance is too large on average; Hartlap, Simon and Schneider (2007) take it back.
    excess = max(1 - (2 * trials + 1) / (examples - 1), 0.1) if examples > 1 else 0.1
    return _Measured(logits=np.log(share / (1 - share)).reshape(trials, 2), precision=excess * np.linalg.inv(noise))


def _draw_mixture(
    truth: np.ndarray, label: np.ndarray, centre: np.ndarray, scale: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw weights (k,), means (k, 2) and precisions (k, 2, 2) given the components' members."""
    member = np.eye(COMPONENTS)[label]
    count = member.sum(axis=0)
    mean = member.T @ truth / np.maximum(count, 1)[:, None]
    mean[count == 0] = centre
    apart = (truth[:, None] - mean) * member[..., None]
    shift = mean - centre
    pull = _MEAN_WEIGHT * count / (_MEAN_WEIGHT + count)
    spread = (
        SCATTER * scale * (_FREEDOM - 3)
        + np.einsum("tki,tkj->kij", apart, apart)
        + pull[:, None, None] * shift[:, :, None] * shift[:, None, :]
    )
    bartlett = np.zeros((COMPONENTS, 2, 2))
    bartlett[:, 0, 0] = np.sqrt(generator.chisquare(_FREEDOM + count))
    bartlett[:, 1, 1] = np.sqrt(generator.chisquare(_FREEDOM + count - 1))
    bartlett[:, 1, 0] = generator.standard_normal(COMPONENTS)
    root = np.linalg.cholesky(np.linalg.inv(spread)) @ bartlett
    precisions = root @ root.transpose(0, 2, 1)
    posterior_mean = (_MEAN_WEIGHT * centre + count[:, None] * mean) / (_MEAN_WEIGHT + count)[:, None]
    noise = np.linalg.solve(root.transpose(0, 2, 1), generator.standard_normal((COMPONENTS, 2, 1)))[..., 0]
    means = posterior_mean + noise / np.sqrt(_MEAN_WEIGHT + count)[:, None]
    return generator.dirichlet(count + 1 / COMPONENTS), means, precisions


def _draw_labels(
    truth: np.ndarray,
    weights: np.ndarray,
    means: np.ndarray,
    precisions: np.ndarray,
    generator: np.random.Generator,
) -> np.ndarray:
    apart = truth[:, None] - means
    quadratic = np.einsum("tki,kij,tkj->tk", apart, precisions, apart)
    score = np.log(np.maximum(weights, 1e-300)) + 0.5 * np.log(np.linalg.det(precisions)) - 0.5 * quadratic
    # The largest of log probabilities plus Gumbel noise is a draw from them.
    labels: np.ndarray = np.argmax(score + generator.gumbel(size=score.shape), axis=1)
    return labels


def _draw_truth(
    measured: _Measured, means: np.ndarray, precisions: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    trials = len(means)
    joint = measured.precision.copy()
    row = np.arange(0, 2 * trials, 2)
    for i in range(2):
        for j in range(2):
            joint[row + i, row + j] += precisions[:, i, j]
    target = measured.precision @ measured.logits.ravel() + np.einsum("tij,tj->ti", precisions, means).ravel()
    # With noise of covariance `joint` on the right-hand side, the solution has covariance inv(joint).
    noise = np.linalg.cholesky(joint) @ generator.standard_normal(2 * trials)
    return np.linalg.solve(joint, target + noise).reshape(trials, 2)


def _draw_shifts(
    measured: _Measured,
    truth: np.ndarray,
    label: np.ndarray,
    means: np.ndarray,
    precisions: np.ndarray,
    generator: np.random.Generator,
) -> np.ndarray:
    """Draw by how much each component moves with all its members, shape (k, 2).

    Shared examples move all trials together by far more than one sweep's draws of a tight component could follow one
    after the other; without this exact step the chain explores that direction too slowly and says too little of it.
    """
    move = np.kron(np.eye(COMPONENTS)[label], np.eye(2))
    pull = np.zeros((COMPONENTS, 2, COMPONENTS, 2))
    every = np.arange(COMPONENTS)
    pull[every, :, every, :] = _MEAN_WEIGHT * precisions
    weighted = measured.precision @ move
    joint = move.T @ weighted + pull.reshape(2 * COMPONENTS, 2 * COMPONENTS)
    back = _MEAN_WEIGHT * np.einsum("kij,kj->ki", precisions, measured.logits.mean(axis=0) - means)
    target = weighted.T @ (measured.logits - truth).ravel() + back.ravel()
    noise = np.linalg.cholesky(joint) @ generator.standard_normal(2 * COMPONENTS)
    return np.linalg.solve(joint, target + noise).reshape(COMPONENTS, 2)


def _undominated(points: np.ndarray) -> np.ndarray:
    """Mark the maximal points, shape (t,); draws are continuous, so there are no ties to keep."""
    order = np.argsort(-points[:, 0])
    height = points[order, 1]
    mask = np.ones(len(points), dtype=bool)
    mask[order[1:]] = height[1:] > np.maximum.accumulate(height)[:-1]
    return mask
