"""The knee of a front, its member nearest to a target, and the front of each group of trials."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from analysis.data.results import Table
from analysis.fronts.front import front_of
from analysis.fronts.objectives import FRONT, directions, values

_AUGMENTATION = 1e-3


def knee_point(points: ArrayLike, /, *, maximise: bool | Sequence[bool]) -> int | None:
    """Return the front's knee: the member that bulges farthest beyond the plane through the front's ends.

    Each objective is scaled to [0, 1] between the worst and best of the members; the plane is where the scaled values
    add up to 1, which in two objectives is the line between the ends.

    Args:
        points: Members of a front, shape (n, k), finite.
        maximise: Whether larger is better, for all objectives or for each.

    Returns:
        Index into `points`, the first on ties; None without a bulge: fewer than three different members, one
        objective, or a front that sags below the plane.

    Source: the bulge is that of Das, Structural Optimization 18 (1999), after scaling.
    """
    gain = _gains(points, maximise=maximise)
    if len(gain) < 3 or gain.shape[1] < 2:
        return None
    bulge = gain.sum(axis=1) - 1.0
    best = int(np.argmax(bulge))
    return best if bulge[best] > 1e-9 else None


def nearest_member(points: ArrayLike, target: Sequence[float], /, *, maximise: bool | Sequence[bool]) -> int:
    """Return the member nearest to a target: the one whose largest shortfall is smallest.

    Shortfalls are measured in units of the front's extent in each objective. If the front exceeds the target, the
    member that exceeds it most evenly is returned, so no other member dominates the result.

    Args:
        points: Members of a front, shape (n, k), n >= 1, finite.
        target: A value for each objective, in its unit.
        maximise: Whether larger is better, for all objectives or for each.

    Returns:
        Index into `points`, the first on ties.

    Raises:
        ValueError: No member, or a target of another length or not finite.

    Source: achievement scalarising function, Wierzbicki, OR Spektrum 8 (1986), augmented by 0.001 of the sum.

    Examples:
        >>> front = [(0.98, 0.1), (0.9, 0.6), (0.8, 0.7)]
        >>> rs.nearest_member(front, (0.95, 0.6), maximise=True)
        1
    """
    array = np.asarray(points, dtype=np.float64)
    goal = np.asarray(target, dtype=np.float64)
    if array.ndim != 2 or not len(array):
        raise ValueError(f"`points` must hold at least one member, shape (n, k), got shape {array.shape}")
    if goal.shape != (array.shape[1],) or not np.isfinite(goal).all():
        raise ValueError(f"`target` must be {array.shape[1]} finite numbers, got {tuple(target)}")
    extent = np.ptp(array, axis=0)
    short = np.where(maximise, goal - array, array - goal) / np.where(extent > 0, extent, 1.0)
    return int(np.argmin(short.max(axis=1) + _AUGMENTATION * short.sum(axis=1)))


def fronts_by(table: Table, column: str, /, *, objectives: Sequence[str] = FRONT) -> dict[str, Table]:
    """Return the front of each group of rows on its own, such as of each `method` or `study`.

    Args:
        table: Result rows.
        column: Column whose values define the groups.
        objectives: Names from `OBJECTIVES`.

    Returns:
        Fronts by the column's values, in order of first appearance; a group without a feasible row has no row.

    Examples:
        >>> fronts = rs.fronts_by(rs.read_studies([study_dir]), "method")
        >>> {method: front.num_rows for method, front in fronts.items()}
        {'natural': 2, 'trades': 2}
    """
    names = np.asarray(table[column].to_pylist(), dtype=object)
    return {
        str(name): front_of(table.take(np.flatnonzero(names == name)), objectives=objectives)
        for name in dict.fromkeys(names)
    }


def knee_of(front: Table, /, *, objectives: Sequence[str] = FRONT) -> str | None:
    """Return the trial id of a front's knee, None where it has none; see `knee_point`.

    Examples:
        >>> rs.knee_of(rs.front_of(rs.read_studies([study_dir])))
        't00001'
    """
    knee = knee_point(values(front, objectives), maximise=directions(objectives))
    return None if knee is None else str(front["trial_id"][knee])


def _gains(points: ArrayLike, *, maximise: bool | Sequence[bool]) -> np.ndarray:
    """Return points scaled to [0, 1] in each objective, 1 being the best; constant objectives give 0."""
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"`points` must have shape (n, k), got {array.shape}")
    if not len(array):
        return array
    if not np.isfinite(array).all():
        raise ValueError("`points` must be finite; leave out trials that are not on the front")
    better = np.where(maximise, array, -array)
    extent = np.ptp(better, axis=0)
    return np.asarray((better - better.min(axis=0)) / np.where(extent > 0, extent, 1.0))
