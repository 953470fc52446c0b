"""A study's search space: a registered space's dimensions, narrowed or fixed by the config, drawn define-by-run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from search_spaces import SPACES
from search_spaces.dimensions import Dimension, SpaceError, Values, from_setting, narrow, problem_of
from trainables.methods import METHODS
from trainables.registry import calling, must_return, nearest
from trainables.settings import Setting, settings_of
from trainables.spec import CraftMode, EvaluationSpec, ModelSpec, TrainingSpec

if TYPE_CHECKING:
    import optuna


MAX_GRID = 100_000
"""Most points of a grid."""


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """The quantities that a study draws for each trial, and those it fixes.

    Attributes:
        methods: Names of the methods; one is drawn if there are several.
        dimensions: The other quantities that are drawn.
        fixed: Values that every trial has, by setting name (`lr`) or method and setting (`trades.beta`).
        name: Registered space, or `package.module:object`.
    """

    methods: tuple[str, ...]
    dimensions: tuple[Dimension, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    name: str = "core"

    def draw(self, trial: optuna.trial.BaseTrial, /, *, flat: bool = False) -> dict[str, Any]:
        """Draw one proposal.

        Args:
            trial: An Optuna trial, or a `FixedTrial` with the values to use.
            flat: Draw the other methods' quantities as well and discard them: genetic and Gaussian-process samplers
                learn only from parameters that every trial has.

        Returns:
            `method` and a value for each quantity that applies to it, by setting name.
        """
        method = trial.suggest_categorical("method", self.methods) if len(self.methods) > 1 else self.methods[0]
        proposal: dict[str, Any] = {"method": method}
        with calling(SPACES.kind, self.name, f"a draw for method {method}"):
            for dimension in self.dimensions:
                if dimension.applies_to(method):
                    proposal[dimension.name] = dimension.draw(trial)
                elif flat:
                    dimension.draw(trial)
        for key, value in self.fixed.items():
            owner, _, name = key.rpartition(".")
            if owner in ("", method):
                proposal[name] = value
        return proposal

    def example(self, method: str, /) -> dict[str, Any]:
        """Return a random proposal of one of the methods, always the same."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
        return replace(self, methods=(method,)).draw(trial)

    def grid(self) -> list[dict[str, Any]]:
        """Return every combination of the listed values, once, by Optuna parameter.

        Raises:
            SpaceError: A quantity is drawn from a range instead of a list, or there are too many combinations.
        """
        for dimension in self.dimensions:
            if dimension.values is None:
                raise SpaceError(
                    f"`search.sampler: grid` needs a list of values for every quantity, but `{dimension.key}` "
                    f"is drawn from {dimension.describe()}: give `search.ranges.{dimension.key}` as "
                    "{values: [...]} or {low: ..., high: ..., points: N}, or one value under `search.fixed`"
                )
        by_method = {
            method: [dimension for dimension in self.dimensions if dimension.applies_to(method)]
            for method in self.methods
        }
        size = sum(
            math.prod(len(dimension.values or ()) for dimension in dimensions) for dimensions in by_method.values()
        )
        if size > MAX_GRID:
            raise SpaceError(f"`search.sampler: grid` would have {size} points, at most {MAX_GRID} are allowed")
        points = []
        for method, dimensions in by_method.items():
            point = {"method": method} if len(self.methods) > 1 else {}
            keys = [dimension.key for dimension in dimensions]
            for values in itertools.product(*(dimension.values or () for dimension in dimensions)):
                points.append(point | dict(zip(keys, values, strict=True)))
        return points


