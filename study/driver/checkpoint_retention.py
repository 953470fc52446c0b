"""Which trials' checkpoints are kept, and the deletion of the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analysis.fronts.objectives import FRONT, directions, is_feasible, values
from trainables.checkpoints.files import folders, join, remove_folder

Rule = Literal["all", "contenders", "front"]

MARGIN = 0.05
"""A trial that another trial beats by more than this in every objective is not a contender."""


class CheckpointRetention:
    """Deletes checkpoints that the rule does not keep as trials end, never those of a trial on the front.

    Args:
        rule: `all`, `contenders` or `front`.
        objectives: Objectives of the search. A trial must be beaten in these and in the front's own.
        remove: Deletes the checkpoints of a trial, given its id.
        rows: Result rows of the trials that ended before.
        existing: Ids of the trials that have checkpoints. Those of ended trials that the rule does not keep are
            deleted: the rule may have changed, or a driver may have died before it deleted them.
    """

    def __init__(
        self,
        rule: Rule,
        /,
        *,
        objectives: Sequence[str],
        remove: Callable[[str], object],
        rows: Iterable[Mapping[str, Any]] = (),
        existing: Iterable[str] = (),
    ) -> None:
        self._rule = rule
        self._names = list(dict.fromkeys([*FRONT, *objectives]))
        self._signs = np.where(directions(self._names), 1.0, -1.0)
        self._remove = remove
        self._kept: dict[str, NDArray[np.float64]] = {}
        self._best: dict[str, NDArray[np.float64]] = {}
        ended = set()
        for row in rows:
            self._add(row)
            ended.add(row["trial_id"])
        self._drop_beaten()
        for trial_id in sorted((ended - self._kept.keys()).intersection(existing)) if rule != "all" else ():
            remove(trial_id)

    def ended(self, row: Mapping[str, Any], /) -> None:
        """Add a trial that ended, and delete what the rule no longer keeps."""
        if self._rule == "all":
            return
        if not self._add(row):
            self._remove(row["trial_id"])
        for trial_id in self._drop_beaten():
            self._remove(trial_id)

    def _add(self, row: Mapping[str, Any]) -> bool:
        """Add a trial to those that are kept, and return False for one that cannot be."""
        if row["status"] == "failed":
            return False
        point = self._signs * values(row, self._names)
        feasible = is_feasible(row)
        if not np.isfinite(point).all() or (self._rule == "front" and not feasible):
            return False
        self._kept[row["trial_id"]] = point
        if feasible:
            best = {trial_id: other for trial_id, other in self._best.items() if not _dominates(point, other)}
            if not any(_dominates(other, point) for other in best.values()):
                self._best = {**best, row["trial_id"]: point}
        return True

    def _drop_beaten(self) -> list[str]:
        """Drop the trials that are no longer kept, and return their ids."""
        if not self._best:
            return []
        best = np.stack(list(self._best.values()))
        beaten = [
            trial_id
            for trial_id, point in self._kept.items()
            if trial_id not in self._best and self._is_beaten(point, best)
        ]
        for trial_id in beaten:
            del self._kept[trial_id]
        return beaten

    def _is_beaten(self, point: NDArray[np.float64], best: NDArray[np.float64]) -> bool:
        if self._rule == "contenders":
            return bool((best > point + MARGIN).all(axis=1).any())
        axes = len(FRONT)  # dominance on the front's objectives alone: a trial that ties with a member is on it too
        return any(_dominates(other[:axes], point[:axes]) for other in best)


def _dominates(left: NDArray[np.float64], right: NDArray[np.float64]) -> bool:
    return bool((left >= right).all() and (left > right).any())


logger = logging.getLogger(__name__)

CLOSE_SECONDS = 20.0
"""Longest wait for outstanding deletions when a driver ends; `resume` does the rest."""


class Deletions:
    """Deletes folders under one root in a background thread, one after the other.

    Args:
        root: A path or an object store's URL.
    """

    def __init__(self, root: Path | str) -> None:
        self._root = root
        self._thread = ThreadPoolExecutor(1, "deletions")
        self._last: Future[None] | None = None

    def __enter__(self) -> Deletions:
        return self

    def __exit__(self, *error: object) -> None:
        if self._last is not None:
            wait([self._last], CLOSE_SECONDS)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def __call__(self, folder: str, /) -> None:
        """Queue a folder for deletion; one that cannot be deleted stays."""
        self._last = self._thread.submit(delete, join(self._root, folder))

    def existing(self) -> list[str]:
        """Return the names of the folders under the root; none when it cannot be listed."""
        try:
            return folders(self._root)
        except OSError:
            logger.debug("%s cannot be listed", self._root, exc_info=True)
            return []


def delete(folder: Path | str, /) -> None:
    """Delete a folder, or leave it when it cannot be deleted."""
    try:
        remove_folder(folder)
    except OSError:
        logger.debug("%s could not be deleted", folder, exc_info=True)
