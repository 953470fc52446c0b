"""What a study needs of the disks that its results and its checkpoints go to."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from study.config.schema import StudyConfig
from study.directory.layout import checkpoint_root
from study.errors import UsageError

KEPT_SHARE, KEPT_AT_LEAST = 0.1, 20
"""What is reckoned to be kept of a study's checkpoints where not all are: a share of its trials, and so many."""

# measured on studies of 1,000 examples: a row's files take less than this for each measured example, and at all
_BYTES_PER_EXAMPLE, _BYTES_PER_TRIAL = 60, 40_000


@dataclass(frozen=True)
class DiskNeed:
    """What a study needs of disks, in bytes.

    Attributes:
        rows: Its result files.
        checkpoint: One trial's checkpoints.
        kept: The checkpoints that the rule is reckoned to keep.
        every: Every trial's checkpoints.
    """

    rows: int
    checkpoint: int
    kept: int
    every: int


def disk_need(config: StudyConfig, /, *, trials: int, checkpoint: int, val_size: int) -> DiskNeed:
    """Return what a study needs.

    Args:
        config: The study's config.
        trials: How many are still to be run.
        checkpoint: Bytes of one trial's checkpoints.
        val_size: Images of the validation split.
    """
    rows = trials * (_BYTES_PER_EXAMPLE * (val_size + config.evaluation.examples) + _BYTES_PER_TRIAL)
    share = max(KEPT_AT_LEAST, round(KEPT_SHARE * trials))
    kept = trials if config.storage.keep == "all" else min(trials, share)
    return DiskNeed(rows, checkpoint, kept * checkpoint, trials * checkpoint)


def checkpoint_bytes(weights: int, config: StudyConfig, /) -> int:
    """Return about what one trial's `last.pt` and `best.pt` take, from what its network's weights take in bytes."""
    training = config.training
    state = 2 if training.optimizer != "sgd" else int(training.momentum > 0)
    return weights * (2 + state + (training.ema is not None))


def check_disk(need: DiskNeed, config: StudyConfig, study_dir: Path, /) -> str | None:
    """Check that the disks hold a study; return a warning where that depends on how it goes.

    Args:
        need: What the study needs.
        config: The study's config; of checkpoints in an object store nothing is checked.
        study_dir: Where its results will lie; it need not be there yet.

    Raises:
        UsageError: A disk lacks even what is reckoned to be kept.
    """
    root = checkpoint_root(config, study_dir)
    if isinstance(root, str):
        _require_room(need.rows, study_dir)
        return None
    results, checkpoints = _there(study_dir), _there(root)
    rows = need.rows
    if _device(results) != _device(checkpoints):
        _require_room(rows, study_dir)
        rows = 0
    free = shutil.disk_usage(checkpoints).free
    if rows + need.kept > free:
        fewer = "storage.keep=contenders, " if config.storage.keep == "all" else ""
        raise UsageError(
            f"the study needs about {size_text(rows + need.kept)} in {root if not rows else study_dir}, "
            f"{size_text(need.checkpoint)} a trial for its checkpoints, and {size_text(free)} are free: "
            f"set storage.checkpoints to a larger disk or an object store, {fewer}or fewer trials"
        )
    if rows + need.every > free:
        return (
            f"the checkpoints of all trials would need {size_text(need.every)} and {size_text(free)} are free in "
            f"{root}; storage.keep deletes those of weak trials as the study goes"
        )
    return None


def size_text(count: float, /) -> str:
    """Return bytes in a unit that suits them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _require_room(rows: int, study_dir: Path) -> None:
    free = shutil.disk_usage(_there(study_dir)).free
    if rows > free:
        raise UsageError(
            f"the study's results need about {size_text(rows)} in {study_dir}, and {size_text(free)} are free: "
            "choose --out on a larger disk, or fewer trials"
        )


def _device(path: Path) -> int:
    return os.stat(path).st_dev


def _there(folder: Path) -> Path:
    return next(path for path in (folder, *folder.resolve().parents) if path.exists())