def build_space(
    name: str,
    /,
    *,
    methods: Sequence[str],
    evaluation: EvaluationSpec,
    ranges: Mapping[str, Values],
    fixed: Mapping[str, Any],
) -> SearchSpace:
    """Build the space `name` for a study.

    Args:
        name: Registered space, or `package.module:object`.
        methods: Names of the methods.
        evaluation: The study's evaluation.
        ranges: Ranges or lists that replace a dimension's default, by setting name or `method.setting`, of which the
            latter wins. A training setting (`lr`, `weight_decay`, a list of `craft_mode`s) or a method's setting that
            is not searched by default (`locally_linear.variant`) is added to the search if it is named here.
        fixed: Values that are not searched, with the same keys; a training setting may be fixed for one method
            (`trades.craft_mode`).

    Raises:
        OwnCodeError: A space of your own raised an error or returned something else than dimensions.
        SpaceError: A key names nothing searchable or is in both, or a value is illegal.
    """
    dimensions = _dimensions(name, methods, evaluation)
    _check_craft_modes(ranges, fixed)
    both = sorted(set(ranges) & set(fixed))
    if both:
        raise SpaceError(f"`search.ranges.{both[0]}` and `search.fixed.{both[0]}` exclude each other: keep one")
    narrowed: list[str] = []
    for key, values in ranges.items():
        _give_own(key, dimensions, methods)
        matching = [index for index, one in enumerate(dimensions) if key in (one.name, one.key)]
        matching = [index for index in matching if dimensions[index].key not in narrowed]
        narrowed.append(key)
        # one method may search by default what another only searches if it is named here
        added = _added(key, dimensions, methods, is_searched=bool(matching))
        for index in matching:
            dimensions[index] = narrow(dimensions[index], values)
        dimensions += [narrow(dimension, values) for dimension in added]
    for key, value in fixed.items():
        _give_own(key, dimensions, methods)
        for setting in _fixable(key, dimensions, methods):
            problem = setting.problem(value)
            if problem:
                raise SpaceError(problem.replace(f"`{setting.name}`", f"`search.fixed.{key}`", 1))
    # a method's own range comes before a value for all methods
    free = [one for one in dimensions if one.key in ranges or not {one.name, one.key} & set(fixed)]
    every = [*dimensions, *_unsearched(methods, dimensions)]
    values = _by_method(fixed, [one for one in every if one not in free])
    return SearchSpace(methods=tuple(methods), dimensions=tuple(free), fixed=values, name=name)


def _give_own(key: str, dimensions: list[Dimension], methods: Sequence[str]) -> None:
    """Give a method that `key` names, `method.setting`, a dimension of its own in place of the one that it shares."""
    owner, _, name = key.rpartition(".")
    for index, shared in enumerate(dimensions if owner in methods else ()):
        if shared.name == name and shared.owner is None and shared.applies_to(owner):
            others = tuple(method for method in methods if method != owner and shared.applies_to(method))
            own = replace(shared, methods=(owner,), owner=owner)
            dimensions[index : index + 1] = [own, *([replace(shared, methods=others)] if others else [])]
            return


def _check_craft_modes(ranges: Mapping[str, Values], fixed: Mapping[str, Any]) -> None:
    listed = {f"fixed.{key}": (value,) for key, value in fixed.items()}
    for key, form in ranges.items():
        values = form.get("values") if isinstance(form, Mapping) else None
        listed[f"ranges.{key}"] = tuple(values) if isinstance(values, list | tuple) else ()
    for key, values in listed.items():
        for value in values if key.rpartition(".")[2] == "craft_mode" else ():
            try:
                CraftMode.of(value)
            except ValueError as error:
                raise SpaceError(f"`search.{key}`: {error}") from error


def _dimensions(name: str, methods: Sequence[str], evaluation: EvaluationSpec) -> list[Dimension]:
    """Return what a space returns, if these are dimensions of settings that a trial has, with legal values."""
    space, given = SPACES.load(name), f"methods={', '.join(methods)} and the study's evaluation"
    with calling(SPACES.kind, name, given):
        result = space(methods=methods, evaluation=evaluation)
        dimensions = list(result) if hasattr(result, "__iter__") else None
    if dimensions is None:
        raise must_return(SPACES.kind, name, given, f"a list of dimensions, got {type(result).__name__}")
    valid = {"train_epsilon", *_trial_settings(), *(dimension.name for dimension in _unsearched(methods, ()))}
    for dimension in dimensions:
        if not isinstance(dimension, Dimension):
            problem = f"search_spaces.dimensions.Dimension objects, got {type(dimension).__name__}"
        elif dimension.name not in valid:
            problem = (
                f"dimensions of settings that a trial has, got `{dimension.name}`{nearest(dimension.name, [*valid])}"
            )
        elif [other.key for other in dimensions if isinstance(other, Dimension)].count(dimension.key) > 1:
            problem = f"each dimension once, got `{dimension.key}` more than once"
        elif illegal := problem_of(dimension):
            problem = f"legal values: {illegal}"
        else:
            continue
        raise must_return(SPACES.kind, name, given, problem)
    for method in methods:
        if missing := _radius_problem(method, dimensions):
            raise must_return(SPACES.kind, name, given, missing)
    return dimensions


