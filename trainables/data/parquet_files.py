"""Which Parquet files of a folder belong to a split, by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from trainables.data.roots import DataNotFoundError

SPLITS = ("train", "test")
LAYOUT = "train.parquet and test.parquet, or files such as train-00000-of-00002.parquet"
"""What a folder must hold, in words."""

_HUB_FOLDER = "data"
# SPLIT, SPLIT_N, SPLIT-N, SPLIT-NNNNN-of-NNNNN and, as the Hub once named them, the last with a digest
_PART = r"(?:[-_]\d+(?:[-_]of[-_](?P<total>\d+)(?:-[0-9a-f]{16})?)?)?\.parquet"
_SHOWN = 5


def split_files(folder: Path, split: str, /) -> list[Path]:
    """Return the files of one split ("train" or "test"), in reading order.

    They lie in `folder` or, if it does not hold both splits, in its `data/` where the Hub keeps them.
    """
    return _of_split(_base(folder), split)


def require_splits(folder: Path, /) -> None:
    """Make sure that both splits have files.

    Raises:
        DataNotFoundError: One has none; the message names the files that are there.
    """
    for split in SPLITS:
        if not split_files(folder, split):
            others = _visible(_base(folder))
            only = f"; it holds {shown(path.name for path in others)}" if others else ""
            raise DataNotFoundError(f"{folder} must hold {LAYOUT}; no file is named like {split}.parquet{only}")


def has_parquet(folder: Path, /) -> bool:
    """Return whether `folder` holds files of both splits."""
    return all(split_files(folder, split) for split in SPLITS)


def pool_files(folder: Path, /) -> list[Path]:
    """Return the files of a folder of unlabelled images: those of train, or else all but those of test."""
    train = _of_split(folder, "train") or _of_split(folder / _HUB_FOLDER, "train")
    test = _of_split(folder, "test")
    return train or [path for path in _visible(folder) if path not in test]


def notes_on_files(folder: Path, taken: Iterable[Path], /) -> list[str]:
    """Return a sentence on the files that are left out, and one for each split of which files are missing.

    Args:
        folder: A folder of Parquet files.
        taken: Those that are read.
    """
    taken = list(taken)
    places = {folder, *(path.parent for path in taken)}
    left = [path for place in sorted(places) for path in _visible(place) if path not in taken]
    of_splits = {split: _of_split(folder, split) for split in SPLITS}
    halves = [path for files in of_splits.values() for path in files if path in left]
    others = [path.name for path in left if path not in halves]
    notes = []
    if halves:
        lacking = " and ".join(split for split, files in of_splits.items() if not files)
        names = shown(path.name for path in halves)
        notes.append(f"{names} left out: {_HUB_FOLDER}/ is read, because the folder itself has no {lacking}")
    if others:
        names = " and ".join(f"{split}.parquet" for split in SPLITS)
        notes.append(f"{shown(others)} left out: only files named like {names} are read")
    for split in SPLITS:
        whole = [path.name for path in taken if path.name == f"{split}.parquet"]
        shards = [path.name for path in taken if path.name.startswith(split) and path.name not in whole]
        if whole and shards:
            notes.append(f"{split} is read from {whole[0]} and from {shown(shards)}: move away what holds it twice")
        totals = [total for path in taken if path.name.startswith(split) and (total := _total(path))]
        notes += [
            f"{count} of the {total} files of {split} are missing"
            for total in sorted(set(totals))
            if (count := total - totals.count(total)) > 0
        ]
    return notes


def shown(names: Iterable[str], /) -> str:
    """Return names as a list in words, shortened if it is long."""
    # a file's name may hold bytes that are not UTF-8
    every = [name.encode(errors="replace").decode() for name in names]
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more


def _base(folder: Path) -> Path:
    places = (folder, folder / _HUB_FOLDER)
    return next((place for place in places if all(_of_split(place, split) for split in SPLITS)), folder)


def _of_split(folder: Path, split: str) -> list[Path]:
    return [path for path in _visible(folder) if re.fullmatch(split + _PART, path.name)]


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("."))


def _total(path: Path) -> int:
    """Return of how many files a shard is one; 0 if its name does not say."""
    match = re.fullmatch(f"(?:{'|'.join(SPLITS)}){_PART}", path.name)
    return int(match["total"] or 0) if match else 0
