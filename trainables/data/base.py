"""What a data set is: raw images as a loader reads them, and the fixed splits that the rest of the code sees."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trainables.data.roots import DataError

Pixels = NDArray[np.uint8]
Integers = NDArray[np.int64]

_CHUNK = 4096


@dataclass(frozen=True, kw_only=True)
class RawImages:
    """A whole data set as its source has it, before any split of ours.

    Attributes:
        train_images: uint8 (n, c, h, w), values 0..scale.
        train_labels: Integers (n,), 0..K-1.
        test_images: uint8 (m, c, h, w).
        test_labels: Integers (m,).
        class_names: K names.
        scale: The pixel value that stands for 1.0.
        split_seed: Seed of the validation cut, the data set's own.

    Raises:
        DataError: Arrays that contradict this.
    """

    train_images: Pixels
    train_labels: Integers
    test_images: Pixels
    test_labels: Integers
    class_names: tuple[str, ...]
    scale: int = 255
    split_seed: int = 20200305

    def __post_init__(self) -> None:
        for split in ("train", "test"):
            self._check(split, getattr(self, f"{split}_images"), getattr(self, f"{split}_labels"))
        train, test = self.train_images.shape[1:], self.test_images.shape[1:]
        if train != test:
            raise DataError(f"train and test images must have one shape (c, h, w), got {train} and {test}")

    def _check(self, split: str, images: Pixels, labels: Integers) -> None:
        if images.dtype != np.uint8 or images.ndim != 4 or not images.size:
            raise DataError(f"{split} images must be uint8 (n, c, h, w), got {images.dtype} {images.shape}")
        if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
            raise DataError(
                f"{split} labels must be {len(images)} integers, one an image, got {labels.dtype} {labels.shape}"
            )
        if images.max() > self.scale:
            raise DataError(f"{split} pixels must be in 0..{self.scale}, got {images.max()}")
        if labels.min() < 0 or labels.max() >= len(self.class_names):
            raise DataError(
                f"{split} labels must be in 0..{len(self.class_names) - 1}, got {labels.min()}..{labels.max()}"
            )


class Loader(Protocol):
    """What the data set registry maps a name to. An embedded data set ignores `root`.

    A loader that reads files may also have `check(root) -> None`, which raises `DataNotFoundError` without
    reading pixels.
    """

    def __call__(self, root: Path, /) -> RawImages:
        """Read the whole data set found under the data root `root`."""


@dataclass(frozen=True)
class Split:
    """Some examples of a data set, in a fixed order.

    Attributes:
        images: uint8 (n, c, h, w), values 0..scale.
        labels: int64 (n,).
        index: int64 (n,), position in the source's order; train and val both count in the full training set.
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
        name: What results call the data set.
        class_names: K names.
        scale: The pixel value that stands for 1.0 (255; digits: 16).
        train: What networks are trained on.
        val: What a search sees, cut from the full training set.
        test: The source's test set; None where it must not be touched.
        split_hash: Short hash over index, labels and pixels of all three splits as they were loaded.
        test_examples: How many were taken out with `test`, for records of what the data set was.
    """

    name: str
    class_names: tuple[str, ...]
    scale: int
    train: Split
    val: Split
    test: Split | None
    split_hash: str
    test_examples: int = 0

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
        """Return the same data without its test split, for code that must not see it."""
        return dataclasses.replace(self, test=None, test_examples=self.test_examples or len(self.test or ()))
