"""The growth of a study's hypervolume over its trials and its worker-hours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from analysis.data.results import Table
from analysis.fronts.front import feasible, hypervolume, reference_point, require_like_for_like
from analysis.fronts.objectives import FRONT, directions, values


@dataclass(frozen=True, kw_only=True)
class Growth:
    """The hypervolume after each trial, in the order in which trials ended.

    Args:
        trials: 1, 2, ..., shape (n,).
        hours: Worker-hours (or device-hours) spent until then by all trials, failed ones too, shape (n,); NaN from
            the first trial of unknown duration.
        volume: Hypervolume of the trials so far, shape (n,).
        reference: The reference point.
        objectives: Objectives that span the volume.
    """

    trials: np.ndarray
    hours: np.ndarray
    volume: np.ndarray
    reference: tuple[float, ...]
    objectives: tuple[str, ...]


def hypervolume_growth(
    table: Table,
    /,
    *,
    objectives: Sequence[str] = FRONT,
    reference: Mapping[str, float] | None = None,
    devices: float = 1.0,
) -> Growth:
    """Return the hypervolume of the front after each trial.

    Args:
        table: Result rows, ordered by when they ended, or by trial number if any time is unknown.
        objectives: Names from `OBJECTIVES`.
        reference: Reference values by objective; the objective's own where not given.
        devices: Devices per running trial: 1 gives worker-hours, the share of a GPU gives GPU-hours.

    Raises:
        MixedStudiesError: The rows differ in what they measure; see `require_like_for_like`.

    Examples:
        >>> growth = rs.hypervolume_growth(rs.read_studies([study_dir]))
        >>> growth.volume.round(3).tolist()
        [0.098, 0.548, 0.628, 0.628, 0.628]
    """
    require_like_for_like(table)
    seconds = table["seconds"].to_numpy(zero_copy_only=False).astype(np.float64)
    order = _order_of_ending(table, seconds)
    senses = directions(objectives)
    origin = reference_point(objectives, fixed=reference)
    points = np.where(feasible(table)[:, None], values(table, objectives), np.nan)[order]
    return Growth(
        trials=np.arange(1, len(order) + 1),
        hours=np.cumsum(seconds[order]) * devices / 3600,
        volume=_running(points, np.asarray(senses), origin),
        reference=origin,
        objectives=tuple(objectives),
    )


def _order_of_ending(table: Table, seconds: np.ndarray) -> np.ndarray:
    started = table["started_at"].to_pylist()
    numbers = table["number"].to_numpy(zero_copy_only=False)
    if any(text is None for text in started) or np.isnan(seconds).any():
        return np.argsort(numbers, kind="stable")
    ended = np.array([datetime.fromisoformat(text).timestamp() for text in started]) + seconds
    return np.lexsort([numbers, ended])


def _running(points: np.ndarray, senses: np.ndarray, origin: tuple[float, ...]) -> np.ndarray:
    """Return the hypervolume of the first 1, 2, ... points, computed only where the front changes."""
    volume = np.zeros(len(points))
    signs = np.where(senses, 1.0, -1.0)
    front = np.empty((0, points.shape[1]))
    value = 0.0
    for index, point in enumerate(points):
        gain = (point - origin) * signs
        if (gain > 0).all() and not ((front >= gain).all(axis=1)).any():
            front = np.vstack([front[~(front <= gain).all(axis=1)], gain])
            value = hypervolume(front, reference=[0.0] * len(gain), maximise=True).value
        volume[index] = value
    return volume
