"""Data sets: the raw images that a loader reads, and the fixed splits that the rest of the code uses."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trainables.data.roots import DataError

Pixels = NDArray[np.uint8]
Integers = NDArray[np.int64]

_CHUNK = 4096


@dataclass(frozen=True)
class RawImages:
    """A whole data set with its source's own training and test sets.

    Attributes:
        train_images: uint8 (n, c, h, w), values 0..scale.
        train_labels: Integers (n,), 0..K-1.
        test_images: uint8 (m, c, h, w).
        test_labels: Integers (m,).
        class_names: K different names.
        scale: The pixel value that means 1.0, at least 1.
        split_seed: Seed of the validation split, in 0..2^32 - 1; may differ between data sets.
        notes: A sentence on each thing about the files that a reader should know, such as files left out.
        train_files: The name of each training image's file, n of them; empty where there are none.
        test_files: Those of the test images.

    Raises:
        DataError: The arrays do not match this description.
    """

    train_images: Pixels
    train_labels: Integers
    test_images: Pixels
    test_labels: Integers
    _: KW_ONLY
    class_names: tuple[str, ...]
    scale: int = 255
    split_seed: int = 20200305
    notes: tuple[str, ...] = ()
    train_files: tuple[str, ...] = ()
    test_files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check_texts()
        for name, low, high in (("scale", 1, math.inf), ("split_seed", 0, 2**32 - 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
                raise DataError(f"{name} must be a whole number in [{low}, {high}], got {value!r}")
        for split in ("train", "test"):
            for name in (f"{split}_images", f"{split}_labels"):
                array = getattr(self, name)
                if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
                    raise DataError(f"{name} must be a NumPy array, got {type(array).__name__}")
            self._check(split, getattr(self, f"{split}_images"), getattr(self, f"{split}_labels"))
            files, images = (getattr(self, f"{split}_{kind}") for kind in ("files", "images"))
            if files and len(files) != len(images):
                raise DataError(f"{split} files must be {len(images)} names, one per image, got {len(files)}")
        train, test = self.train_images.shape[1:], self.test_images.shape[1:]
        if train != test:
            raise DataError(f"train and test images must have one shape (c, h, w), got {train} and {test}")

    def _check_texts(self) -> None:
        for name in ("class_names", "notes", "train_files", "test_files"):
            texts = getattr(self, name)
            if not isinstance(texts, tuple | list | np.ndarray) or not all(isinstance(text, str) for text in texts):
                raise DataError(f"{name} must be a tuple of texts, got {texts!r:.100}")
        repeated = [name for name, count in Counter(self.class_names).items() if count > 1]
        if repeated:
            raise DataError(f"class_names must differ, got {repeated[0]!r} more than once")

    def _check(self, split: str, images: Pixels, labels: Integers) -> None:
        if images.dtype != np.uint8 or images.ndim != 4 or not images.size:
            raise DataError(f"{split} images must be uint8 (n, c, h, w), got {images.dtype} {images.shape}")
        if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
            raise DataError(
                f"{split} labels must be {len(images)} integers, one per image, got {labels.dtype} {labels.shape}"
            )
        if images.max() > self.scale:
            raise DataError(f"{split} pixels must be in 0..{self.scale}, got {images.max()}")
        if labels.min() < 0 or labels.max() >= len(self.class_names):
            unlabelled = " (-1 usually marks an image without a label: leave it out)" if labels.min() == -1 else ""
            raise DataError(
                f"{split} labels must be in 0..{max(len(self.class_names) - 1, 0)}, "
                f"got {labels.min()}..{labels.max()}{unlabelled}"
            )


class Loader(Protocol):
    """Reads a data set; what names in the data set registry refer to.

    A loader that reads files may also have `check(root) -> None`, which raises `DataNotFoundError` if they are
    missing, without reading pixels.
    """

    def __call__(self, root: Path, /) -> RawImages:
        """Read the whole data set from the data root `root`, which embedded data sets ignore."""


@dataclass(frozen=True)
class Split:
    """Some examples of a data set, in a fixed order.

    Attributes:
        images: uint8 (n, c, h, w), values 0..scale.
        labels: int64 (n,).
        index: int64 (n,), positions in the source's order; of train and val alike in the full training set.
    """

    images: Pixels
    labels: Integers
    index: Integers

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ImageData:
    """A data set with its fixed splits; pixels in [0, 1] are images / scale.

    Train and val are in a fixed random order, so that any prefix is a random sample; test is in the source's order.

    Attributes:
        name: Name of the data set in results.
        class_names: K names.
        scale: The pixel value that means 1.0 (255; digits: 16).
        train: Training split.
        val: Validation split, cut from the full training set.
        test: The source's test set; None after `without_test`.
        split_hash: Short hash of index, labels and pixels of all three splits as loaded.
        test_examples: Number of test images that `without_test` removed.
        repeated: For val and test, how many images are identical to one of an earlier split (train, val).
        notes: A sentence on each thing about the files and images that a reader should know.
    """

    name: str
    class_names: tuple[str, ...]
    scale: int
    train: Split
    val: Split
    test: Split | None
    split_hash: str
    test_examples: int = 0
    repeated: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.class_names)

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of the training split per channel, in [0, 1] units."""
        return tuple(mean for mean, _ in self._moments)

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of the training split per channel, in [0, 1] units; 1 for a constant channel."""
        return tuple(std for _, std in self._moments)

    @cached_property
    def _moments(self) -> list[tuple[float, float]]:
        moments = []
        for channel in range(self.image_shape[0]):
            counts = np.zeros(256, dtype=np.int64)
            for start in range(0, len(self.train), _CHUNK):
                counts += np.bincount(self.train.images[start : start + _CHUNK, channel].ravel(), minlength=256)
            values = np.arange(256) / self.scale
            mean = float(np.average(values, weights=counts))
            std = float(np.sqrt(np.average((values - mean) ** 2, weights=counts)))
            moments.append((mean, std or 1.0))
        return moments

    def without_test(self) -> ImageData:
        """Return the data without its test split, for code that must not use it."""
        return dataclasses.replace(self, test=None, test_examples=self.test_examples or len(self.test or ()))
