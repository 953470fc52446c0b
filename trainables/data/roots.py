"""Folders of data sets, and the errors of data that is missing or unusable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT_VARIABLE = "ROBUST_STUDY_DATA"


class DataError(ValueError):
    """A data set cannot be used; the message says what is wrong and what is required."""


class DataNotFoundError(DataError):
    """Files of a data set are missing; the message names the folder to fill."""


@contextmanager
def naming(source: object, /) -> Iterator[None]:
    """Put a data set's name or folder before the message of a `DataError` in the block."""
    try:
        yield
    except DataError as error:
        raise type(error)(f"{source}: {error}") from error


def expanded(path: Path | str, /) -> Path:
    """Return a path with ~ replaced by the home folder; as in a shell, ~NAME of an unknown user stays as it is."""
    return Path(os.path.expanduser(path))


def data_root(explicit: str | None, /) -> Path:
    """Return the folder of data sets.

    Args:
        explicit: `dataset.root`; None means the environment variable ROBUST_STUDY_DATA, or else a per-user cache
            folder.

    Raises:
        DataNotFoundError: `explicit` is not an existing folder.
    """
    if explicit is not None:
        root = expanded(explicit)
        if not root.is_dir():
            raise DataNotFoundError(f"`dataset.root` must be an existing folder, got {root}")
        return root
    from_environment = os.environ.get(ROOT_VARIABLE)
    return expanded(from_environment) if from_environment else _cache_root()


def require_root(root: Path, /) -> Path:
    """Return `root` if it exists; only the per-user cache folder is created.

    Data sets that read files call this; embedded ones ignore the root.

    Raises:
        DataNotFoundError: `root` is not a folder.
    """
    if root == _cache_root():
        return cache_folder()
    if not root.is_dir():
        raise DataNotFoundError(f"data folder {root} does not exist (set by `dataset.root` or {ROOT_VARIABLE})")
    return root


def cache_folder(kind: str = "data") -> Path:
    """Return the per-user cache folder for data, or for another kind of reproducible files; create it if missing."""
    folder = _cache_root(kind)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _cache_root(kind: str = "data") -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "robust-study" / kind
