"""The dimensions of a search space: what is drawn, from which range, in which unit, for which methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from trainables.registry import nearest
from trainables.settings import Setting

if TYPE_CHECKING:
    import optuna

Values = Sequence[Any] | Mapping[str, Any]
_KEYS = ("low", "high", "log", "points", "values")


class SpaceError(ValueError):
    """A range or fixed value is illegal for the space; the message names the config key."""


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One quantity that a search draws.

    Attributes:
        name: The setting's name (`dropout`, `train_epsilon`, `beta`, ...).
        setting: Its declaration: legal bounds, unit, description.
        low: Smallest value drawn.
        high: Largest value drawn.
        log: Whether it is drawn on a log scale.
        values: The listed values, if a list replaces the range.
        methods: The methods it applies to; None means all.
        owner: The method whose hyperparameter it is; None if methods share it.
    """

    name: str
    setting: Setting
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    values: tuple[Any, ...] | None = None
    methods: tuple[str, ...] | None = None
    owner: str | None = None

    @property
    def key(self) -> str:
        """Return the name of the Optuna parameter: unique in the space, even if methods share the setting's name."""
        return self.name if self.owner is None else f"{self.owner}.{self.name}"

    @property
    def is_integer(self) -> bool:
        """Return whether whole numbers are drawn."""
        return isinstance(self.setting.default, int) and not isinstance(self.setting.default, bool)

    def contains(self, value: Any, /) -> bool:
        """Return whether `value` can be drawn."""
        if self.values is not None:
            return value in self.values
        return isinstance(value, (int, float)) and self.low <= value <= self.high

    def applies_to(self, method: str) -> bool:
        """Return whether trials of `method` have this quantity."""
        return self.methods is None or method in self.methods

    def draw(self, trial: optuna.trial.BaseTrial, /) -> Any:
        """Draw a value through Optuna's define-by-run interface."""
        if self.values is not None:
            return trial.suggest_categorical(self.key, self.values)
        if self.is_integer:
            return trial.suggest_int(self.key, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)

    def describe(self) -> str:
        """Return the range in words, as `robust-study list spaces` prints it."""
        if self.values is not None:
            return "one of " + ", ".join(map(str, self.values))
        return f"[{self.low:g}, {self.high:g}]{' log' if self.log else ''}"


def from_setting(setting: Setting, *, owner: str | None = None) -> Dimension:
    """Return the dimension that draws a setting from its declared search range.

    Args:
        setting: What to draw.
        owner: The method whose hyperparameter it is; None if all methods share it.

    Raises:
        SpaceError: The setting declares no search range.
    """
    if setting.search is None:
        raise SpaceError(f"`search.ranges.{setting.name}` must be given, as the setting has no default range")
    low, high = setting.search
    methods = None if owner is None else (owner,)
    return Dimension(
        name=setting.name, setting=setting, low=low, high=high, log=setting.log, methods=methods, owner=owner
    )


def problem_of(dimension: Dimension, /) -> str | None:
    """Return what is wrong with what a dimension draws, or None."""
    drawn = (dimension.low, dimension.high) if dimension.values is None else dimension.values
    problems = [problem for value in drawn if (problem := dimension.setting.problem(value)) is not None]
    if dimension.values is None and dimension.low > dimension.high:
        problems.append(f"`{dimension.name}` must have low <= high, got [{dimension.low:g}, {dimension.high:g}]")
    if dimension.values is None and dimension.log and dimension.low <= 0:
        problems.append(f"`{dimension.name}` must have low > 0 on a log scale, got {dimension.low:g}")
    return problems[0] if problems else None if drawn else f"`{dimension.name}` must have at least one value, got none"


def narrow(dimension: Dimension, values: Values, /) -> Dimension:
    """Return the dimension restricted to a range or list from the config.

    Args:
        dimension: What to restrict.
        values: `[low, high]`, `{low: ..., high: ..., log: ...}`, the same with `points: N` (N values spread evenly
            over the range, on its scale), or `{values: [...]}`.

    Raises:
        SpaceError: The form is none of these, a bound is illegal for the setting, or low exceeds high.
    """
    where = f"search.ranges.{dimension.name}"
    if not isinstance(values, Mapping):
        bounds = values if isinstance(values, (list, tuple)) else ()
        if len(bounds) != 2 or not all(isinstance(bound, (int, float)) for bound in bounds):
            raise SpaceError(f"`{where}` must be [low, high] or {{values: [...]}}, got {values!r}")
        values = {"low": bounds[0], "high": bounds[1]}
    if not values:
        raise SpaceError(f"`{where}` must be [low, high] or {{values: [...]}}, got nothing")
    unknown = [key for key in values if key not in _KEYS]
    if unknown:
        raise SpaceError(f"unknown key `{where}.{unknown[0]}`{nearest(unknown[0], list(_KEYS))}")
    if "values" in values:
        if len(values) > 1:
            raise SpaceError(f"`{where}` takes a list of values or a range, got both: {dict(values)}")
        if not isinstance(values["values"], list | tuple):
            raise SpaceError(f"`{where}.values` must be a list, got {values['values']!r}")
        listed = tuple(values["values"])
        if repeated := [value for at, value in enumerate(listed) if value in listed[:at]]:
            raise SpaceError(f"`{where}.values` lists {repeated[0]!r} more than once")
        _check_legal(dimension, listed, where=where)
        return replace(dimension, values=listed)
    low, high = values.get("low", dimension.low), values.get("high", dimension.high)
    log = values.get("log", dimension.log)
    if not isinstance(log, bool):
        raise SpaceError(f"`{where}.log` must be true or false, got {log!r}")
    for key, bound in (("low", low), ("high", high)):
        if isinstance(bound, bool) or not isinstance(bound, int | float):
            advice = ": null can be listed under `values`" if bound is None else ""
            raise SpaceError(f"`{where}.{key}` must be a number, got {bound!r}{advice}")
    _check_legal(dimension, (low, high), where=where)
    if low > high:
        raise SpaceError(f"`{where}` must have low <= high, got [{low:g}, {high:g}]")
    if log and low <= 0:
        if values.get("log"):
            raise SpaceError(f"`{where}` must have low > 0 on a log scale, got {low:g}")
        log = False
    narrowed = replace(dimension, low=low, high=high, log=log, values=None)
    points = values.get("points")
    return narrowed if points is None else replace(narrowed, values=_spread(narrowed, points, where=where))


def _spread(dimension: Dimension, points: object, *, where: str) -> tuple[Any, ...]:
    if isinstance(points, bool) or not isinstance(points, int) or points < 2:
        raise SpaceError(f"`{where}.points` must be an integer of at least 2, got {points!r}")
    low, high, steps = dimension.low, dimension.high, points - 1
    if dimension.log:
        spread = [low * (high / low) ** (step / steps) for step in range(points)]
    else:
        spread = [low + (high - low) * step / steps for step in range(points)]
    # rounded, so that a grid has 0.3 and not 0.30000000000000004; the ends are as given
    inner = [float(f"{value:.6g}") for value in spread[1:-1]]
    if dimension.is_integer:
        return tuple(dict.fromkeys(round(value) for value in (low, *inner, high)))
    return tuple(dict.fromkeys((low, *inner, high)))


def _check_legal(dimension: Dimension, values: Sequence[Any], *, where: str) -> None:
    if not values:
        raise SpaceError(f"`{where}` must list at least one value, got none")
    for value in values:
        problem = dimension.setting.problem(value)
        if problem:
            raise SpaceError(problem.replace(f"`{dimension.setting.name}`", f"`{where}`", 1))
