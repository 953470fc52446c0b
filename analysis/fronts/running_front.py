"""The front of a study whose trials end one after another, with its hypervolume and its best robust accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.fronts.front import hypervolume, reference_point
from analysis.fronts.member_choice import AtFloor, best_at_floor
from analysis.fronts.objectives import FRONT, directions, is_feasible, values


class RunningFront:
    """The front of the rows added so far; `front_of` gives the same members for a whole table.

    The time for a row grows with the front, not with the study.

    Args:
        reference: Reference values of the hypervolume, by objective; the objective's own where not given.
    """

    def __init__(self, *, reference: Mapping[str, float] | None = None) -> None:
        self._reference = reference_point(FRONT, fixed=reference)
        self._ids: list[str] = []
        self._points = np.empty((0, len(FRONT)))
        self._hypervolume = 0.0

    def __len__(self) -> int:
        """Return the number of members."""
        return len(self._ids)

    @property
    def trial_ids(self) -> list[str]:
        """The ids of the members, in the order in which they were added."""
        return list(self._ids)

    @property
    def points(self) -> np.ndarray:
        """The members' clean and robust accuracies, shape (n, 2), in the same order."""
        return self._points.copy()

    @property
    def hypervolume(self) -> float:
        """The hypervolume, 0 without members."""
        return self._hypervolume

    @property
    def best(self) -> AtFloor | None:
        """The most robust member among those of high clean accuracy; None without members."""
        return best_at_floor(self._points) if self._ids else None

    def add(self, row: Mapping[str, Any], /) -> bool:
        """Add a result row; return whether it has changed the front."""
        if not is_feasible(row):
            return False
        point = values(row, FRONT)
        if np.isnan(point).any():
            return False
        signs = np.where(directions(FRONT), 1.0, -1.0)
        gain, gains = point * signs, self._points * signs
        if ((gains >= gain).all(axis=1) & (gains > gain).any(axis=1)).any():
            return False
        kept = np.asarray(~((gains <= gain).all(axis=1) & (gains < gain).any(axis=1)))
        self._ids = [name for name, keep in zip(self._ids, kept, strict=True) if keep] + [row["trial_id"]]
        self._points = np.vstack([self._points[kept], point])
        self._hypervolume = hypervolume(self._points, reference=self._reference, maximise=directions(FRONT)).value
        return True
