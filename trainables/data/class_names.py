"""The classes of Parquet files: names from their metadata, by which labels are matched, or plain numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.base import Integers
from trainables.data.parquet_files import shown
from trainables.data.roots import DataError

LABEL_COLUMN = "label"


@dataclass(frozen=True)
class Classes:
    """What the labels of several files mean.

    Attributes:
        names: Class names by label; None if no file has any.
        orders: For each file that lists the same names in another order, the label of each of its own labels.
        notes: A sentence on each thing that a reader should know.
    """

    names: tuple[str, ...] | None = None
    orders: Mapping[Path, Integers] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def relabel(self, labels: Integers, path: Path, /) -> Integers:
        """Return a file's labels (n,) as indices of `names`.

        Raises:
            DataError: A label has no name.
        """
        if self.names is None or not len(labels):
            return labels
        if labels.min() < 0 or labels.max() >= len(self.names):
            raise DataError(
                f"{path}: labels must be in 0..{len(self.names) - 1}, because the metadata names {len(self.names)} "
                f"classes, got {labels.min()}..{labels.max()}{_unlabelled(labels)}"
            )
        return self.orders[path][labels] if path in self.orders else labels


def agreed_classes(metadata: Mapping[Path, bytes | None], /) -> Classes:
    """Return what the labels of a data set's files mean; the first file with class names sets their order.

    Args:
        metadata: Each file's metadata of the `datasets` library, in reading order; None where there is none.

    Raises:
        DataError: The metadata cannot be read, a name is repeated, or those of two files do not match one to one.
    """
    named = {path: names for path, text in metadata.items() if (names := _names(text, path))}
    if not named:
        return Classes()
    first, names = next(iter(named.items()))
    orders: dict[Path, Integers] = {}
    for path, own in named.items():
        if own != names:
            _require_same(names, own, first=first, path=path)
            orders[path] = np.array([names.index(name) for name in own], dtype=np.int64)
    if repeated := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{first}: class names in the metadata must differ, got {repeated[0]!r} more than once")
    notes = []
    if orders:
        files = shown(path.name for path in orders)
        notes.append(f"classes are in another order in {files} than in {first.name}: labels are matched by name")
    if bare := [path.name for path in metadata if path not in named]:
        notes.append(f"no class names in {shown(bare)}: labels there are taken to count the classes of {first.name}")
    return Classes(names, orders, tuple(notes))


def numbered_classes(labels: Sequence[Integers], /, *, folder: Path) -> tuple[str, ...]:
    """Return the names of classes that only have numbers: 0..K-1, each in use.

    Args:
        labels: Those of each split.
        folder: Their folder, for messages.

    Raises:
        DataError: Labels are not consecutive from 0.
    """
    values = np.unique(np.concatenate(labels))
    numbers = values[values >= 0]
    if not np.array_equal(numbers, np.arange(len(numbers))):
        remedy = "subtract 1" if np.array_equal(numbers, np.arange(1, len(numbers) + 1)) else "renumber them"
        raise DataError(
            f"{folder}: without class names, labels must be 0..{len(numbers) - 1} for {len(numbers)} classes, "
            f"got {shown(map(str, numbers.tolist()))}: {remedy}, or name the classes in the files' metadata (a "
            "`ClassLabel` feature of the `datasets` library)"
        )
    return tuple(map(str, range(len(numbers))))


def _unlabelled(labels: Integers) -> str:
    return " (-1 usually marks an image without a label: leave it out)" if labels.min() == -1 else ""


def _names(text: bytes | None, path: Path) -> tuple[str, ...] | None:
    if text is None:
        return None
    try:
        features: dict[str, Any] = json.loads(text).get("info", {}).get("features", {})
        names = features.get(LABEL_COLUMN, {}).get("names") or None
        if not isinstance(names, list | None):
            raise TypeError
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{path}: the metadata `huggingface` must be the JSON of the `datasets` library") from error
    return None if names is None else tuple(map(str, names))


def _require_same(names: tuple[str, ...], own: tuple[str, ...], *, first: Path, path: Path) -> None:
    if sorted(own) == sorted(names):
        return
    here, there = (shown(map(repr, sorted(set(a) - set(b)))) or "no other" for a, b in ((own, names), (names, own)))
    raise DataError(
        f"the class names of {path} and {first.name} must match one to one: only the first has {here}, only the second "
        f"{there}, of {len(own)} and {len(names)} names; write both files with the same `ClassLabel` feature"
    )
