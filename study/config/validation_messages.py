"""Turns pydantic's errors into one line each: the field, what was required, what was given."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, get_type_hints

from pydantic import BaseModel, ValidationError

from trainables.registry import nearest

_UNKNOWN = {"extra_forbidden", "unexpected_keyword_argument"}
_MISSING = {"missing", "missing_argument", "missing_keyword_only_argument"}

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
_PATTERNS = {
    NAME_PATTERN: "must be letters, digits, dots, dashes and underscores, at most 100, a letter or digit first: "
    "it names a folder"
}
"""A description of each pattern in the schema."""

_REQUIREMENTS = {
    "model_type": " must be a section with keys of its own",
    "dataclass_type": " must be a section with keys of its own",
    "list_type": " must be a list, such as [a, b]",
    "dict_type": " must be a mapping, such as {a: 1}",
    "too_short": " must list at least one",
}
"""What is required where pydantic raises an error of some type."""

_RANGE = " must be [low, high] or {values: [...]}"
_RANGE_KINDS = ("list[any]", "dict[str,any]")
"""The two forms of a range, each of which pydantic names in an error of its own."""


def explain(error: ValidationError, root: type) -> list[str]:
    """Return one line for every mistake in a config.

    Args:
        error: What validation raised.
        root: The schema that it was validated against. For an unknown key, its nearest valid name is suggested.
    """
    lines = []
    for problem in error.errors():
        path = [str(part) for part in problem["loc"]]
        is_range = path[-1:] in ([kind] for kind in _RANGE_KINDS)
        path = path[:-1] if is_range else path
        where = ".".join(path)
        if problem["type"] in _UNKNOWN:
            lines.append(f"unknown key `{where}`{nearest(path[-1], _keys_at(root, path[:-1]))}")
        elif problem["type"] in _MISSING:
            lines.append(f"`{where}` is required")
        elif problem["type"] == "value_error":
            first, *more = str(problem["ctx"]["error"]).split("; `")
            lines.extend(_with_section(part, path) for part in (first, *(f"`{part}" for part in more)))
        elif problem.get("ctx", {}).get("pattern") in _PATTERNS:
            lines.append(f"`{where}` {_PATTERNS[problem['ctx']['pattern']]}, got {problem['input']!r}")
        elif problem["type"] == "string_type":
            lines.append(f"`{where}` must be text, got {_text_hint(problem['input'])}")
        else:
            requirement = _RANGE if is_range else _requirement(problem["type"], problem["msg"])
            given = repr(problem["input"])
            # part of a URL may be a password
            given = "..." if "://" in given or "@" in given else given
            lines.append(f"`{where}`{requirement}, got {given}")
    return list(dict.fromkeys(lines))


def _requirement(kind: str, message: str) -> str:
    return _REQUIREMENTS[kind] if kind in _REQUIREMENTS else f": {message[:1].lower()}{message[1:]}"


def _text_hint(given: Any) -> str:
    if isinstance(given, bool):
        return f"{str(given).lower()} (YAML reads yes and on as true, no and off as false): put it in quotes"
    if isinstance(given, int | float):
        return f"the number {given}: put it in quotes"
    return "nothing" if given is None else f"a {type(given).__name__}"


def _with_section(text: str, path: list[str]) -> str:
    """Prefix the field named in a message with its section, or name the field where the message does not."""
    section = ".".join(path)
    if not section:
        return text
    return re.sub(r"^`", f"`{section}.", text) if text.startswith("`") else f"`{section}`: {text}"


def _keys_at(root: type, path: list[str]) -> list[str]:
    node: Any = root
    for part in path:
        node = get_type_hints(node).get(part)
        if node is None:
            return []
    if isinstance(node, type) and (dataclasses.is_dataclass(node) or issubclass(node, BaseModel)):
        return [name for name in get_type_hints(node) if not name.startswith(("_", "model_config"))]
    return []
