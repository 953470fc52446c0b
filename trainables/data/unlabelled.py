"""Images without their labels: of any data set, or of Parquet files that need no labels."""

from __future__ import annotations

from pathlib import Path

from trainables.data import DATASETS, DataError, DataNotFoundError, check_available, load_raw
from trainables.data.base import Pixels
from trainables.data.roots import data_root
from trainables.registry import OwnCodeError, UnknownNameError
from trainables.spec import DatasetSpec


def load_images(name: str, /, *, root: str | None) -> tuple[Pixels, int]:
    """Return all training images of a source, and the pixel value that means 1.0.

    Args:
        name: A Parquet file; a folder of Parquet files, of which train*.parquet are read, or all if there are none;
            a registered data set; or `package.module:object`. Parquet files need no labels.
        root: Data root, as `DatasetSpec.root`; relative names are also resolved against it.

    Raises:
        DataError: The source does not exist or cannot be read; the message names `pool`.
    """
    files = _parquet_files(name, root=root)
    try:
        if files:
            from trainables.data.parquet import read_images

            return read_images(files), 255
        raw, _ = load_raw(name, root=root)
    except (DataError, OwnCodeError, UnknownNameError) as error:
        raise DataError(_pool_message(error)) from error
    return raw.train_images, raw.scale


def check_images(name: str, /, *, root: str | None) -> None:
    """Make sure that `load_images` will find its files, without reading pixels.

    Raises:
        DataNotFoundError: The files are missing.
    """
    if _parquet_files(name, root=root):
        return
    try:
        check_available(DatasetSpec(name=name, root=root))
    except (DataError, OwnCodeError, UnknownNameError) as error:
        raise DataNotFoundError(_pool_message(error)) from error


def _parquet_files(name: str, *, root: str | None) -> list[Path]:
    if name in DATASETS:
        return []
    for path in (Path(name).expanduser(), data_root(root) / name):
        if path.is_dir():
            return sorted(path.glob("train*.parquet")) or sorted(path.glob("*.parquet"))
        if path.is_file():
            return [path]
    return []


def _pool_message(error: Exception) -> str:
    if str(error).startswith("`dataset.name` must be a registered data set"):
        return f"`pool` must be a data set, a Parquet file or a folder of them{str(error).partition(' folder')[2]}"
    return f"`pool`: {error}"
