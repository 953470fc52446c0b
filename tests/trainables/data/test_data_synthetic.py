"""The synthetic set: its separation by brute force, and that both kinds of features are in it."""

from __future__ import annotations

import numpy as np
import pytest

from trainables.data.base import RawImages
from trainables.data.synthetic import LINF_SEPARATION, synthetic_separated


@pytest.fixture(scope="module")
def raw() -> RawImages:
    return synthetic_separated(None)


def least_distance(a: np.ndarray, a_labels: np.ndarray, b: np.ndarray, b_labels: np.ndarray) -> int:
    """Smallest linf distance, in levels, between two images of different labels: all pairs, one row at a time."""
    a, b = a.reshape(len(a), -1).astype(int), b.reshape(len(b), -1).astype(int)
    return min(np.abs(b[b_labels != label] - image).max(axis=1).min() for image, label in zip(a, a_labels, strict=True))


@pytest.mark.parametrize(("one", "other"), [("train", "train"), ("test", "train"), ("test", "test")])
def test_the_separation_is_exactly_what_is_stated(raw: RawImages, one: str, other: str) -> None:
    found = least_distance(
        getattr(raw, f"{one}_images"),
        getattr(raw, f"{one}_labels"),
        getattr(raw, f"{other}_images"),
        getattr(raw, f"{other}_labels"),
    )
    assert found == 64
    assert found / 255 == LINF_SEPARATION


def test_it_is_the_same_every_time(raw: RawImages) -> None:
    again = synthetic_separated(None)
    np.testing.assert_array_equal(raw.train_images, again.train_images)
    np.testing.assert_array_equal(raw.test_images, again.test_images)


def test_values_did_not_wrap_and_classes_are_balanced(raw: RawImages) -> None:
    assert (raw.train_images.min(), raw.train_images.max()) == (128 - 8 - 96, 128 + 8 + 96)
    assert np.bincount(raw.train_labels).tolist() == [500] * 4
    assert np.bincount(raw.test_labels).tolist() == [125] * 4


def test_a_robust_classifier_and_a_fragile_one_exist(raw: RawImages) -> None:
    """Signs of the blocks' means survive any attack below r; signs of the other pixels' means fall to 9/255."""
    images = raw.test_images[4:, 0].astype(float) - 128
    labels = raw.test_labels[4:]
    robust = np.zeros((8, 8), dtype=bool)
    robust[3:5, 1:3] = robust[3:5, 5:7] = True

    def right_after_an_attack(weight: np.ndarray, radius: float) -> float:
        signs = []
        for half, truth in ((slice(0, 4), labels // 2), (slice(4, 8), labels % 2)):
            scores = (images * weight)[:, :, half].sum(axis=(1, 2)) * (2 * truth - 1)
            signs.append(scores > radius * np.abs(weight[:, half]).sum())
        return float(np.mean(signs[0] & signs[1]))

    assert right_after_an_attack(robust.astype(float), radius=31) == 1
    assert right_after_an_attack((~robust).astype(float), radius=0) > 0.5
    assert right_after_an_attack((~robust).astype(float), radius=25) < 0.1
