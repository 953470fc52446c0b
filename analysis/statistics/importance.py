"""What matters within each method: importances of its own settings, as data and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LEAST = 20
"""Fewest trials from which an importance is computed."""


@dataclass(frozen=True, kw_only=True)
class MethodImportance:
    """Importances within one method.

    Args:
        method: The method.
        trials: Trials that they rest on; where there are no shares, the sound trials, too few for any.
        independent: Whether the proposals of those trials did not follow results.
        shares: Main effects by objective and hyperparameter, in [0, 1]; empty where trials are too few.
    """

    method: str
    trials: int
    independent: bool
    shares: Mapping[str, Mapping[str, float]]


def setting_name(column: str, /) -> str:
    """Return a setting's column as texts name it."""
    return "training radius ε" if column == "train_epsilon" else column.removeprefix("param.").replace("_", " ")


def settings_within(one: MethodImportance, /) -> list[str]:
    """Return the columns of the settings that have a share within a method, the largest mean share first."""
    means: dict[str, float] = {}
    for shares in one.shares.values():
        for name, share in shares.items():
            means[name] = means.get(name, 0.0) + share
    return sorted(means, key=lambda name: (-means[name], name))


def sample_words(one: MethodImportance, /) -> str:
    """Return which trials a method's shares rest on, "n = 40", or with a sampler's own among them."""
    return f"n = {one.trials}" + ("" if one.independent else ", a sampler's own among them")


def too_few(found: Sequence[MethodImportance], /) -> str:
    """Return in words which methods have no shares, and how many sound trials; empty for none."""
    named = [f"{one.method} ({one.trials})" for one in found if not one.shares]
    listed = ", ".join(named)
    return f"no shares within a method of fewer than {LEAST} sound trials or none that vary: {listed}" if named else ""
