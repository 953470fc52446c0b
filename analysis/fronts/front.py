"""Non-dominated sets, the front of a study, its hypervolume, and members spread along it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import moocore
import numpy as np
from numpy.typing import ArrayLike

from analysis.data.results import Table
from analysis.data.schema import RESULT, ResultsError
from analysis.fronts.objectives import (
    FRONT,
    completed_unflagged,
    directions,
    infeasible,
    keeps_constraints,
    objective,
    values,
)

_ALLOW_MIXED = b"robust_study.allow_mixed"


class MixedStudiesError(ResultsError):
    """Rows that measure different things and so cannot share a front."""


@dataclass(frozen=True, kw_only=True)
class Hypervolume:
    """A hypervolume with its reference point.

    Args:
        value: Volume between the points and the reference, in the product of the objectives' units.
        reference: The reference point.
        points: Number of points without NaN.
        beyond: How many of them are worse than the reference in some objective; they add no volume.
    """

    value: float
    reference: tuple[float, ...]
    points: int
    beyond: int


def non_dominated(points: ArrayLike, /, *, maximise: bool | Sequence[bool]) -> np.ndarray:
    """Mark the points that no other point dominates.

    p dominates q when p is at least as good in every objective and better in one, so of equal points either all or none
    are marked. Points with NaN are not marked and dominate none; infinities are ordinary values.

    Args:
        points: Shape (n, k), k >= 1; n may be 0.
        maximise: Whether larger is better, for all objectives or for each.

    Returns:
        Boolean mask, shape (n,).

    Raises:
        ValueError: `points` is not two-dimensional, has no objective, or `maximise` has another length.

    Examples:
        >>> from analysis.fronts.front import non_dominated
        >>> non_dominated([[0.9, 0.4], [0.8, 0.6], [0.8, 0.5]], maximise=True).tolist()
        [True, True, False]
    """
    array, senses = _checked(points, maximise=maximise)
    mask = np.zeros(len(array), dtype=bool)
    complete = ~np.isnan(array).any(axis=1)
    if complete.any():
        # Dominance depends on the order alone, and moocore 0.3 errs on infinities with four objectives: give it ranks.
        ranks = np.stack([np.unique(column, return_inverse=True)[1] for column in array[complete].T], axis=1)
        mask[complete] = moocore.is_nondominated(ranks, maximise=senses, keep_weakly=True)
    return mask


def outermost(points: ArrayLike, /, *, most: int) -> np.ndarray:
    """Return indices of the `most` points nearest to the front by non-dominated layers; all if there are no more.

    Args:
        points: Larger is better, shape (n, k); those with NaN are left out.
        most: Most points; of the layer that exceeds it, the earlier points are returned.
    """
    array = np.asarray(points, dtype=np.float64)
    complete = np.flatnonzero(~np.isnan(array).any(axis=1))
    layers = moocore.pareto_rank(array[complete], maximise=True)
    return np.sort(complete[np.argsort(layers, kind="stable")[:most]])


def feasible(table: Table, /) -> np.ndarray:
    """Mark the rows that may be on a front: completed, unflagged, and meeting their own study's constraints.

    Returns:
        Boolean mask, shape (n,); `analysis.fronts.objectives.is_feasible` of each row.

    Examples:
        >>> rs.feasible(rs.read_studies([study_dir])).tolist()
        [True, True, True, True, False]
    """
    return np.asarray(completed_unflagged(table) & keeps_constraints(table))


def on_front(table: Table, /, *, objectives: Sequence[str] = FRONT) -> np.ndarray:
    """Mark the rows on the front: feasible, all objectives measured, and dominated by no such row.

    Args:
        table: Result rows.
        objectives: Names from `OBJECTIVES`.

    Returns:
        Boolean mask, shape (n,).

    Raises:
        MixedStudiesError: The rows differ in what they measure; see `require_like_for_like`.
    """
    require_like_for_like(table)
    points = np.where(feasible(table)[:, None], values(table, objectives), np.nan)
    return non_dominated(points, maximise=directions(objectives))


def on_infeasible_front(table: Table, /, *, objectives: Sequence[str] = FRONT) -> np.ndarray:
    """Mark the infeasible rows that no other infeasible row dominates, shape (n,)."""
    points = np.where(infeasible(table)[:, None], values(table, objectives), np.nan)
    return non_dominated(points, maximise=directions(objectives))


def front_of(table: Table, /, *, objectives: Sequence[str] = FRONT) -> Table:
    """Return the rows on the front, best in the first objective first; see `on_front`.

    Examples:
        >>> front = rs.front_of(rs.read_studies([study_dir]))
        >>> front["trial_id"].to_pylist()
        ['t00000', 't00001', 't00002']
    """
    members = np.flatnonzero(on_front(table, objectives=objectives))
    first = values(table, objectives[:1])[members, 0] * (-1 if directions(objectives)[0] else 1)
    return table.take(members[np.argsort(first, kind="stable")])


def hypervolume(points: ArrayLike, /, *, reference: Sequence[float], maximise: bool | Sequence[bool]) -> Hypervolume:
    """Return the volume that the points dominate, down to the reference point.

    Args:
        points: Shape (n, k); rows with NaN are left out. n may be 0: the volume is 0.
        reference: Shape (k,), finite.
        maximise: Whether larger is better, for all objectives or for each.

    Raises:
        ValueError: Shapes that do not match, or a reference that is not finite.

    Examples:
        >>> from analysis.fronts.front import hypervolume
        >>> hypervolume([[2.0, 1.0], [1.0, 2.0]], reference=(0.0, 0.0), maximise=True).value
        3.0
    """
    array, senses = _checked(points, maximise=maximise)
    origin = np.asarray(reference, dtype=np.float64)
    if origin.shape != (array.shape[1],) or not np.isfinite(origin).all():
        raise ValueError(f"`reference` must be {array.shape[1]} finite numbers, got {tuple(reference)}")
    array = array[~np.isnan(array).any(axis=1)]
    gain = np.where(senses, array - origin, origin - array)
    contributing = array[(gain > 0).all(axis=1)]
    if np.isinf(contributing).any():
        value = float("inf")
    elif len(contributing):
        value = float(moocore.hypervolume(contributing, ref=origin, maximise=senses))
    else:
        value = 0.0
    beyond = int((gain < 0).any(axis=1).sum())
    return Hypervolume(value=value, reference=tuple(map(float, origin)), points=len(array), beyond=beyond)


def reference_point(objectives: Sequence[str], /, *, fixed: Mapping[str, float] | None = None) -> tuple[float, ...]:
    """Return the reference of each objective: its value in `fixed`, else the objective's own."""
    references = fixed or {}
    return tuple(float(references.get(name, objective(name).reference)) for name in objectives)


