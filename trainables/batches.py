"""The training split on its device, shuffled and augmented there in batches."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from trainables.augment import augment
from trainables.data.base import Split
from trainables.inputs import to_device, to_unit
from trainables.seeding import generator


class TrainingBatches:
    """A split as one tensor, served in batches whose order and augmentation depend on (seed, epoch, batch) alone.

    The last batch may be smaller. One of a single image is left out where `keep_single` is false: batch norm has
    no variance to divide by there.

    Args:
        split: Images and labels.
        scale: The stored value that stands for 1.0.
        size: Images per batch.
        augmentation: `none`, `crop` or `crop_flip`.
        seed: The trial's seed.
        device: Where the split lives and the batches are made.
        layout: Memory format of the batches.
        keep_single: Whether a batch of one image is served.

    Raises:
        ValueError: No batch is left.
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
    ) -> None:
        self._images = to_device(split.images, device=device)
        self._labels = to_device(split.labels, device=device)
        self._scale, self._augmentation, self._seed, self._layout = scale, augmentation, seed, layout
        bounds = [(begin, min(begin + size, len(split))) for begin in range(0, len(split), size)]
        self._bounds = [(begin, end) for begin, end in bounds if keep_single or end - begin > 1]
        if not self._bounds:
            raise ValueError(
                f"`training.batch_size` must leave batch norm 2 or more images, got {size} of {len(split)} images"
            )

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self._bounds)

    @property
    def num_images(self) -> int:
        """Images served in an epoch."""
        return self._bounds[-1][1]

    def epoch(self, epoch: int, /) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (n, c, h, w) float32 in [0, 1] and labels (n,) of each batch.

        Args:
            epoch: Epochs already run; each has its own order and augmentation.
        """
        device = self._images.device
        order = torch.randperm(len(self._images), generator=generator(self._seed, "shuffle", epoch)).to(device)
        for batch, (begin, end) in enumerate(self._bounds):
            chosen = order[begin:end]
            draws = generator(self._seed, "augment", epoch, batch)
            images = augment(self._images[chosen], self._augmentation, generator=draws)
            yield to_unit(images, scale=self._scale, layout=self._layout), self._labels[chosen]
