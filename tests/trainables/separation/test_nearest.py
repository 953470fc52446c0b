"""The pruned search agrees with comparing all pairs: both norms, ties, duplicates, tiny and very large images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trainables.data import load_raw
from trainables.separation.nearest import Encoder, Nearest

NORMS = ("linf", "l2")


def brute_force(images, labels, others, other_labels, *, norm, same_label=False) -> Nearest:
    """Compare all pairs in int64, one query at a time; argmin selects the first of equals."""
    flat = others.reshape(len(others), -1).astype(np.int64)
    distances, indices = [], []
    for image, label in zip(images.reshape(len(images), -1), labels, strict=True):
        delta = np.abs(flat - image)
        row = delta.max(axis=1) if norm == "linf" else (delta**2).sum(axis=1)
        allowed = (other_labels == label) == same_label
        row = np.where(allowed, row, np.iinfo(np.int64).max)
        distances.append(row.min() if allowed.any() else -1)
        indices.append(row.argmin() if allowed.any() else -1)
    return Nearest(np.array(distances), np.array(indices))


def pruned(images, labels, others, other_labels, *, norm, same_label=False, **options) -> Nearest:
    encoder = Encoder(others, norm=norm)
    return encoder.nearest(
        encoder.encode(images, labels), encoder.encode(others, other_labels), same_label=same_label, **options
    )


def assert_equal(actual: Nearest, expected: Nearest) -> None:
    np.testing.assert_array_equal(actual.distance, expected.distance)
    np.testing.assert_array_equal(actual.index, expected.index)


@st.composite
def sets(draw):
    """Draw two small sets of images, with few different values and repeated images for ties and duplicates."""
    pixels = draw(st.sampled_from([1, 3, 63, 64, 65, 130]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    top = draw(st.sampled_from([1, 3, 16, 255]))
    num_labels = draw(st.integers(1, 4))

    def one_set(count):
        images = random.integers(0, top + 1, (count, 1, 1, pixels), dtype=np.uint8)
        images = images[random.integers(0, count, count)]
        return images, random.integers(0, num_labels, count)

    return *one_set(draw(st.integers(1, 12))), *one_set(draw(st.integers(1, 12)))


ONE_IMAGE = (np.zeros((1, 1, 2, 2), np.uint8), np.array([0])) * 2


@pytest.mark.parametrize("norm", NORMS)
@given(data=sets(), same_label=st.booleans())
@example(data=ONE_IMAGE, same_label=False)
@example(data=ONE_IMAGE, same_label=True)
@settings(max_examples=60)
def test_agrees_with_brute_force(norm, data, same_label):
    assert_equal(pruned(*data, norm=norm, same_label=same_label), brute_force(*data, norm=norm, same_label=same_label))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("same_label", [False, True])
def test_pruning_changes_nothing_on_digits(norm, same_label):
    raw, _ = load_raw("digits", root=None)
    data = (raw.test_images, raw.test_labels, raw.train_images, raw.train_labels)
    expected = brute_force(*data, norm=norm, same_label=same_label)
    assert_equal(pruned(*data, norm=norm, same_label=same_label), expected)


def test_pruning_changes_nothing_on_mnist(data_root: Path):
    raw, _ = load_raw("mnist", root=str(data_root))
    data = (raw.test_images[:60], raw.test_labels[:60], raw.train_images[:2000], raw.train_labels[:2000])
    for norm in NORMS:
        assert_equal(pruned(*data, norm=norm), brute_force(*data, norm=norm))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("step", [1, 2])
def test_images_a_level_apart_are_distinguished(norm, step):
    """Some neighbours' distances differ by one level, far less than the heads of l2 resolve."""
    random = np.random.default_rng(step)
    base = random.integers(100, 150, 400)
    others = np.tile(base, (300, 1))
    others[np.arange(300), random.integers(0, 400, 300)] += step * random.integers(1, 50, 300)
    images = np.stack([base, others[7]]).astype(np.uint8)
    data = (images, np.array([0, 0]), others.astype(np.uint8), random.integers(1, 3, 300))
    assert_equal(pruned(*data, norm=norm), brute_force(*data, norm=norm))


def test_squared_distances_beyond_32_bits_are_exact():
    images = np.zeros((2, 1, 1, 70_001), np.uint8)
    images[1] = 255
    images[1, ..., 0] = 254
    nearest = pruned(images, np.array([0, 1]), images, np.array([0, 1]), norm="l2")
    assert nearest.distance.tolist() == [70_000 * 255**2 + 254**2] * 2
    assert nearest.distance[0] > 2**32


@pytest.mark.parametrize("norm", NORMS)
def test_the_number_of_threads_changes_nothing(norm):
    raw, _ = load_raw("digits", root=None)
    data = (raw.train_images, raw.train_labels) * 2
    finished: list[int] = []
    single = pruned(*data, norm=norm, threads=1, on_advance=finished.append)
    assert sum(finished) == len(raw.train_labels)
    assert len(finished) > 1
    assert_equal(pruned(*data, norm=norm, threads=3), single)


def test_arguments_are_unchanged():
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (20, 1, 9, 9), dtype=np.uint8), np.arange(20) % 3
    before = images.copy(), labels.copy()
    for norm in NORMS:
        pruned(images, labels, images, labels, norm=norm)
    np.testing.assert_array_equal(images, before[0])
    np.testing.assert_array_equal(labels, before[1])


def test_an_error_in_the_callback_ends_the_search():
    raw, _ = load_raw("digits", root=None)

    def stop(count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pruned(*(raw.train_images, raw.train_labels) * 2, norm="linf", on_advance=stop)


def test_cores_are_those_this_process_may_use():
    from trainables.separation.nearest import available_cores

    assert 1 <= available_cores() <= (os.cpu_count() or 1)
