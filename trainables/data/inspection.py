"""What is suspicious about a data set's images: the same ones in two splits, constant ones, classes without any."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from trainables.data.base import Integers, Pixels, RawImages
from trainables.data.parquet_files import shown

_CHUNK = 4096


def digests(images: Iterable[Pixels], /, *, scale: int) -> list[bytes]:
    """Return a digest of each image's pixels and scale: equal for identical images, and in every process."""
    return [hashlib.blake2b(image.tobytes() + b"%d" % scale, digest_size=16).digest() for image in images]


def repeated_images(splits: Mapping[str, Pixels], /) -> dict[str, int]:
    """Return how many images of each split but the first are identical to one of an earlier split.

    Args:
        splits: uint8 images (n, c, h, w) of each split, in order.
    """
    seen: set[bytes] = set()
    counts = {}
    for name, images in splits.items():
        own = digests(images, scale=0)
        counts[name] = sum(digest in seen for digest in own)
        seen.update(own)
    return dict(list(counts.items())[1:])


def constant_images(images: Pixels, /) -> Integers:
    """Return the positions of images (n, c, h, w) whose channels are constant; none if images are single pixels."""
    flat = images.reshape(*images.shape[:2], -1)
    if flat.shape[2] == 1:
        return np.empty(0, np.int64)
    parts = (flat[start : start + _CHUNK] for start in range(0, len(flat), _CHUNK))
    return np.flatnonzero(np.concatenate([(part == part[..., :1]).all((1, 2)) for part in parts]))


def notes_on_images(raw: RawImages, /) -> list[str]:
    """Return a sentence on each split's constant images, and one on the classes without a training image."""
    notes = []
    for split, images, files in (
        ("training", raw.train_images, raw.train_files),
        ("test", raw.test_images, raw.test_files),
    ):
        if len(constant := constant_images(images)):
            place = f" ({_counted([files[at] for at in constant])})" if files else f", the first at {constant[0]}"
            notes.append(
                f"{len(constant):,} of {len(images):,} {split} images are of one colour{place}; "
                "transparency is not read, so a picture in an alpha channel alone is lost"
            )
    missing = np.setdiff1d(np.arange(len(raw.class_names)), raw.train_labels)
    if len(missing):
        names = shown(raw.class_names[number] for number in missing)
        notes.append(f"{len(missing)} of {len(raw.class_names)} classes have no training image: {names}")
    return notes


def notes_on_repeated(repeated: Mapping[str, int], sizes: Mapping[str, int], /) -> list[str]:
    """Return a sentence on each split with images of an earlier one.

    Args:
        repeated: From `repeated_images`.
        sizes: Number of images of each split.
    """
    long = {"val": ("validation", "a training image"), "test": ("test", "a training or validation image")}
    return [
        f"{count:,} of {sizes[split]:,} {long[split][0]} images are identical to {long[split][1]}"
        for split, count in repeated.items()
        if count
    ]


def _counted(files: Sequence[str]) -> str:
    return shown(f"{count:,} in {file}" for file, count in Counter(files).items())
