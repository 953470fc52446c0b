"""Fixed splits: validation cut from the full training set, then nested subsamples of the rest."""

from __future__ import annotations

import hashlib

import numpy as np

from trainables.data.base import ImageData, Integers, RawImages, Split
from trainables.data.inspection import notes_on_images, notes_on_repeated, repeated_images
from trainables.data.roots import DataError


def split(raw: RawImages, /, *, name: str, val_fraction: float, train_size: int | None) -> ImageData:
    """Cut the fixed train, val and test splits.

    The full training set is permuted once, with the data set's own seed. Its head is the validation split, for any
    `train_size`, and the training split is a prefix of the rest, so a smaller training split is contained in a larger
    one. NumPy's compatibility policy freezes the stream of `np.random.RandomState`.

    Args:
        raw: The data set with its source's own splits.
        name: Its name in results.
        val_fraction: Share of the full training set held out for validation, in (0, 1).
        train_size: Training images to keep; None keeps all.

    Raises:
        DataError: `train_size` exceeds the number of available images, or there is only one image or class.
    """
    if len(raw.class_names) < 2:
        raise DataError(f"{name} must have at least 2 classes, got {len(raw.class_names)}")
    count = len(raw.train_labels)
    if count < 2:
        raise DataError(f"{name} must have at least 2 training images to cut a validation split, got {count}")
    num_val = min(max(round(val_fraction * count), 1), count - 1)
    available = count - num_val
    if train_size is not None and train_size > available:
        raise DataError(
            f"`dataset.train_size` must be at most {available} ({count} training images of {name} minus "
            f"{num_val} for validation), got {train_size}"
        )
    order = np.random.RandomState(raw.split_seed).permutation(count).astype(np.int64)
    train_stop = num_val + (available if train_size is None else train_size)
    train = _take(raw, order[num_val:train_stop])
    val = _take(raw, order[:num_val])
    test = Split(raw.test_images, raw.test_labels.astype(np.int64), np.arange(len(raw.test_labels)))
    splits = {"train": train, "val": val, "test": test}
    repeated = repeated_images({name: part.images for name, part in splits.items()})
    sizes = {name: len(part) for name, part in splits.items()}
    return ImageData(
        name=name,
        class_names=raw.class_names,
        scale=raw.scale,
        train=train,
        val=val,
        test=test,
        split_hash=digest_of(train, val, test),
        repeated=repeated,
        notes=(*raw.notes, *notes_on_repeated(repeated, sizes), *notes_on_images(raw)),
    )


def _take(raw: RawImages, index: Integers) -> Split:
    return Split(raw.train_images[index], raw.train_labels[index].astype(np.int64), index)


def digest_of(*splits: Split) -> str:
    """Return a short hash of the positions, labels and pixels of splits."""
    digest = hashlib.sha256()
    for part in splits:
        digest.update(repr(part.images.shape).encode())
        for array in (part.index, part.labels, part.images):
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
