"""The embedded default: scikit-learn's 1,797 handwritten digits, 8x8 grey, pixels 0..16."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainables.data.base import RawImages

_NUM_TEST = 360
_TEST_SEED = 1797


def digits(root: Path, /) -> RawImages:
    """Read scikit-learn's embedded handwritten digits: 8x8 grey, 10 classes; 1,437 train, 360 test.

    There is no official test split: it is a fixed 360 images, drawn once. Both splits keep the file's order.

    Args:
        root: Ignored.

    Source: Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits (UCI), the original's test set.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.uint8).reshape(-1, 1, 8, 8)
    is_test = np.zeros(len(labels), dtype=bool)
    is_test[np.random.RandomState(_TEST_SEED).permutation(len(labels))[:_NUM_TEST]] = True
    train, test = (images[~is_test], labels[~is_test]), (images[is_test], labels[is_test])
    return RawImages(*train, *test, class_names=tuple("0123456789"), scale=16)
