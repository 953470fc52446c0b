"""Data sets as whole uint8 arrays with fixed splits; importing this loads no array library."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.data.roots import ROOT_VARIABLE, DataError, DataNotFoundError, data_root, expanded
from trainables.registry import OwnCodeError, Registry, calling, must_return, takes

if TYPE_CHECKING:
    from trainables.data.base import ImageData, Loader, RawImages
    from trainables.spec import DatasetSpec

__all__ = ["DATASETS", "ROOT_VARIABLE", "DataError", "DataNotFoundError", "check_available", "load_dataset", "load_raw"]

DATASETS = Registry(
    "data set",
    {
        "digits": "trainables.data.digits:digits",
        "mnist": "trainables.data.torchvision_sets:mnist",
        "fashion_mnist": "trainables.data.torchvision_sets:fashion_mnist",
        "cifar10": "trainables.data.torchvision_sets:cifar10",
        "svhn": "trainables.data.torchvision_sets:svhn",
        "restricted_imagenet": "trainables.data.restricted_imagenet:restricted_imagenet",
        "synthetic_separated": "trainables.data.synthetic:synthetic_separated",
    },
    check=takes(1),
    others=["the path of a folder of Parquet files"],
)


def load_dataset(spec: DatasetSpec, /) -> ImageData:
    """Read a data set and cut its fixed splits.

    Args:
        spec: Its name is a registered one, `package.module:object` for a loader of your own, or a folder of Parquet
            files (relative to the working folder, or else to the data root).

    Raises:
        UnknownNameError: The name is unknown.
        DataNotFoundError: The data root or files are missing; the message says what to put where.
        DataError: Files have another format, a loader of your own failed, or sizes contradict the spec.
    """
    from trainables.data.splits import split

    raw, name = load_raw(spec.name, root=spec.root)
    return split(raw, name=name, val_fraction=spec.val_fraction, train_size=spec.train_size)


def load_raw(name: str, /, *, root: str | None) -> tuple[RawImages, str]:
    """Read a data set with its source's own splits, and return it with its name in results.

    Args:
        name: See `load_dataset`.
        root: Folder with the data set's files, as `DatasetSpec.root`.

    Raises:
        UnknownNameError: The name is unknown.
        DataNotFoundError: The data root or files are missing; the message says what to put where.
        DataError: Files have another format, or a loader of your own failed or returned something else than images.
    """
    from trainables.data.base import RawImages

    folder = data_root(root)
    loader, name = _resolve(name, folder)
    given = f"the data root {folder}"
    try:
        _check(loader, name, folder)
        with calling(DATASETS.kind, name, given):
            raw = loader(folder)
        if not isinstance(raw, RawImages):
            required = f"trainables.data.base.RawImages, got {type(raw).__name__}"
            raise must_return(DATASETS.kind, name, given, required)
    except OwnCodeError as error:
        raise DataError(str(error)) from error
    return raw, name


def check_available(spec: DatasetSpec, /) -> None:
    """Make sure that `load_dataset` will find its files, and download missing ones where possible.

    No pixels are read; if the files exist, it takes milliseconds.

    Raises:
        UnknownNameError: The name is unknown.
        DataNotFoundError: The data root or files are missing; the message says what to put where.
    """
    root = data_root(spec.root)
    loader, name = _resolve(spec.name, root)
    _check(loader, name, root)


def _check(loader: Loader, name: str, root: Path) -> None:
    check = getattr(loader, "check", None)
    if check is not None:
        with calling(DATASETS.kind, name, f"the data root {root}, by its `check`"):
            check(root)


def _resolve(name: str, root: Path) -> tuple[Loader, str]:
    if name in DATASETS:
        return DATASETS.load(name), name
    folders = [folder for folder in (expanded(name), root / name) if folder.is_dir()]
    if folders:
        from trainables.data.parquet import ParquetSet

        return ParquetSet(folders[0]), folders[0].resolve().name
    if os.sep in name:
        raise DataNotFoundError(f"`dataset.name` must be a registered data set or an existing folder, got {name}")
    return DATASETS.load(name), name
