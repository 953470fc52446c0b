"""Nested values by their dotted keys."""

from __future__ import annotations

from analysis.data.nested import flat


def test_keys_are_joined_by_dots_and_an_empty_mapping_is_a_value() -> None:
    tree = {"a": {"b": 1, "c": {"d": [2, {"e": 3}]}}, "f": {}, "g": None}
    assert flat(tree) == {"a.b": 1, "a.c.d": [2, {"e": 3}], "f": {}, "g": None}
    assert flat({}) == {}
