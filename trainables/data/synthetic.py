"""An embedded set of images whose separation is known exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainables.data.base import Integers, Pixels, RawImages

_HALF_GAP = 32
LINF_SEPARATION = 2 * _HALF_GAP / 255

_MIDDLE = 128
_SPREAD = 16
_SHIFT = 8
_NOISE = 96
_NUM_TRAIN = 2000
_NUM_TEST = 500
_SEED = 2020


def synthetic_separated(root: Path, /) -> RawImages:
    """Draw images that are exactly 64/255 apart in linf between classes: 8x8 grey, 4 classes; 2,000 train, 500 test.

    A class is two signs, one for the left half of an image and one for the right. Each half has a 2x2 block of pixels
    that lie at least 32 levels from the middle (128) on the side of its sign, which keeps images of different classes
    64 levels apart. The other pixels are shifted by only 8 levels towards the sign, in noise of 96: features that help
    a natural classifier and that an attack of radius 9/255 reverses. A classifier that is robust at every radius below
    r = 32/255 therefore exists, but natural training need not find it. The first four images of both splits attain the
    separation: it is exact within all of train, within all of test, and between the two.

    Args:
        root: Ignored.

    Source: Yang et al. 2020 for r-separation; Tsipras et al. 2019 for the two kinds of features.
    """
    random = np.random.RandomState(_SEED)
    train = _draw(random, _NUM_TRAIN, anchor=_MIDDLE)
    test = _draw(random, _NUM_TEST, anchor=_MIDDLE + 1)
    return RawImages(*train, *test, class_names=("dark-dark", "dark-bright", "bright-dark", "bright-bright"))


def _draw(random: np.random.RandomState, count: int, *, anchor: int) -> tuple[Pixels, Integers]:
    labels = np.arange(count) % 4
    signs = np.stack([labels // 2, labels % 2], axis=1) * 2 - 1
    sign = np.repeat(signs, 4, axis=1)[:, None, :].repeat(8, axis=1)
    images = _MIDDLE + _SHIFT * sign + random.randint(-_NOISE, _NOISE + 1, size=(count, 8, 8))
    images[:4] = anchor
    for left in (1, 5):
        block = (slice(None), slice(3, 5), slice(left, left + 2))
        extra = random.randint(0, _SPREAD + 1, size=(count, 2, 2))
        extra[:4] = 0
        images[block] = _MIDDLE + sign[block] * (_HALF_GAP + extra)
    return images[:, None].astype(np.uint8), labels
