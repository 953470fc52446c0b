"""Made-up studies whose true accuracies are known, and what intervals and probabilities are held against."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np


def made_up_study(
    rng: np.random.Generator, *, trials: int, examples: int, scatter: float, shared: float = 0.8
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return true (clean, robust) accuracies, shape (t, 2), and outcomes, shape (t, n), of a study.

    Trials lie below a curve of best trade-offs by exponential amounts of mean `scatter`. Examples are hard or easy for
    all trials alike to the degree `shared`.
    """
    strength = rng.beta(2, 1.3, trials)
    clean = np.clip(0.97 - 0.14 * strength**2 - scatter * rng.exponential(1, trials), 0.01, 0.999)
    robust = np.clip(0.85 * clean * strength**0.6 - scatter * rng.exponential(1, trials), 0.001, clean)
    difficulty = shared * rng.normal(size=examples) + np.sqrt(1 - shared**2) * rng.normal(size=(trials, examples))
    level = np.vectorize(NormalDist().inv_cdf)
    correct = [difficulty < level(accuracy)[:, None] for accuracy in (clean, robust)]
    return np.stack([clean, robust], axis=1), correct[0], correct[1]


def calibration_table(probability: np.ndarray, true: np.ndarray) -> tuple[float, str]:
    """Return the expected calibration error over ten bins, and the table behind it."""
    bins = np.minimum((probability * 10).astype(int), 9)
    rows = [(b, (bins == b).sum(), probability[bins == b].mean(), true[bins == b].mean()) for b in np.unique(bins)]
    error = sum(count * abs(said - was) for _, count, said, was in rows) / len(bins)
    lines = [
        f"{b / 10:.1f}-{(b + 1) / 10:.1f}  n={count:4d}  said {said:.2f}  was {was:.2f}" for b, count, said, was in rows
    ]
    return float(error), "\n".join(lines)
