"""Where data sets lie on disk, and the errors that say they do not."""

from __future__ import annotations

import os
from pathlib import Path

ROOT_VARIABLE = "ROBUST_STUDY_DATA"


class DataError(ValueError):
    """A data set cannot be used as it is; the message says what is wrong and what would be right."""


class DataNotFoundError(DataError):
    """Files of a data set are not there; the message names the folder to fill."""


def data_root(explicit: str | None, /) -> Path:
    """Return the folder that data sets are looked for in.

    Args:
        explicit: `dataset.root`. When it is null the environment variable ROBUST_STUDY_DATA decides, else a
            per-user cache folder.

    Raises:
        DataNotFoundError: `explicit` is given and is no folder.
    """
    if explicit is not None:
        root = Path(explicit).expanduser()
        if not root.is_dir():
            raise DataNotFoundError(f"`dataset.root` must be an existing folder, got {root}")
        return root
    from_environment = os.environ.get(ROOT_VARIABLE)
    return Path(from_environment).expanduser() if from_environment else _cache_root()


def require_root(root: Path, /) -> Path:
    """Return `root` once it is known to exist; only the per-user cache folder is created.

    A data set that reads files calls this; an embedded one does not care where the root is.

    Raises:
        DataNotFoundError: `root` is no folder.
    """
    if root == _cache_root():
        return cache_folder()
    if not root.is_dir():
        raise DataNotFoundError(f"data folder {root} does not exist (set by `dataset.root` or {ROOT_VARIABLE})")
    return root


def cache_folder(kind: str = "data") -> Path:
    """Return the per-user cache folder for data, or for something else that can be made again, created if need be."""
    folder = _cache_root(kind)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _cache_root(kind: str = "data") -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "robust-study" / kind
