"""Reads YAML without its traps: equal keys, keys that are no text, loops, and numbers in the bases 8 and 60."""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_VALUES = 100_000
"""Most values of a file, each alias counted in full."""

_TEXT = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Leaves dates, 010 (8 in YAML 1.1) and 1:30 (90 there) as text, which no numeric setting takes."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own form


for _tag, _pattern, _first in (
    ("bool", "yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", "yYnNtTfFoO"),
    ("int", r"[-+]?(0|[1-9][0-9_]*|0b[01_]+|0x[0-9a-fA-F_]+)", "-+0123456789"),
    (
        "float",
        r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+][0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", "<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def parse_yaml(text: str, /) -> Any:
    """Return the content of one YAML document as plain nested values; None if it has none.

    Raises:
        ValueError: It is no valid YAML, a mapping has two equal keys or one that is no text, or an alias refers to what
            it is part of; the message begins with the line.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _size(node, {}, ())
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        parts = [getattr(error, "context", None), getattr(error, "problem", None)]
        reason = ", ".join(filter(None, parts)) or " ".join(str(error).split())
        raise ValueError(f"{_line(mark)}not valid YAML ({reason})") from error
    except RecursionError as error:
        raise ValueError("not valid YAML (too many levels)") from error
    except ValueError as error:
        if "integer string conversion" not in str(error):
            raise
        raise ValueError("not valid YAML (a number of thousands of digits)") from error


def _size(node: Node, sizes: dict[Node, int | None], inside: tuple[Node, ...]) -> int:
    """Return how many values a node has, after checking its keys."""
    if isinstance(node, ScalarNode):
        return 1
    if node in inside:
        raise ValueError(f"{_line(node.start_mark)}an alias refers to the value that it is part of")
    if (known := sizes.get(node)) is not None:
        return known
    inner = [value for _, value in node.value] if isinstance(node, MappingNode) else node.value
    if isinstance(node, MappingNode):
        _check_keys(node)
    total = 1 + sum(_size(value, sizes, (*inside, node)) for value in inner)
    if total > MAX_VALUES:
        raise ValueError(f"{_line(node.start_mark)}has more than {MAX_VALUES:,} values, each alias counted in full")
    sizes[node] = total
    return total


def _check_keys(node: MappingNode) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if isinstance(key, SequenceNode | MappingNode):
            raise ValueError(f"line {line}: a key must be text, got a list or mapping")
        if key.style is None and key.value.isdigit():
            raise ValueError(f"line {line}: a key must be text, got {key.value} (a number takes a point, not a comma)")
        if key.tag not in (_TEXT, _MERGE):
            raise ValueError(f"line {line}: a key must be text, got {key.value or 'nothing'}: put it in quotes")
        if key.value in lines:
            raise ValueError(f"the key `{key.value}` is given twice, in lines {lines[key.value]} and {line}: keep one")
        lines[key.value] = line


def _line(mark: Any) -> str:
    return "" if mark is None else f"line {mark.line + 1}: "
