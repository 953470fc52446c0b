"""Crops and flips against explicit indexing, and the batches augmented of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.networks.toy_problems import blobs

from trainables.training.augment import PADDING, augment
from trainables.training.batches import TrainingBatches


def candidates(image: torch.Tensor, *, flip: bool) -> set[bytes]:
    """Return every crop of the padded image, as bytes."""
    _, height, width = image.shape
    padded = torch.nn.functional.pad(image, [PADDING] * 4)
    crops = set()
    for top in range(2 * PADDING + 1):
        for left in range(2 * PADDING + 1):
            crop = padded[:, top : top + height, left : left + width]
            crops.add(crop.numpy().tobytes())
            if flip:
                crops.add(crop.flip(2).numpy().tobytes())
    return crops


@pytest.mark.parametrize("kind", ["crop", "crop_flip"])
def test_each_result_is_a_crop_of_its_own_image(kind):
    images = torch.randint(1, 255, (40, 2, 5, 6), dtype=torch.uint8)
    augmented = augment(images, kind, generator=torch.Generator().manual_seed(0))
    assert augmented.dtype == torch.uint8
    for before, after in zip(images, augmented, strict=True):
        assert after.contiguous().numpy().tobytes() in candidates(before, flip=kind == "crop_flip")


def test_half_of_the_images_are_flipped_and_plain_crops_never_are():
    image = torch.arange(1, 17, dtype=torch.uint8).reshape(1, 1, 4, 4).repeat(400, 1, 1, 1)
    plain = candidates(image[0], flip=False)
    augmented = augment(image, "crop_flip", generator=torch.Generator().manual_seed(0))
    # A crop with few columns of content may be its own mirror image, so count the results that no plain crop gives.
    flipped = sum(crop.contiguous().numpy().tobytes() not in plain for crop in augmented)
    assert 100 < flipped < 250


def test_no_augmentation_returns_the_images_themselves():
    images = torch.zeros(2, 1, 3, 3, dtype=torch.uint8)
    assert augment(images, "none", generator=torch.Generator()) is images


def batches(**settings) -> TrainingBatches:
    defaults = {"scale": 16, "size": 8, "augmentation": "none", "seed": 0, "keep_single": True}
    layout = {"device": torch.device("cpu"), "layout": torch.channels_last}
    return TrainingBatches(blobs(train=settings.pop("images", 17)).train, **(defaults | layout | settings))


def test_an_epoch_serves_each_image_once_in_unit_range():
    split = blobs(train=17).train
    x, y = (torch.cat(parts) for parts in zip(*batches().epoch(0), strict=True))
    assert x.dtype == torch.float32
    assert 0 <= x.min() < x.max() <= 1
    served = {(image.numpy().tobytes(), int(label)) for image, label in zip(x.contiguous(), y, strict=True)}
    stored = (split.images.astype(np.float32) / 16, split.labels)
    assert served == {(image.tobytes(), int(label)) for image, label in zip(*stored, strict=True)}


def test_order_depends_on_seed_and_epoch_only():
    def order(seed: int, epoch: int) -> torch.Tensor:
        return torch.cat([x for x, _ in batches(seed=seed, augmentation="crop_flip").epoch(epoch)])

    assert torch.equal(order(0, 1), order(0, 1))
    assert not torch.equal(order(0, 1), order(0, 2))
    assert not torch.equal(order(0, 1), order(1, 1))


@pytest.mark.parametrize(
    ("images", "keep_single", "sizes"),
    [(17, True, [8, 8, 1]), (17, False, [8, 8]), (18, False, [8, 8, 2]), (16, False, [8, 8]), (3, False, [3])],
)
def test_last_batch(images, keep_single, sizes):
    served = batches(images=images, keep_single=keep_single)
    assert [len(y) for _, y in served.epoch(0)] == sizes
    assert (len(served), served.num_images) == (len(sizes), sum(sizes))


def test_batches_of_one_image_are_refused_with_batch_norm():
    with pytest.raises(ValueError, match=r"`training.batch_size` must leave batch norm 2 or more images, got 1"):
        batches(size=1, keep_single=False)
