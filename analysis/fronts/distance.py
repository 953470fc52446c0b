"""How far trials are behind the front."""

from __future__ import annotations

import numpy as np

from analysis.data.results import Table
from analysis.fronts.front import feasible, front_of
from analysis.fronts.objectives import FRONT, directions, values


def front_distance(table: Table, /) -> np.ndarray:
    """Return how far each feasible row is behind the front of clean and robust accuracy, shape (n,); 0 on it.

    It is the smallest d such that no member is better in both accuracies once d is added to each, in units of the range
    that the front spans in that accuracy (of 1 where it spans none): the additive epsilon of the row.

    Args:
        table: Result rows.

    Returns:
        NaN for rows that are infeasible or not measured.

    Raises:
        MixedStudiesError: The rows differ in what they measure; see `require_like_for_like`.

    Source: Zitzler et al. 2003, "Performance assessment of multiobjective optimizers" (the indicator).
    """
    signs = np.where(directions(FRONT), 1.0, -1.0)
    points = signs * np.where(feasible(table)[:, None], values(table, FRONT), np.nan)
    members = signs * values(front_of(table), FRONT)
    if not len(members):
        return np.full(len(points), np.nan)
    extent = np.ptp(members, axis=0)
    behind = (members[None, :, :] - points[:, None, :]) / np.where(extent > 0, extent, 1.0)
    return np.asarray(behind.min(axis=2).max(axis=1).clip(min=0.0))
