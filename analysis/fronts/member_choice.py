"""A front's knee, its member nearest to a target or most robust at a clean floor, and each group's own front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from analysis.data.results import Table
from analysis.fronts.front import front_of
from analysis.fronts.objectives import FRONT, directions, values

_AUGMENTATION = 1e-3

CLEAN_COST = 0.05
"""Clean accuracy that the default clean floor allows to lose against the best."""


@dataclass(frozen=True, kw_only=True)
class AtFloor:
    """The most robust member of a front among those whose clean accuracy reaches a floor.

    Args:
        index: Its index among the points.
        clean: Its clean accuracy.
        robust: Its robust accuracy.
        floor: The floor of the clean accuracy.
    """

    index: int
    clean: float
    robust: float
    floor: float

    def __str__(self) -> str:
        return f"robust {self.robust:.3f} at clean ≥ {self.floor:.2f}"


def best_at_floor(points: ArrayLike, /, *, floor: float | None = None) -> AtFloor | None:
    """Return the most robust point among those whose clean accuracy is at least `floor`.

    Args:
        points: Clean and robust accuracies, shape (n, 2), fractions; those with NaN are left out.
        floor: Least clean accuracy; when None, the best one less `CLEAN_COST`, rounded down to a whole percent.

    Returns:
        None when no point reaches the floor. Of equal points the one with more clean accuracy, then the first.

    Examples:
        >>> from analysis.fronts.member_choice import best_at_floor
        >>> best = best_at_floor([(0.98, 0.1), (0.94, 0.6), (0.8, 0.7)])
        >>> best.floor, best.index, best.robust
        (0.93, 1, 0.6)
    """
    array = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    complete = ~np.isnan(array).any(axis=1)
    if not complete.any():
        return None
    if floor is None:
        # rounded first: 0.98 - 0.05 is just below 0.93 as a float
        floor = math.floor(round((array[complete, 0].max() - CLEAN_COST) * 100, 6)) / 100
    clean, robust = array.T
    reaching = np.flatnonzero(complete & (clean >= floor))
    if not len(reaching):
        return None
    index = int(reaching[np.lexsort([reaching, -clean[reaching], -robust[reaching]])[0]])
    return AtFloor(index=index, clean=float(clean[index]), robust=float(robust[index]), floor=floor)


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