def front_hypervolume(
    table: Table,
    /,
    *,
    objectives: Sequence[str] = FRONT,
    reference: Mapping[str, float] | None = None,
) -> Hypervolume:
    """Return the hypervolume of a table's front.

    Args:
        table: Result rows.
        objectives: Names from `OBJECTIVES`; Lipschitz ones enter as log10.
        reference: Reference values by objective, in its unit; the objective's own where not given.

    Examples:
        >>> volume = rs.front_hypervolume(rs.read_studies([study_dir]))
        >>> round(volume.value, 3), volume.reference
        (0.628, (0.0, 0.0))
    """
    members = values(front_of(table, objectives=objectives), objectives)
    origin = reference_point(objectives, fixed=reference)
    return hypervolume(members, reference=origin, maximise=directions(objectives))


def spread_along(points: ArrayLike, /, *, cap: int = 10) -> np.ndarray:
    """Choose at most `cap` points spread along a front, both ends in the first objective included.

    Starts from the ends and repeatedly adds the point farthest from those chosen (Euclidean distance, each objective
    scaled to its range). Deterministic: ties go to the earlier point.

    Args:
        points: Members of a front, shape (n, k), finite.
        cap: Most points to choose, at least 1; with 1, the middle one in the first objective is chosen.

    Returns:
        Indices into `points`, ordered by the first objective, shape (min(n, cap),).

    Raises:
        ValueError: `cap` below 1, or points that are not finite.
    """
    array, _ = _checked(points, maximise=True)
    if cap < 1:
        raise ValueError(f"`cap` must be at least 1, got {cap}")
    if not np.isfinite(array).all():
        raise ValueError("`points` must be finite; leave out trials that are not on the front")
    order = np.lexsort(array.T[::-1])
    if len(array) <= cap:
        return order
    if cap == 1:
        return order[[len(order) // 2]]
    extent = np.ptp(array, axis=0)
    scaled = (array - array.min(axis=0)) / np.where(extent > 0, extent, 1.0)
    chosen = [int(order[0]), int(order[-1])]
    gap = np.minimum(*(np.linalg.norm(scaled - scaled[end], axis=1) for end in chosen))
    gap[chosen] = -1.0
    while len(chosen) < cap:
        farthest = int(np.argmax(gap))
        chosen.append(farthest)
        gap = np.minimum(gap, np.linalg.norm(scaled - scaled[farthest], axis=1))
        gap[farthest] = -1.0
    return order[np.isin(order, chosen)]


def mixed_columns(table: Table, /) -> dict[str, list[Any]]:
    """Return the settings of the measurement that differ between rows, each with its values; empty if none does."""
    settings = {name: sorted(set(table[name].drop_null().to_pylist())) for name in RESULT.like_for_like_columns()}
    return {name: distinct for name, distinct in settings.items() if len(distinct) > 1}


def mixed_line(table: Table, /) -> str | None:
    """Return why the rows share no front, with the columns in which their measurements differ; None if they do."""
    if _ALLOW_MIXED in (table.schema.metadata or {}):
        return None
    mixed = [f"{name} ({', '.join(map(str, distinct))})" for name, distinct in mixed_columns(table).items()]
    return f"these results differ in {'; '.join(mixed)}, so they share no front" if mixed else None


def require_like_for_like(table: Table, /) -> None:
    """Check that all rows measure the same thing: data, split, threat model and effort of the attacks.

    Raises:
        MixedStudiesError: They differ, and the table is not from `with_mixed_allowed`; the message names the columns
            and their values.
    """
    if line := mixed_line(table):
        raise MixedStudiesError(f"{line}; report them separately, or combine them with --allow-mixed")


def with_mixed_allowed(table: Table, /) -> Table:
    """Return the table marked so that its rows share a front even if they were measured differently.

    Selections of its rows and columns keep the mark, so that every part of a report agrees.
    """
    return table.replace_schema_metadata({**(table.schema.metadata or {}), _ALLOW_MIXED: b"1"})


def _checked(points: ArrayLike, *, maximise: bool | Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    array = np.array(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"`points` must have shape (n, k) with k >= 1, got {array.shape}")
    senses = np.asarray(maximise, dtype=bool)
    senses = np.full(array.shape[1], senses) if senses.ndim == 0 else senses
    if senses.shape != (array.shape[1],):
        raise ValueError(f"`maximise` must be one bool or {array.shape[1]}, got {senses.size}")
    return array, senses
