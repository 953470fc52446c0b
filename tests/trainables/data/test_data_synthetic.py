"""The synthetic set: its separation by brute force, and its two kinds of features."""

from __future__ import annotations

import numpy as np
import pytest

from trainables.data.base import RawImages
from trainables.data.synthetic import LINF_SEPARATION, synthetic_separated


@pytest.fixture(scope="module")
def raw() -> RawImages:
    return synthetic_separated(None)


def least_distance(a: np.ndarray, a_labels: np.ndarray, b: np.ndarray, b_labels: np.ndarray) -> int:
    """Return the smallest linf distance, in levels, between images of different labels, over all pairs."""
    a, b = a.reshape(len(a), -1).astype(int), b.reshape(len(b), -1).astype(int)
    return min(np.abs(b[b_labels != label] - image).max(axis=1).min() for image, label in zip(a, a_labels, strict=True))


@pytest.mark.parametrize(("split", "against"), [("train", "train"), ("test", "train"), ("test", "test")])
def test_the_separation_is_exactly_as_stated(raw: RawImages, split: str, against: str) -> None:
    distance = least_distance(
        getattr(raw, f"{split}_images"),
        getattr(raw, f"{split}_labels"),
        getattr(raw, f"{against}_images"),
        getattr(raw, f"{against}_labels"),
    )
    assert distance == 64
    assert distance / 255 == LINF_SEPARATION


def test_it_is_the_same_every_time(raw: RawImages) -> None:
    redrawn = synthetic_separated(None)
    np.testing.assert_array_equal(raw.train_images, redrawn.train_images)
    np.testing.assert_array_equal(raw.test_images, redrawn.test_images)


def test_values_do_not_overflow_and_classes_are_balanced(raw: RawImages) -> None:
    assert (raw.train_images.min(), raw.train_images.max()) == (128 - 8 - 96, 128 + 8 + 96)
    assert np.bincount(raw.train_labels).tolist() == [500] * 4
    assert np.bincount(raw.test_labels).tolist() == [125] * 4


def test_a_robust_classifier_and_a_fragile_one_exist(raw: RawImages) -> None:
    """The signs of the blocks' means withstand any attack below r; those of the other pixels' means fail at 9/255."""
    images = raw.test_images[4:, 0].astype(float) - 128
    labels = raw.test_labels[4:]
    robust = np.zeros((8, 8), dtype=bool)
    robust[3:5, 1:3] = robust[3:5, 5:7] = True

    def attacked_accuracy(weight: np.ndarray, radius: float) -> float:
        signs = []
        for half, truth in ((slice(0, 4), labels // 2), (slice(4, 8), labels % 2)):
            scores = (images * weight)[:, :, half].sum(axis=(1, 2)) * (2 * truth - 1)
            signs.append(scores > radius * np.abs(weight[:, half]).sum())
        return float(np.mean(signs[0] & signs[1]))

    assert attacked_accuracy(robust.astype(float), radius=31) == 1
    assert attacked_accuracy((~robust).astype(float), radius=0) > 0.5
    assert attacked_accuracy((~robust).astype(float), radius=25) < 0.1
