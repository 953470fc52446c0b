"""A data set: noise that is brighter in the left or in the right half."""

from pathlib import Path

import numpy as np

from trainables.data.base import RawImages


def halves(root: Path, /) -> RawImages:
    """Return 300 training and 100 test images; this data set reads no file in `root`."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 150, size=(400, 1, 8, 8), dtype=np.uint8)
    labels = generator.integers(0, 2, size=400)
    images[labels == 0, :, :, :4] += 80
    images[labels == 1, :, :, 4:] += 80
    return RawImages(images[:300], labels[:300], images[300:], labels[300:], class_names=("left", "right"))
