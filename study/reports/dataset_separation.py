"""The separation of a study's data set: read if it was measured, measured if that takes only a moment."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from study.console import notes, quoted
from study.directory.layout import is_study

_CUT = re.compile(r"-(train|test)\d+$")
_LARGEST = 4000
"""Most images whose separation is measured here: the cost grows with their square."""


def distances_of(table: Any, home: Path, /) -> Any:
    """Return the distances between the classes of a study's data set; None if unknown.

    They are read from the study's `separation/`, or from `separation/` of the working folder, where the command
    `separation` writes. If neither has them, they are measured and saved in the study's folder, provided that the data
    set is small and needs no files.

    Args:
        table: Result rows.
        home: The study's folder.

    Returns:
        Rows of the separation schema.
    """
    names, norms = (sorted(set(table[column].to_pylist())) for column in ("dataset", "norm"))
    if len(names) != 1 or len(norms) != 1:
        return None
    recorded = _recorded(names[0], norms[0], home)
    return recorded if recorded is not None else _measured(names[0], norms[0], home)


def command_for(table: Any, home: Path, /) -> str:
    """Return the command that measures the distances if `distances_of` has none."""
    return (
        f"robust-study separation {table['dataset'][0]} --norm {table['norm'][0]} --out {quoted(home / 'separation')}"
    )


def _recorded(name: str, norm: str, home: Path) -> Any:
    from analysis.data.results import read_separation
    from analysis.data.schema import ResultsError

    folders = (home / "separation", Path("separation"))
    paths = [path for folder in folders if folder.is_dir() for path in sorted(folder.glob("**/*.parquet"))]
    for path in paths:
        # distances of only some of the images do not hold for all
        if _CUT.search(path.parent.name) or path.name.startswith("."):
            continue
        try:
            distances = read_separation(path)
        except ResultsError as error:
            notes().print(f"skipped: {error}")
            continue
        names, norms = (set(distances[column].to_pylist()) for column in ("dataset", "norm"))
        if names in ({name}, {Path(name).name}) and norms == {norm}:
            return distances
    return None


def _measured(name: str, norm: str, home: Path) -> Any:
    from analysis.data.results import to_table, write_columns
    from analysis.data.schema import SEPARATION
    from study.evaluation.separation import columns
    from trainables.data import DATASETS, load_raw
    from trainables.separation.distances import measure_separation

    # a data set without `check` reads no files
    if name not in DATASETS or hasattr(DATASETS.load(name), "check"):
        return None
    raw, _ = load_raw(name, root=None)
    splits = {"train": (raw.train_images, raw.train_labels), "test": (raw.test_images, raw.test_labels)}
    if sum(len(labels) for _, labels in splits.values()) > _LARGEST:
        return None
    notes().print(f"measuring the separation of {name} ...")
    measured = columns(measure_separation(splits, norm=norm, scale=raw.scale), name=name)  # type: ignore[arg-type]
    if is_study(home):
        write_columns(home / "separation" / f"{name}-{norm}" / "distances.parquet", measured, SEPARATION, replace=True)
    return to_table(measured, SEPARATION)
