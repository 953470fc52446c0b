"""Replaces the short forms that a config may be written in: `8/255`, `scheduler: none`, an empty section."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from study.config.paths import is_pool
from study.config.values import parsed_number

_LEADING_ZERO = re.compile(r"[+-]?0[0-9_]+")
_REFUSED = object()


def full_form(tree: Any, schema: type, /) -> tuple[Any, list[str]]:
    """Return nested values in the form that a schema takes.

    Where it has a number, text such as `8/255` or `5e-4` becomes one. Where it has a section, nothing is an empty one,
    and text its `name`, or its only key. What is in no short form is unchanged, for the schema to check.

    Args:
        tree: As read from YAML.
        schema: A class of sections and settings.

    Returns:
        The values without those that are refused here, and a line for each of those: a truth value for a number, which
        Python would take for 0 or 1, and a number that begins with 0, which is in base 8 for some readers of YAML.
    """
    problems: list[str] = []
    return _full(tree, schema, "", problems), problems


def _full(value: Any, hint: Any, where: str, problems: list[str]) -> Any:
    kinds = _kinds(hint)
    is_required = NoneType not in kinds
    if section := next(filter(_is_section, kinds), None):
        return _section({} if value is None and is_required else value, section, where, problems)
    if isinstance(value, list):
        inner = [_full(one, _inner(kinds, list), f"{where}.{index}", problems) for index, one in enumerate(value)]
        return [one for one in inner if one is not _REFUSED]
    named = _inner(kinds, dict, Mapping)
    if value is None and is_required and named is not None:
        return {}
    if isinstance(value, dict):
        return _mapping(value, dict.fromkeys(value, named), where, problems)
    return _number(value, kinds, where, problems)


def _section(value: Any, section: type, where: str, problems: list[str]) -> Any:
    hints = get_type_hints(section, include_extras=True)
    keys = [name for name in hints if not name.startswith(("_", "model_config"))]
    if isinstance(value, str) and ("name" in keys or len(keys) == 1):
        value = {"name" if "name" in keys else keys[0]: value}
    return _mapping(value, hints, where, problems) if isinstance(value, Mapping) else value


def _mapping(tree: Mapping[str, Any], hints: Mapping[str, Any], where: str, problems: list[str]) -> dict[str, Any]:
    dots = f"{where}." if where else ""
    full = {
        # the path of a pool may look like a fraction
        key: value if is_pool(key) else _full(value, hints.get(key, str), f"{dots}{key}", problems)
        for key, value in tree.items()
    }
    return {key: value for key, value in full.items() if value is not _REFUSED}


def _number(value: Any, kinds: tuple[Any, ...], where: str, problems: list[str]) -> Any:
    is_numeric = bool not in kinds and bool({int, float} & set(kinds))
    if is_numeric and isinstance(value, bool):
        truth = str(value).lower()
        problems.append(f"`{where}` must be a number, got {truth} (YAML reads yes and on as true, no and off as false)")
        return _REFUSED
    if is_numeric and isinstance(value, str) and _LEADING_ZERO.fullmatch(value):
        problems.append(f"`{where}` must not begin with 0, got {value}: write {int(value)}")
        return _REFUSED
    number = parsed_number(value) if isinstance(value, str) and (is_numeric or Any in kinds or None in kinds) else None
    return value if number is None else number


def _inner(kinds: tuple[Any, ...], *containers: type) -> Any:
    """Return the type of a container's values; None if no type of the union is one."""
    return next((get_args(kind)[-1] for kind in kinds if get_origin(kind) in containers), None)


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and (dataclasses.is_dataclass(kind) or issubclass(kind, BaseModel))


def _kinds(hint: Any) -> tuple[Any, ...]:
    """Return the types of a union, without their annotations."""
    if get_origin(hint) is Annotated:
        return _kinds(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return tuple(kind for one in get_args(hint) for kind in _kinds(one))
    return (hint,)
