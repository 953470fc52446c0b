"""What a study's examples say about its front as a whole: membership, hypervolume and dominance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from analysis.fronts.front import non_dominated
from analysis.statistics.accuracy_model import membership, true_accuracies
from analysis.statistics.intervals import Estimate, Outcomes, summary

CANDIDATES = 400
"""Most trials that enter the model of a study's front.

Those left out are so by their luck too, which the model does not see: where more trials than these crowd the front
within their noise, probabilities come out too high.
"""


DRAWS = 3000
"""Posterior draws: another seed moves a probability by a standard deviation of 0.01 to 0.02."""


@dataclass(frozen=True, kw_only=True)
class FrontPosterior:
    """What is believed of a front, given the examples.

    Args:
        trials: Ids of the trials that entered, length t.
        drawn: Draws of their true (clean, robust) accuracies, shape (draws, t, 2).
        probability: That a trial is truly on the front, shape (t,).
        left_out: Trials too far behind the front to enter.
    """

    trials: tuple[str, ...]
    drawn: np.ndarray
    probability: np.ndarray
    left_out: int

    def hypervolume(self, *, reference: Sequence[float] = (0.0, 0.0), confidence: float = 0.95) -> Estimate:
        """Return the hypervolume of the true accuracies, with its interval; see `drawn_hypervolumes`."""
        return summary(drawn_hypervolumes(self.drawn, reference=reference), confidence=confidence)

    def probabilities(self) -> dict[str, float]:
        """Return the probabilities by trial."""
        return dict(zip(self.trials, self.probability.tolist(), strict=True))

    def dominates(self, first: str, second: str, /) -> float:
        """Return the probability that one trial truly dominates another; both must have entered."""
        return dominance_probability(self.drawn, self.trials.index(first), self.trials.index(second))


def front_belief(outcomes: Outcomes, /, *, generator: np.random.Generator, draws: int = DRAWS) -> FrontPosterior:
    """Return what a study's examples say about its front.

    Args:
        outcomes: Per-example outcomes of sound trials (completed, unflagged, feasible) on the same examples.
        generator: Source of the draws.
        draws: Posterior draws.

    Returns:
        With more than `CANDIDATES` trials only those nearest to the front enter: layer after layer of the non-dominated
        sets of measured accuracies.
    """
    measured = np.stack([outcomes.clean.mean(axis=1), outcomes.robust.mean(axis=1)], axis=1)
    chosen = outermost(measured, most=CANDIDATES)
    drawn = true_accuracies(outcomes.clean[chosen], outcomes.robust[chosen], generator=generator, draws=draws)
    return FrontPosterior(
        trials=tuple(outcomes.trials[index] for index in chosen),
        drawn=drawn,
        probability=membership(drawn),
        left_out=len(measured) - len(chosen),
    )


def outermost(points: ArrayLike, /, *, most: int) -> np.ndarray:
    """Return indices of the `most` points nearest to the front, layer after layer, all of them where they fit.

    Args:
        points: Larger is better, shape (n, k).
        most: How many; the layer that no longer fits is cut off, the earlier points kept.
    """
    array = np.asarray(points, dtype=np.float64)
    left = np.arange(len(array))
    chosen: list[int] = []
    while len(left) and len(chosen) < most:
        layer = non_dominated(array[left], maximise=True)
        if not layer.any():
            break
        chosen += left[layer].tolist()
        left = left[~layer]
    return np.sort(np.asarray(chosen[:most], dtype=np.intp))


def drawn_hypervolumes(drawn: ArrayLike, /, *, reference: Sequence[float] = (0.0, 0.0)) -> np.ndarray:
    """Return the hypervolume of each draw of (clean, robust) accuracies, all draws at once.

    The hypervolume of *measured* accuracies is too large on average, because a maximum over trials picks lucky ones;
    resampling examples adds noise once more and is larger still. Drawn from a posterior that shrinks what noise
    explains, as `true_accuracies` gives it, the bias is gone.

    Args:
        drawn: Shape (draws, t, 2).
        reference: Where the volume begins.

    Returns:
        Shape (draws,).
    """
    gain = np.maximum(np.asarray(drawn, dtype=np.float64) - np.asarray(reference), 0.0)
    order = np.argsort(-gain[..., 0], axis=1, kind="stable")
    width = np.take_along_axis(gain[..., 0], order, axis=1)
    height = np.maximum.accumulate(np.take_along_axis(gain[..., 1], order, axis=1), axis=1)
    steps = -np.diff(width, axis=1, append=0.0)
    return np.asarray((steps * height).sum(axis=1))


def dominance_probability(drawn: np.ndarray, first: int, second: int, /) -> float:
    """Return how often one trial is better than another in both accuracies, over draws of shape (draws, t, 2)."""
    return float((drawn[:, first] > drawn[:, second]).all(axis=1).mean())
