"""A recorded config with what it predates: settings at their former values, search ranges at their former bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from study.config.schema import StudyConfig
from trainables.methods import METHODS
from trainables.settings import with_former_values

FORMER_RANGES = {"gradient_regularization.lambda": [0.001, 1.0]}
"""Default ranges of the space `core` until training had a ramp, by Optuna parameter."""


def as_recorded(tree: Any, /) -> Any:
    """Return a study's recorded config, nested, with the settings and ranges that it predates.

    Its trials go on to be proposed, trained and measured as when it was launched, not by today's defaults. What is no
    mapping is returned as it is.
    """
    filled = with_former_values(tree, StudyConfig)
    if not isinstance(tree, Mapping) or "ramp" in _section(tree, "training"):
        return filled
    search = _section(tree, "search")
    methods, named = search.get("methods", METHODS), {*_section(search, "ranges"), *_section(search, "fixed")}
    former = {
        key: bounds
        for key, bounds in FORMER_RANGES.items()
        if search.get("space") == "core" and key.partition(".")[0] in methods and not named & {key, _setting(key)}
    }
    if former:
        filled["search"] = {**search, "ranges": {**_section(search, "ranges"), **former}}
    return filled


def _section(tree: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = tree.get(name, {})
    return section if isinstance(section, Mapping) else {}


def _setting(key: str) -> str:
    return key.rpartition(".")[2]
