"""Optuna samplers by name, and the share of proposals drawn independently of all results."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from trainables.seeding import derive


def _tpe(seed: int) -> BaseSampler:
    # multivariate with groups, because the space is conditional on the method; both still carry a notice
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed)


SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": _tpe,
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}


def is_random(number: int, *, fraction: float) -> bool:
    """Return whether trial `number` is one of the random share: evenly spread, exact to within one trial.

    Args:
        number: The trial's number, from 0.
        fraction: The share, in [0, 1].
    """
    return math.floor((number + 1) * fraction) > math.floor(number * fraction)


class SharedSampler(BaseSampler):
    """Draws a stated share of trials at random, whatever came before, and leaves the rest to a sampler.

    Only proposals that do not depend on results support statements about effects. Which trials they
    are, and what is drawn for them, are functions of (seed, trial number, parameter name).

    Args:
        sampler: A name in `SAMPLERS`.
        seed: The study's seed.
        random_fraction: Share of independent proposals, in [0, 1].
        told: Trials the storage holds already; with the seed it gives the sampler's own stream, so
            that a resumed study does not draw its first proposals again.
    """

    def __init__(self, sampler: str, /, *, seed: int, random_fraction: float, told: int = 0) -> None:
        self._seed = seed
        self._fraction = 1.0 if sampler == "random" else random_fraction
        self._sampler = SAMPLERS[sampler](derive(seed, "sampler", told) % 2**32)

    def proposal(self, number: int) -> str:
        """Return how trial `number` is proposed: `random` or `sampler`."""
        return "random" if is_random(number, fraction=self._fraction) else "sampler"

    def reseed_rng(self) -> None:
        """Reseed the underlying sampler."""
        self._sampler.reseed_rng()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the underlying sampler's joint space; empty for random proposals."""
        if self.proposal(trial.number) == "random":
            return {}
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw jointly; nothing for random proposals."""
        if self.proposal(trial.number) == "random":
            return {}
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw one parameter on its own."""
        if self.proposal(trial.number) == "random":
            draw = optuna.samplers.RandomSampler(seed=derive(self._seed, "random", trial.number, param_name) % 2**32)
            return draw.sample_independent(study, trial, param_name, param_distribution)
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Tell the underlying sampler."""
        self._sampler.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Tell the underlying sampler."""
        self._sampler.after_trial(study, trial, state, values)
