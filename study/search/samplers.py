"""Optuna samplers by name, when to use each, and the share of proposals drawn independently of results."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from study.config.search_section import SearchConfig
from trainables.seeding import derive

POPULATION = (10, 50)
"""Limits of the genetic samplers' population, which is a tenth of the trials."""


@dataclass(frozen=True, kw_only=True)
class SamplerKind:
    """One way to propose trials.

    Attributes:
        build: Makes Optuna's sampler from a seed and the number of trials; None where none is needed.
        best_for: When to choose it.
        cost: Time per proposal, and how it grows.
        limits: Its limitations.
        flat: Whether it needs every parameter in every trial, for any method; see `SearchSpace.draw`.
        adaptive: Whether proposals depend on results; a share of them is then drawn at random.
    """

    build: Callable[[int, int], BaseSampler] | None
    best_for: str
    cost: str
    limits: str
    flat: bool = False
    adaptive: bool = True


def _tpe(seed: int, trials: int) -> BaseSampler:
    # multivariate with groups, because the space is conditional on the method; both options are experimental
    with _no_warnings():
        return optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed)


def _nsga3(seed: int, trials: int) -> BaseSampler:
    with _no_warnings():
        return optuna.samplers.NSGAIIISampler(population_size=_population(trials), seed=seed)


def _population(trials: int) -> int:
    return min(max(POPULATION[0], trials // 10), POPULATION[1])


def _no_warnings() -> warnings.catch_warnings[None]:
    return warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning)


SAMPLERS: dict[str, SamplerKind] = {
    "tpe": SamplerKind(
        build=_tpe,
        best_for="the default: mixed and conditional spaces, 30 to some thousand trials, any number of objectives",
        cost="13, 62, 114 ms at 100, 1,000, 2,000 trials (17, 95, 182 ms with three objectives)",
        limits="learns each method's own hyperparameters from that method's trials alone",
    ),
    "nsga2": SamplerKind(
        build=lambda seed, trials: optuna.samplers.NSGAIISampler(population_size=_population(trials), seed=seed),
        best_for="thousands of trials, where proposing one with tpe takes longer than running one",
        cost="at most 6 ms up to 2,000 trials",
        limits="worse than tpe for the first few hundred trials; its first population (a tenth of the trials, 10 to "
        "50) is random, and a method's own hyperparameters are drawn, not inherited",
    ),
    "nsga3": SamplerKind(
        build=_nsga3,
        best_for="as nsga2, for an even spread over three or more objectives",
        cost="as nsga2",
        limits="as nsga2",
    ),
    "gp": SamplerKind(
        build=lambda seed, trials: optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False),
        best_for="few, expensive trials: at most about 100",
        cost="seconds, growing with the cube of the trials: 1 s at 50",
        limits="ignores failed and stopped trials; far slower than tpe beyond 100 trials",
        flat=True,
    ),
    "random": SamplerKind(
        build=None,
        best_for="estimating effects, baselines, any number of trials in parallel",
        cost="1 ms",
        limits="learns nothing",
        adaptive=False,
    ),
    "grid": SamplerKind(
        build=None,
        best_for="every combination of a few listed values, search.seeds times (once by default), in random order",
        cost="negligible: its points are listed beforehand",
        limits="needs values or a number of points for each searched parameter; search.num_trials may end it early",
        adaptive=False,
    ),
}


def is_random(number: int, *, fraction: float) -> bool:
    """Return whether trial `number` belongs to the random share, which is evenly spread and exact to one trial.

    Args:
        number: The trial's number, from 0.
        fraction: The share, in [0, 1].
    """
    return math.floor((number + 1) * fraction) > math.floor(number * fraction)


class SharedSampler(BaseSampler):
    """Draws a fixed share of the trials at random, independently of results, and leaves the rest to a sampler.

    Only proposals that do not depend on results support statements about effects. Which trials these are, and what is
    drawn for them, depends on the seed, the trial's number and the parameter's name only.

    Args:
        search: The study's search settings.
        num_stored: Trials in the storage. The sampler's random stream depends on it and on the seed, so that a
            resumed study does not repeat its first proposals.
        grid: The points of the grid by Optuna parameter, for the sampler `grid`. Trial n takes the n-th of them in an
            order drawn from the seed, so that a part of the grid is a random sample of it. After the last point the
            whole grid follows again in another order, so that points differ by at most one trial at any time.
    """

    def __init__(self, search: SearchConfig, /, *, num_stored: int = 0, grid: Sequence[Mapping[str, Any]] = ()) -> None:
        kind = SAMPLERS[search.sampler]
        self._seed = search.seed
        self._fraction = search.random_fraction if kind.adaptive else float(search.sampler == "random")
        self._grid = list(grid)
        self._orders: list[list[int]] = []
        self._generator = np.random.default_rng(derive(search.seed, "grid"))
        stream = derive(search.seed, "sampler", num_stored) % 2**32
        self._sampler = kind.build(stream, search.num_trials) if kind.build else optuna.samplers.RandomSampler(stream)

    def proposal(self, number: int) -> str:
        """Return how trial `number` is proposed: `random`, `grid` or `sampler`."""
        if self._grid:
            return "grid"
        return "random" if is_random(number, fraction=self._fraction) else "sampler"

    def _point(self, number: int) -> Mapping[str, Any]:
        seed, place = divmod(number, len(self._grid))
        while len(self._orders) <= seed:
            self._orders.append(self._generator.permutation(len(self._grid)).tolist())
        return self._grid[self._orders[seed][place]]

    def reseed_rng(self) -> None:
        """Reseed the underlying sampler."""
        self._sampler.reseed_rng()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the underlying sampler's joint space; empty for random and grid proposals."""
        if self.proposal(trial.number) != "sampler":
            return {}
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw parameters jointly; none for random and grid proposals."""
        if self.proposal(trial.number) != "sampler":
            return {}
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw one parameter on its own."""
        kind = self.proposal(trial.number)
        if kind == "grid":
            return self._point(trial.number)[param_name]
        if kind == "random":
            sampler = optuna.samplers.RandomSampler(seed=derive(self._seed, "random", trial.number, param_name) % 2**32)
            return sampler.sample_independent(study, trial, param_name, param_distribution)
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Notify the underlying sampler."""
        self._sampler.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Notify the underlying sampler."""
        self._sampler.after_trial(study, trial, state, values)
