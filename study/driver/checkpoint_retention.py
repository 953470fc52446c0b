"""Which trials' checkpoints are kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analysis.fronts.objectives import FRONT, directions, is_feasible, values
from trainables.checkpoints.files import folders, join, remove_folder

Rule = Literal["all", "contenders", "front"]

MARGIN = 0.05
"""A trial that another one beats by more than this in every objective is no contender."""


class CheckpointRetention:
    """Deletes checkpoints that the rule does not keep, as trials end. Never those of a trial on the front.

    Args:
        rule: `all`; `contenders`; `front`.
        objectives: Objectives of the search beyond the front's own: a trial has to be beaten in these too.
        remove: Deletes the checkpoints of a trial, by its id.
        rows: Result rows of trials that ended before.
        there: Ids of the trials that have checkpoints. What the rule does not keep of those that ended before is
            deleted: the rule may have changed, or a driver may have died before it had deleted them.
    """

    def __init__(
        self,
        rule: Rule,
        /,
        *,
        objectives: Sequence[str],
        remove: Callable[[str], object],
        rows: Iterable[Mapping[str, Any]] = (),
        there: Iterable[str] = (),
    ) -> None:
        self._rule = rule
        self._names = list(dict.fromkeys([*FRONT, *objectives]))
        self._signs = np.where(directions(self._names), 1.0, -1.0)
        self._remove = remove
        self._kept: dict[str, NDArray[np.float64]] = {}
        self._best: dict[str, NDArray[np.float64]] = {}
        before = set()
        for row in rows:
            self._enter(row)
            before.add(row["trial_id"])
        self._sweep()
        for trial in sorted((before - self._kept.keys()).intersection(there)) if rule != "all" else ():
            remove(trial)

    def ended(self, row: Mapping[str, Any], /) -> None:
        """Take a trial that ended, and delete what the rule no longer keeps."""
        if self._rule == "all":
            return
        if not self._enter(row):
            self._remove(row["trial_id"])
        for trial in self._sweep():
            self._remove(trial)

    def _enter(self, row: Mapping[str, Any]) -> bool:
        """Return whether the trial may be kept at all."""
        if row["status"] == "failed":
            return False
        point = self._signs * values(row, self._names)
        feasible = is_feasible(row)
        if not np.isfinite(point).all() or (self._rule == "front" and not feasible):
            return False
        self._kept[row["trial_id"]] = point
        if feasible:
            front = {name: there for name, there in self._best.items() if not _dominates(point, there)}
            if not any(_dominates(there, point) for there in front.values()):
                self._best = {**front, row["trial_id"]: point}
        return True

    def _sweep(self) -> list[str]:
        """Forget the trials that are not kept any more, and return them."""
        if not self._best:
            return []
        best = np.stack(list(self._best.values()))
        gone = [name for name, point in self._kept.items() if name not in self._best and self._is_beaten(point, best)]
        for name in gone:
            del self._kept[name]
        return gone

    def _is_beaten(self, point: NDArray[np.float64], best: NDArray[np.float64]) -> bool:
        if self._rule == "contenders":
            return bool((best > point + MARGIN).all(axis=1).any())
        two = len(FRONT)  # a trial that ties with another on the front is on it too
        return any(_dominates(other[:two], point[:two]) for other in best)


def _dominates(left: NDArray[np.float64], right: NDArray[np.float64]) -> bool:
    return bool((left >= right).all() and (left > right).any())


logger = logging.getLogger(__name__)

CLOSE_SECONDS = 20.0
"""Longest wait for what is left to delete when a driver ends; `resume` deletes the rest."""


class Deletions:
    """Deletes folders of one place, one after the other, in a thread.

    Args:
        root: The place: a path or an object store's URL.
    """

    def __init__(self, root: Path | str) -> None:
        self._root = root
        self._thread = ThreadPoolExecutor(1, "deletions")
        self._last: Future[None] | None = None

    def __enter__(self) -> Deletions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._last is not None:
            wait([self._last], CLOSE_SECONDS)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def __call__(self, folder: str, /) -> None:
        """Have a folder deleted; what fails is left there."""
        self._last = self._thread.submit(delete, join(self._root, folder))

    def there(self) -> list[str]:
        """Return the folders that are there now; none when the place does not answer."""
        try:
            return folders(self._root)
        except OSError:
            logger.debug("%s cannot be listed", self._root, exc_info=True)
            return []


def delete(folder: Path | str, /) -> None:
    """Delete a folder that is not needed; it stays when it cannot be deleted."""
    try:
        remove_folder(folder)
    except OSError:
        logger.debug("%s could not be deleted", folder, exc_info=True)
