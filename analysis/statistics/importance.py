"""Importances of the settings within each method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.fronts.objectives import objective
from analysis.method_styles import short_name

LEAST = 20
"""Fewest trials from which an importance is computed."""


@dataclass(frozen=True, kw_only=True)
class MethodImportance:
    """Importances within one method.

    Args:
        method: The method.
        trials: Number of trials used; without shares, the number of sound trials.
        independent: Whether those trials were all proposed independently of results.
        shares: Main effects by objective, or `NEAR_FRONT`, and hyperparameter, in [0, 1]; empty where trials are too
            few.
    """

    method: str
    trials: int
    independent: bool
    shares: Mapping[str, Mapping[str, float]]


NEAR_FRONT = "front_rank"
"""Beside the objectives: the trials' rank by their distance to the front."""


def target_label(name: str, /) -> str:
    """Return what importances are computed for, in words: an objective, or `NEAR_FRONT`."""
    if name == NEAR_FRONT:
        return "rank by distance to the front (val)"
    entry = objective(name)
    return f"{entry.label} ({entry.split})"


def ranks(distances: np.ndarray, /) -> np.ndarray:
    """Return the ranks of trials by distance, from 0 for the nearest; equal ones share their mean rank."""
    from scipy import stats

    return np.asarray(stats.rankdata(distances) - 1.0)


def setting_name(column: str, /) -> str:
    """Return the name of a setting's column in texts."""
    return "training radius ε" if column == "train_epsilon" else column.removeprefix("param.").replace("_", " ")


def settings_within(importance: MethodImportance, /) -> list[str]:
    """Return the columns of a method's settings that have a share, the largest mean share first."""
    means: dict[str, float] = {}
    for shares in importance.shares.values():
        for name, share in shares.items():
            means[name] = means.get(name, 0.0) + share
    return sorted(means, key=lambda name: (-means[name], name))


def sample_words(importance: MethodImportance, /) -> str:
    """Describe the trials behind a method's shares: "n = 40", or "n = 40, including the sampler's proposals"."""
    return f"n = {importance.trials}" + ("" if importance.independent else ", including the sampler's proposals")


def too_few(importances: Sequence[MethodImportance], /) -> str:
    """Name the methods without shares and their numbers of sound trials; empty for none."""
    named = [
        f"{short_name(importance.method)} ({importance.trials})" for importance in importances if not importance.shares
    ]
    listed = ", ".join(named)
    return (
        f"no shares for methods with fewer than {LEAST} sound trials or no setting that varies: {listed}"
        if named
        else ""
    )
