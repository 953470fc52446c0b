"""How much disk space a study needs for its results and its checkpoints."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from study.config.schema import StudyConfig
from study.directory.checkpoint_folder import checkpoint_root
from study.errors import UsageError

KEPT_SHARE, KEPT_AT_LEAST = 0.1, 20
"""Share of the trials, and their smallest number, whose checkpoints are expected to be kept where not all are."""

# upper bounds of a trial's result files per measured example and per trial, measured on studies of 1,000 examples
_BYTES_PER_EXAMPLE, _BYTES_PER_TRIAL = 60, 40_000


@dataclass(frozen=True)
class DiskNeed:
    """Disk space that a study needs, in bytes.

    Attributes:
        rows: Size of its result files.
        checkpoint: Size of one trial's checkpoints.
        kept: Size of the checkpoints that `storage.keep` is expected to keep.
        every: Size of all trials' checkpoints.
    """

    rows: int
    checkpoint: int
    kept: int
    every: int


def disk_need(config: StudyConfig, /, *, trials: int, checkpoint: int, val_size: int) -> DiskNeed:
    """Return the disk space that a study needs.

    Args:
        config: The study's config.
        trials: Number of trials still to be run.
        checkpoint: Size of one trial's checkpoints in bytes.
        val_size: Number of images in the validation split.
    """
    rows = trials * (_BYTES_PER_EXAMPLE * (val_size + config.evaluation.examples) + _BYTES_PER_TRIAL)
    share = max(KEPT_AT_LEAST, round(KEPT_SHARE * trials))
    kept = trials if config.storage.keep == "all" else min(trials, share)
    return DiskNeed(rows, checkpoint, kept * checkpoint, trials * checkpoint)


def checkpoint_bytes(weights: int, config: StudyConfig, /) -> int:
    """Return the approximate size of one trial's `last.pt` and `best.pt`, from its network's weights; all in bytes."""
    training = config.training
    state = 2 if training.optimizer != "sgd" else int(training.momentum > 0)
    return weights * (2 + state + (training.ema is not None))


def check_disk(need: DiskNeed, config: StudyConfig, study_dir: Path, /) -> str | None:
    """Check that the disks have room for a study; return a warning where that depends on what is kept.

    Args:
        need: The space that the study needs.
        config: The study's config. Space in an object store is not checked.
        study_dir: The study's folder, which need not exist yet.

    Raises:
        UsageError: A disk has too little space even for the checkpoints that are expected to be kept.
    """
    root = checkpoint_root(config, study_dir)
    if isinstance(root, str):
        _require_room(need.rows, study_dir)
        return None
    results, checkpoints = existing(study_dir), existing(root)
    rows = need.rows
    if _device(results) != _device(checkpoints):
        _require_room(rows, study_dir)
        rows = 0
    free = shutil.disk_usage(checkpoints).free
    if rows + need.kept > free:
        fewer = "storage.keep=contenders, " if config.storage.keep == "all" else ""
        raise UsageError(
            f"the study needs about {size_text(rows + need.kept)} in {root if not rows else study_dir}, "
            f"{size_text(need.checkpoint)} per trial for checkpoints, but only {size_text(free)} are free: "
            f"set storage.checkpoints to a larger disk or an object store, {fewer}or fewer trials"
        )
    if rows + need.every > free:
        return (
            f"the checkpoints of all trials would need {size_text(need.every)}, but only {size_text(free)} are free in "
            f"{root}; storage.keep deletes those of weak trials while the study runs"
        )
    return None


def size_text(count: float, /) -> str:
    """Return a number of bytes as text in a suitable unit, such as `20 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _require_room(rows: int, study_dir: Path) -> None:
    free = shutil.disk_usage(existing(study_dir)).free
    if rows > free:
        raise UsageError(
            f"the study's results need about {size_text(rows)} in {study_dir}, but only {size_text(free)} are free: "
            "choose --out on a larger disk, or fewer trials"
        )


def _device(path: Path) -> int:
    return os.stat(path).st_dev


def existing(path: Path, /) -> Path:
    """Return a path or its nearest parent that exists."""
    # os.path.exists, not Path's: it is False, and raises nothing, below a folder that may not be read
    return next(folder for folder in (path, *path.resolve().parents) if os.path.exists(folder))
