"""Posterior of a study's front given its examples: membership, hypervolume and dominance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from analysis.fronts.front import outermost
from analysis.statistics.accuracy_model import membership, true_accuracies
from analysis.statistics.intervals import Estimate, Outcomes, summary

CANDIDATES = 400
"""Most trials that enter the model of a study's front.

Which trials are left out depends on luck too, which the model ignores: where more trials than these crowd the front
within their noise, probabilities come out too high.
"""

DRAWS = 3000
"""Posterior draws: another seed moves a probability by a standard deviation of 0.01 to 0.02."""

TIED = 0.975
"""Two accuracies differ where at least this share of the draws has one sign."""

UNDECIDED = (
    "P(on front) is not given: the trials differ beside the trade-off by less than the noise of their examples, or "
    "most make fewer than 15 mistakes, which decides no front; measure them on more images (evaluation.examples)"
)


@dataclass(frozen=True, kw_only=True)
class FrontPosterior:
    """The posterior of a front given the examples.

    Args:
        trials: Ids of the trials in the model, length t.
        drawn: Draws of their true (clean, robust) accuracies, shape (draws, t, 2).
        probability: Posterior probability that a trial is truly on the front, shape (t,).
        left_out: Number of trials left out as too far behind the front.
        decided: Whether the examples can show which trials are on the front (`TrueAccuracies.decided`).
    """

    trials: tuple[str, ...]
    drawn: np.ndarray
    probability: np.ndarray
    left_out: int
    decided: bool = True

    def hypervolume(self, *, reference: Sequence[float] = (0.0, 0.0)) -> Estimate:
        """Return the hypervolume of the true accuracies, with its 95 % interval; see `drawn_hypervolumes`."""
        return summary(drawn_hypervolumes(self.drawn, reference=reference))

    def probabilities(self) -> dict[str, float]:
        """Return the probabilities by trial, empty where undecided."""
        if not self.decided:
            return {}
        return dict(zip(self.trials, self.probability.tolist(), strict=True))

    def dominates(self, first: str, second: str, /) -> float:
        """Return the probability that one trial truly dominates another; both must be in the model."""
        better = self.drawn[:, self.trials.index(first)] > self.drawn[:, self.trials.index(second)]
        return float(better.all(axis=1).mean())

    def near_ties(self, trial: str, /) -> list[str]:
        """Return the trials of which the 95 % intervals of both differences from one in the model include 0."""
        difference = self.drawn - self.drawn[:, [self.trials.index(trial)]]
        one_sided = np.maximum((difference > 0).mean(axis=0), (difference < 0).mean(axis=0))
        tied = (one_sided < TIED).all(axis=1)
        return [other for other, close in zip(self.trials, tied, strict=True) if close and other != trial]


def front_belief(outcomes: Outcomes, /, *, generator: np.random.Generator, draws: int = DRAWS) -> FrontPosterior:
    """Return the posterior of a study's front given its examples.

    Args:
        outcomes: Per-example outcomes of sound trials (completed, unflagged, feasible) on the same examples.
        generator: Source of the draws.
        draws: Posterior draws.

    Returns:
        With more than `CANDIDATES` trials, the posterior of those nearest to the front: successive non-dominated layers
        of measured accuracies.
    """
    measured = np.stack([outcomes.clean.mean(axis=1), outcomes.robust.mean(axis=1)], axis=1)
    chosen = outermost(measured, most=CANDIDATES)
    true = true_accuracies(outcomes.clean[chosen], outcomes.robust[chosen], generator=generator, draws=draws)
    return FrontPosterior(
        trials=tuple(outcomes.trials[index] for index in chosen),
        drawn=true.accuracies,
        probability=membership(true.accuracies),
        left_out=len(measured) - len(chosen),
        decided=true.decided,
    )


def drawn_hypervolumes(drawn: ArrayLike, /, *, reference: Sequence[float] = (0.0, 0.0)) -> np.ndarray:
    """Return the hypervolume of each draw of (clean, robust) accuracies, all draws at once.

    The hypervolume of *measured* accuracies is too large on average, because a maximum over trials selects lucky ones;
    resampling examples adds more noise and makes it larger still. Draws from a posterior that shrinks what noise
    explains, such as `true_accuracies`, remove that bias.

    Args:
        drawn: Shape (draws, t, 2).
        reference: Reference point of the volume.

    Returns:
        Shape (draws,).
    """
    gain = np.maximum(np.asarray(drawn, dtype=np.float64) - np.asarray(reference), 0.0)
    order = np.argsort(-gain[..., 0], axis=1, kind="stable")
    width = np.take_along_axis(gain[..., 0], order, axis=1)
    height = np.maximum.accumulate(np.take_along_axis(gain[..., 1], order, axis=1), axis=1)
    steps = -np.diff(width, axis=1, append=0.0)
    return np.asarray((steps * height).sum(axis=1))
