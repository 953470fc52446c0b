"""Settings, each declared once: default, bounds, unit and description on a dataclass field.

Specs and methods declare their fields with `setting`; `check` enforces the bounds, and `settings_of`
returns the declarations for the search spaces, the command line's help and the tables.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

_KEY = "setting"


@dataclass(frozen=True)
class Setting:
    """The declaration of one setting.

    Attributes:
        name: Its name in configs and result columns (a field `lambda_` is the setting `lambda`).
        default: Its default, or `dataclasses.MISSING` if a value is required.
        doc: One-line description.
        unit: Unit of its value; empty for names.
        low: Smallest legal value, inclusive.
        high: Largest legal value, inclusive.
        choices: The legal values, if only some are.
        search: Range that a search draws from unless the study's config narrows it.
        log: Whether a search draws on a log scale.
        before: The value that a record made before this setting existed means, or `dataclasses.MISSING`. None is legal
            if it is this or the default.
    """

    name: str
    default: Any
    doc: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] | None = None
    search: tuple[float, float] | None = None
    log: bool = False
    before: Any = dataclasses.field(default_factory=lambda: dataclasses.MISSING)

    def problem(self, value: object) -> str | None:
        """Return an error message for `value`, or None if it is legal."""
        if value is None and None in (self.default, self.before):
            return None
        if self.choices is not None:
            if value in self.choices:
                return None
            return f"`{self.name}` must be one of {', '.join(map(str, self.choices))}, got {value!r}"
        if self.low is None and self.high is None:
            is_text = not isinstance(self.default, str | None) or isinstance(value, str)
            return None if is_text else f"`{self.name}` must be text, got {value!r}"
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return f"`{self.name}` must be a number{self._in_bounds()}, got {value!r}"
        if type(self.default) is int and not isinstance(value, int):
            return f"`{self.name}` must be a whole number{self._in_bounds()}, got {value}"
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if low <= value <= high and math.isfinite(value):
            return None
        hint = f" (did you mean {value:g}/255?)" if self.unit == INPUT_UNIT and 1 < value <= 255 else ""
        return f"`{self.name}` must be{self._in_bounds()}, got {value:g}{hint}"

    def _in_bounds(self) -> str:
        if self.low is None:
            return f" at most {self.high:g}"
        if self.high is None:
            return f" at least {self.low:g}"
        return f" in [{self.low:g}, {self.high:g}]"


INPUT_UNIT = "input units, [0, 1]"


def setting(
    default: Any = dataclasses.MISSING,
    *,
    doc: str,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[Any] | None = None,
    search: tuple[float, float] | None = None,
    log: bool = False,
    before: Any = dataclasses.MISSING,
    factory: Callable[[], Any] | None = None,
) -> Any:
    """Return a dataclass field that declares a `Setting`; see there for the arguments."""
    declaration = {"doc": doc, "unit": unit, "low": low, "high": high, "search": search, "log": log, "before": before}
    declaration["choices"] = None if choices is None else tuple(choices)
    if factory is not None:
        return dataclasses.field(default_factory=factory, metadata={_KEY: declaration})
    return dataclasses.field(default=default, metadata={_KEY: declaration})


def radius(default: Any = dataclasses.MISSING, *, doc: str, search: tuple[float, float] | None = None) -> Any:
    """Return a setting in input units, at least 0; its upper bound depends on the norm and is passed to `check`."""
    return setting(default, doc=doc, unit=INPUT_UNIT, low=0.0, search=search)


def largest_radius(norm: str, /) -> float | None:
    """Return the largest meaningful radius of a norm, whose ball around any point of [0, 1]^d contains all of it.

    It is 1 for linf, and None for l2, where it is sqrt(d) and so depends on the size of the images.
    """
    return 1.0 if norm == "linf" else None


def settings_of(cls: type) -> dict[str, Setting]:
    """Return the settings of a dataclass by name, in the order of its fields."""
    settings = {}
    for field in dataclasses.fields(cls):
        if _KEY in field.metadata:
            name = field.name.rstrip("_")
            settings[name] = Setting(name=name, default=field.default, **field.metadata[_KEY])
    return settings


def with_former_values(tree: Any, cls: type, /) -> Any:
    """Return a recorded config or spec with the settings that it predates, at the values that it means.

    Today's defaults are for what a user gives; a record keeps its meaning when a default changes.

    Args:
        tree: As recorded, nested by the sections of `cls`; returned as it is if it is no mapping.
        cls: A dataclass of settings, or a class with such dataclasses as fields.
    """
    if not isinstance(tree, Mapping):
        return tree
    filled = dict(tree)
    for name, section in get_type_hints(cls).items():
        if isinstance(section, type) and dataclasses.is_dataclass(section):
            filled |= {name: inner} if (inner := with_former_values(tree.get(name, {}), section)) else {}
    declared = settings_of(cls) if dataclasses.is_dataclass(cls) else {}
    former = {name: one.before for name, one in declared.items() if one.before is not dataclasses.MISSING}
    return former | filled


def without_former_values(tree: Mapping[str, Any], cls: type, /) -> dict[str, Any]:
    """Return a config or spec without the settings at the values that `with_former_values` fills in.

    What is left is the same for a record from before a setting existed and for one of today that means the same.
    """
    former, hints = with_former_values({}, cls), get_type_hints(cls)
    kept = {}
    for name, value in tree.items():
        section = hints.get(name)
        if isinstance(value, Mapping) and isinstance(section, type) and dataclasses.is_dataclass(section):
            kept[name] = without_former_values(value, section)
        elif name not in former or former[name] != value:
            kept[name] = value
    return kept


def values_of(instance: Any, /) -> dict[str, Any]:
    """Return the values of a dataclass instance's fields by setting name."""
    return {field.name.rstrip("_"): getattr(instance, field.name) for field in dataclasses.fields(instance)}


def check(instance: Any, *, largest: Mapping[str, float | None] | None = None) -> None:
    """Check every setting of a dataclass instance against its declaration.

    Args:
        instance: Of a dataclass with fields made by `setting`.
        largest: Upper bounds of settings whose bound depends on other fields, by name.

    Raises:
        ValueError: A setting is out of bounds; the message names every such setting, its bounds and the value.
    """
    problems = []
    values = values_of(instance)
    for name, declared in settings_of(type(instance)).items():
        if name in (largest or {}):
            declared = dataclasses.replace(declared, high=(largest or {})[name])
        problem = declared.problem(values[name])
        if problem:
            problems.append(problem)
    if problems:
        raise ValueError("; ".join(problems))
