"""The training split on its device, shuffled and augmented there in batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from trainables.data.base import Integers, Pixels, Split
from trainables.models.inputs import to_device, to_unit
from trainables.seeding import generator
from trainables.training.augment import augment


@dataclass(frozen=True)
class Pool:
    """Further images, with pseudo-labels or their own.

    Attributes:
        images: uint8 (n, c, h, w), values 0..scale.
        labels: int64 (n,).
        scale: The stored value that means 1.0.
        share: Of the images of a batch that they are, in (0, 1).
    """

    images: Pixels
    labels: Integers
    scale: int
    share: float = 0.5

    def count(self, served: int, /) -> int:
        """Return how many of them are served with the first `served` images of a split."""
        return round(served * self.share / (1 - self.share))


class _OnDevice(NamedTuple):
    images: Tensor
    labels: Tensor
    scale: int


def batch_bounds(count: int, /, *, size: int, keep_single: bool) -> list[tuple[int, int]]:
    """Return where the batches of an epoch begin and end, in `count` images.

    Raises:
        ValueError: There is none, since batches of one image are omitted.
    """
    bounds = [(begin, min(begin + size, count)) for begin in range(0, count, size)]
    kept = [(begin, end) for begin, end in bounds if keep_single or end - begin > 1]
    if not kept:
        raise ValueError(
            f"`training.batch_size` must leave batch norm 2 or more images, got {size} of {count} training images"
        )
    return kept


class TrainingBatches:
    """A split as one tensor, served in batches whose order and augmentation depend on (seed, epoch, batch) only.

    The last batch may be smaller. If it has a single image and `keep_single` is false it is omitted: batch norm has
    no variance to divide by there.

    Args:
        split: Images and labels.
        scale: The stored value that means 1.0.
        size: Images per batch.
        augmentation: `none`, `crop` or `crop_flip`.
        seed: The trial's seed.
        device: Device of the split and the batches.
        layout: Memory format of the batches.
        keep_single: Whether a batch of one image is served.
        pool: Further images with labels, with a scale of their own. Each batch gets its share of them besides its
            `size` images of the split, in a separate order; they are reused where that takes more than there are.

    Raises:
        ValueError: No batch remains.
    """

    def __init__(
        self,
        split: Split,
        /,
        *,
        scale: int,
        size: int,
        augmentation: str,
        seed: int,
        device: torch.device,
        layout: torch.memory_format,
        keep_single: bool,
        pool: Pool | None = None,
    ) -> None:
        self._split = _OnDevice(to_device(split.images, device=device), to_device(split.labels, device=device), scale)
        self._pool, self._count = None, (lambda served: 0) if pool is None else pool.count
        if pool is not None:
            images, labels = (to_device(array, device=device) for array in (pool.images, pool.labels))
            self._pool = _OnDevice(images, labels, pool.scale)
        self._augmentation, self._seed, self._layout = augmentation, seed, layout
        self._bounds = batch_bounds(len(split), size=size, keep_single=keep_single)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self._bounds)

    @property
    def num_images(self) -> int:
        """Number of images served in an epoch, including the pool's."""
        return self._bounds[-1][1] + self._count(self._bounds[-1][1])

    def epoch(self, epoch: int, /, *, begin: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (n, c, h, w) float32 in [0, 1] and labels (n,) of each batch.

        Args:
            epoch: Number of epochs already run; each has its own order and augmentation.
            begin: Number of its batches already served, which are skipped.
        """
        order = self._order(self._split, "shuffle", epoch)
        pool_order = None if self._pool is None else self._order(self._pool, "shuffle pool", epoch)
        for batch, (first, end) in enumerate(self._bounds[begin:], start=begin):
            images, labels = self._take(self._split, order[first:end], "augment", epoch, batch)
            if self._pool is not None and pool_order is not None:
                served = self._count(first), self._count(end)
                places = torch.arange(*served, device=pool_order.device) % len(pool_order)
                pool_images, pool_labels = self._take(self._pool, pool_order[places], "augment pool", epoch, batch)
                images, labels = torch.cat([images, pool_images]), torch.cat([labels, pool_labels])
            yield images, labels

    def _order(self, source: _OnDevice, purpose: str, epoch: int) -> Tensor:
        draws = generator(self._seed, purpose, epoch)
        return torch.randperm(len(source.labels), generator=draws).to(source.labels.device)

    def _take(self, source: _OnDevice, chosen: Tensor, purpose: str, epoch: int, batch: int) -> tuple[Tensor, Tensor]:
        draws = generator(self._seed, purpose, epoch, batch)
        images = augment(source.images[chosen], self._augmentation, generator=draws)
        return to_unit(images, scale=source.scale, layout=self._layout), source.labels[chosen]
