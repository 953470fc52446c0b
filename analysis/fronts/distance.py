"""How far trials are behind the front."""

from __future__ import annotations

import numpy as np

from analysis.data.results import Table
from analysis.fronts.front import feasible, front_of
from analysis.fronts.objectives import FRONT, directions, values


def front_distance(table: Table, /) -> np.ndarray:
    """Return how far each feasible row is behind the front of clean and robust accuracy, shape (n,); 0 for its members.

    It is the least Euclidean length of gains in the two accuracies with which a row would be as good as some member in
    both, in units of the range that the front spans in that accuracy (of 1 where it spans none). A row that ties with a
    member in one accuracy is as far behind as it is in the other.

    Args:
        table: Result rows.

    Returns:
        NaN for rows that are infeasible or not measured.

    Raises:
        MixedStudiesError: The rows differ in what they measure; see `require_like_for_like`.

    Source: Ishibuchi et al. 2015, "Modified Distance Calculation in Generational Distance and Inverted Generational
    Distance": the distance of IGD+.
    """
    signs = np.where(directions(FRONT), 1.0, -1.0)
    points = signs * np.where(feasible(table)[:, None], values(table, FRONT), np.nan)
    members = signs * values(front_of(table), FRONT)
    if not len(members):
        return np.full(len(points), np.nan)
    extent = np.ptp(members, axis=0)
    lacking = (members[None, :, :] - points[:, None, :]).clip(min=0.0) / np.where(extent > 0, extent, 1.0)
    return np.asarray(np.linalg.norm(lacking, axis=2).min(axis=1))
