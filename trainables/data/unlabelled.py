"""Images beside those of a trial's data set: without labels, or with their own."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainables.data import DATASETS, DataError, DataNotFoundError, check_available, load_raw
from trainables.data.base import ImageData, Integers, Pixels
from trainables.data.inspection import digests
from trainables.data.parquet_files import notes_on_files, pool_files, split_files
from trainables.data.roots import data_root, expanded
from trainables.registry import OwnCodeError, UnknownNameError
from trainables.spec import DatasetSpec


def load_images(name: str, /, *, root: str | None) -> tuple[Pixels, int]:
    """Return all training images of a source, and the pixel value that means 1.0.

    Args:
        name: A Parquet file; a folder of Parquet files, of which those of train are read, or all but those of test if
            there are none; a registered data set; or `package.module:object`. Parquet files need no labels.
        root: Data root, as `DatasetSpec.root`; relative names are also resolved against it.

    Raises:
        DataError: The source does not exist or cannot be read; the message names `pool`.
    """
    try:
        if files := _files(_place(name, root=root)):
            from trainables.data.parquet import read_images

            return read_images(files), 255
        raw, _ = load_raw(name, root=root)
    except (DataError, OwnCodeError, UnknownNameError) as error:
        raise DataError(_pool_message(error)) from error
    return raw.train_images, raw.scale


def unseen(images: Pixels, /, *, name: str, scale: int, data: ImageData, setting: str = "pool") -> NDArray[np.bool_]:
    """Return which images are identical to none in a trial's training and validation splits, (n,).

    Args:
        images: Those of a pool, (n, c, h, w).
        name: The pool, for messages.
        scale: Its pixel value that means 1.0.
        data: The trial's data.
        setting: What names the pool, for messages.

    Raises:
        DataError: The images have another shape than the data's, or all are in its splits.
    """
    if images.shape[1:] != data.image_shape:
        raise DataError(f"`{setting}` must hold images of shape {data.image_shape}, {name} has {images.shape[1:]}")
    excluded = set(digests((*data.train.images, *data.val.images), scale=data.scale))
    is_new = np.array([digest not in excluded for digest in digests(images, scale=scale)])
    if not is_new.any():
        raise DataError(f"`{setting}` must hold images that are not in the trial's splits; all {len(images)} are")
    return is_new


class Labelled(NamedTuple):
    """Further images with labels.

    Attributes:
        images: (n, c, h, w).
        labels: (n,).
        class_names: Of the labels; None where the source has none.
        scale: The pixel value that means 1.0.
    """

    images: Pixels
    labels: Integers
    class_names: tuple[str, ...] | None
    scale: int


def load_labelled(name: str, /, *, root: str | None) -> Labelled:
    """Return all training images of a source with their labels; see `load_images`, for which Parquet files need none.

    Raises:
        DataError: The source does not exist or cannot be read; the message names `extra`.
    """
    try:
        if files := _files(_place(name, root=root)):
            from trainables.data.parquet import read_labelled

            return Labelled(*read_labelled(files), 255)
        raw, _ = load_raw(name, root=root)
    except (DataError, OwnCodeError, UnknownNameError) as error:
        raise DataError(_pool_message(error, setting="extra")) from error
    return Labelled(raw.train_images, raw.train_labels, raw.class_names, raw.scale)


def new_labelled(extra: Labelled, /, *, name: str, data: ImageData) -> Labelled:
    """Return the images that are in none of a trial's splits, with the labels of the trial's data.

    Classes are matched by name, or by number where the source has no names.

    Args:
        extra: As loaded.
        name: The source, for messages.
        data: The trial's data.

    Raises:
        DataError: There are classes that the data have not, images of another shape, or no new images.
    """
    images, labels, names, scale = extra
    numbers = {known: number for number, known in enumerate(data.class_names)}
    if names is None:
        if not 0 <= labels.min() <= labels.max() < len(numbers):
            raise DataError(f"`extra` must have labels in 0..{len(numbers) - 1}, {name} has others and no class names")
    elif foreign := [known for known in names if known not in numbers]:
        raise DataError(f"`extra` must have classes of {data.name} only, {name} has {foreign[0]!r}")
    else:
        labels = np.array([numbers[known] for known in names])[labels]
    is_new = unseen(images, name=name, scale=scale, data=data, setting="extra")
    return Labelled(images[is_new], labels[is_new].astype(np.int64), data.class_names, scale)


def check_images(name: str, /, *, root: str | None) -> list[str]:
    """Make sure that `load_images` will find its files, without reading pixels; return a sentence on those left out.

    Raises:
        DataNotFoundError: The files are missing.
    """
    place = _place(name, root=root)
    if place is not None and (files := _files(place)):
        tests = [path for path in split_files(place, "test") if path.parent == files[0].parent]
        return notes_on_files(place, [*files, *tests]) if place.is_dir() else []
    try:
        check_available(DatasetSpec(name=name, root=root))
    except (DataError, OwnCodeError, UnknownNameError) as error:
        raise DataNotFoundError(_pool_message(error)) from error
    return []


def _place(name: str, *, root: str | None) -> Path | None:
    """Return the folder or file that a pool's name means; None for a data set."""
    places = () if name in DATASETS else (expanded(name), data_root(root) / name)
    return next((path for path in places if path.exists()), None)


def _files(place: Path | None) -> list[Path]:
    if place is None:
        return []
    return pool_files(place) if place.is_dir() else [place]


def _pool_message(error: Exception, *, setting: str = "pool") -> str:
    if str(error).startswith("`dataset.name` must be a registered data set"):
        return f"`{setting}` must be a data set, a Parquet file or a folder of them{str(error).partition(' folder')[2]}"
    return f"`{setting}`: {error}"
