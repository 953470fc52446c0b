"""Which trials' checkpoints are kept, and what disk they need."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analysis.objectives import FRONT, directions, is_feasible, values
from study.config import StudyConfig
from study.errors import UsageError

Rule = Literal["all", "contenders", "front"]

MARGIN = 0.05
"""A trial that another one beats by more than this in every objective is no contender."""

KEPT_SHARE, KEPT_AT_LEAST = 0.1, 20
"""What is reckoned to be kept of a study's checkpoints where not all are: a share of its trials, and so many."""

# measured on studies of 1,000 examples: a row's files take less than this for each measured example, and at all
_BYTES_PER_EXAMPLE, _BYTES_PER_TRIAL = 60, 40_000


class Retention:
    """Deletes checkpoints that the rule does not keep, as trials end. Never those of a trial on the front.

    Args:
        rule: `all`; `contenders`; `front`.
        objectives: Objectives of the search beyond the front's own: a trial has to be beaten in these too.
        remove: Deletes the checkpoints of a trial, by its id.
        rows: Result rows of trials that ended before.
    """

    def __init__(
        self,
        rule: Rule,
        /,
        *,
        objectives: Sequence[str],
        remove: Callable[[str], object],
        rows: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self._rule = rule
        self._names = list(dict.fromkeys([*FRONT, *objectives]))
        self._signs = np.where(directions(self._names), 1.0, -1.0)
        self._remove = remove
        self._kept: dict[str, NDArray[np.float64]] = {}
        self._best: dict[str, NDArray[np.float64]] = {}
        for row in rows:
            self._enter(row)
        self._sweep()

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


@dataclass(frozen=True)
class DiskNeed:
    """What a study needs of a disk, in bytes.

    Attributes:
        rows: Its result files.
        checkpoint: One trial's checkpoints.
        likely: Rows, and the checkpoints that the rule is reckoned to keep.
        most: Rows, and every trial's checkpoints.
    """

    rows: int
    checkpoint: int
    likely: int
    most: int


def disk_need(config: StudyConfig, /, *, checkpoint: int, val_size: int) -> DiskNeed:
    """Return what a study needs.

    Args:
        config: The study's config.
        checkpoint: Bytes of one trial's checkpoints.
        val_size: Images of the validation split.
    """
    trials = config.num_trials
    rows = trials * (_BYTES_PER_EXAMPLE * (val_size + config.evaluation.examples) + _BYTES_PER_TRIAL)
    share = max(KEPT_AT_LEAST, round(KEPT_SHARE * trials))
    kept = trials if config.storage.keep == "all" else min(trials, share)
    return DiskNeed(rows, checkpoint, rows + kept * checkpoint, rows + trials * checkpoint)


def checkpoint_bytes(weights: int, config: StudyConfig, /) -> int:
    """Return about what one trial's `last.pt` and `best.pt` take, from what its network's weights take in bytes."""
    training = config.training
    state = 2 if training.optimizer != "sgd" else int(training.momentum > 0)
    return weights * (2 + state + (training.ema is not None))


def check_disk(need: DiskNeed, folder: Path, /) -> str | None:
    """Check that a disk holds a study; return a warning where that depends on how it goes.

    Args:
        need: What the study needs.
        folder: Where it will lie; it need not be there yet.

    Raises:
        UsageError: The disk lacks even what is reckoned to be kept.
    """
    there = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if need.likely > free:
        raise UsageError(
            f"the study needs about {size_text(need.likely)} in {folder}, {size_text(need.checkpoint)} a trial for "
            f"its checkpoints, and {size_text(free)} are free: set storage.checkpoints to a larger disk, "
            "storage.keep=front, or fewer trials"
        )
    if need.most > free:
        return (
            f"the checkpoints of all trials would need {size_text(need.most)} and {size_text(free)} are free in "
            f"{folder}; storage.keep deletes those of weak trials as the study goes"
        )
    return None


def size_text(count: float, /) -> str:
    """Return bytes in a unit that suits them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _dominates(left: NDArray[np.float64], right: NDArray[np.float64]) -> bool:
    return bool((left >= right).all() and (left > right).any())