def _radius_problem(method: str, dimensions: Sequence[Dimension]) -> str | None:
    """Return what a space must return that gives a method no radius though it attacks, or one though it does not."""
    attacks = bool(METHODS.load(method).attacks)
    if attacks == any(dimension.name == "train_epsilon" and dimension.applies_to(method) for dimension in dimensions):
        return None
    if attacks:
        return f"a dimension `train_epsilon`: `train_epsilon` must be a radius for method {method!r}, which attacks"
    return f"`train_epsilon` only for the methods that attack, as its `methods` say: method {method!r} does not"


def _trial_settings() -> dict[str, Setting]:
    return {**settings_of(ModelSpec), **settings_of(TrainingSpec)}


def _unsearched(methods: Sequence[str], dimensions: Sequence[Dimension]) -> list[Dimension]:
    """Return the methods' settings that the space does not search, such as a variant or a finite difference's step."""
    searched = {dimension.key for dimension in dimensions}
    unsearched = []
    for method in methods:
        for setting in settings_of(METHODS.load(method)).values():
            dimension = Dimension(name=setting.name, setting=setting, methods=(method,), owner=method)
            if dimension.key not in searched:
                unsearched.append(dimension)
    return unsearched


def _added(key: str, dimensions: Sequence[Dimension], methods: Sequence[str], *, is_searched: bool) -> list[Dimension]:
    """Return the dimensions that a range of a setting adds to the search."""
    matching = [dimension for dimension in _unsearched(methods, dimensions) if key in (dimension.name, dimension.key)]
    if matching or is_searched:
        return matching
    setting = _trial_settings().get(key)
    if setting is None:
        raise _unknown(f"search.ranges.{key}", key, dimensions)
    if setting.low is None and setting.search is None:
        return [Dimension(name=key, setting=setting)]
    low, high = setting.search or (setting.low or 0.0, setting.high or 1.0)
    return [from_setting(Setting(**{**vars(setting), "search": (low, high)}))]


def _fixable(key: str, dimensions: Sequence[Dimension], methods: Sequence[str]) -> list[Setting]:
    every = (*dimensions, *_unsearched(methods, dimensions))
    matching = [dimension.setting for dimension in every if key in (dimension.name, dimension.key)]
    if matching:
        return matching
    owner, _, name = key.rpartition(".")
    setting = _trial_settings().get(name if owner in methods else key)
    if setting is None:
        raise _unknown(f"search.fixed.{key}", key, dimensions)
    return [setting]


def _by_method(fixed: Mapping[str, Any], dimensions: Sequence[Dimension]) -> dict[str, Any]:
    """Return fixed values with the method in the key of each hyperparameter, so that no other method gets it."""
    qualified: dict[str, Any] = {}
    for key, value in sorted(fixed.items(), key=lambda item: "." in item[0]):
        owners = [dimension for dimension in dimensions if key in (dimension.name, dimension.key)]
        methods = {method for dimension in owners for method in dimension.methods or ()}
        name = key.rpartition(".")[2]
        qualified.update({f"{method}.{name}": value for method in methods} if methods else {key: value})
    return qualified


def _unknown(where: str, key: str, dimensions: Sequence[Dimension]) -> SpaceError:
    valid = sorted({dimension.name for dimension in dimensions} | set(settings_of(TrainingSpec)))
    return SpaceError(f"`{where}` is not a setting of this space{nearest(key, valid)}; valid: {', '.join(valid)}")
