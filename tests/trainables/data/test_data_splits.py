"""Raw images, the fixed splits, and the digits data set."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from helpers.networks.image_files import cyclic_labels, random_images
from hypothesis import given
from hypothesis import strategies as st

from trainables.data import DataError, load_dataset
from trainables.data.base import RawImages
from trainables.data.digits import digits
from trainables.data.splits import split
from trainables.spec import DatasetSpec


def raw_images(num_train: int = 50, **changes: object) -> RawImages:
    fields = {
        "train_images": random_images(num_train, (2, 4, 5)),
        "train_labels": cyclic_labels(num_train, 3),
        "test_images": random_images(7, (2, 4, 5), seed=1),
        "test_labels": cyclic_labels(7, 3),
        "class_names": ("a", "b", "c"),
    }
    return RawImages(**(fields | changes))


@given(count=st.integers(2, 80), val_fraction=st.floats(0.01, 0.5), data=st.data())
def test_splits_are_disjoint_and_nested_and_validation_ignores_train_size(count, val_fraction, data) -> None:
    raw = raw_images(count)
    whole = split(raw, name="x", val_fraction=val_fraction, train_size=None)
    size = data.draw(st.integers(1, len(whole.train)))
    part = split(raw, name="x", val_fraction=val_fraction, train_size=size)

    assert sorted([*whole.train.index, *whole.val.index]) == list(range(count))
    assert abs(len(whole.val) - val_fraction * count) <= 1
    np.testing.assert_array_equal(part.val.index, whole.val.index)
    np.testing.assert_array_equal(part.train.index, whole.train.index[:size])
    for piece in (part.train, part.val):
        np.testing.assert_array_equal(piece.images, raw.train_images[piece.index])
        np.testing.assert_array_equal(piece.labels, raw.train_labels[piece.index])
        assert piece.labels.dtype == piece.index.dtype == np.int64


def test_the_split_is_frozen() -> None:
    """Changing these numbers changes every result."""
    data = split(raw_images(10), name="x", val_fraction=0.3, train_size=None)
    np.testing.assert_array_equal(
        np.r_[data.val.index, data.train.index], np.random.RandomState(20200305).permutation(10)
    )
    loaded = load_dataset(DatasetSpec(name="digits"))
    assert loaded.split_hash == "8aea7225443e7095"


def test_test_split_keeps_the_sources_order_and_can_be_removed() -> None:
    raw = raw_images()
    data = split(raw, name="x", val_fraction=0.1, train_size=None)
    np.testing.assert_array_equal(data.test.images, raw.test_images)
    np.testing.assert_array_equal(data.test.index, np.arange(7))
    without = data.without_test()
    assert without.test is None
    assert without == without.without_test() == dataclasses.replace(data, test=None, test_examples=7)
    assert data.test is not None


@pytest.mark.parametrize("changed", ["train_images", "train_labels", "test_images", "test_labels"])
def test_split_hash_depends_on_every_array(changed: str) -> None:
    raw = raw_images()
    array = getattr(raw, changed).copy()
    array.flat[0] = (int(array.flat[0]) + 1) % 3
    other = dataclasses.replace(raw, **{changed: array})
    hashes = {
        split(images, name="x", val_fraction=0.1, train_size=None).split_hash for images in (raw, raw_images(), other)
    }
    assert len(hashes) == 2


def test_split_hash_depends_on_the_size() -> None:
    hashes = {split(raw_images(), name="x", val_fraction=0.1, train_size=size).split_hash for size in (None, 20, 21)}
    assert len(hashes) == 3


def test_too_large_train_size_names_the_field_and_the_limit() -> None:
    with pytest.raises(DataError, match=r"`dataset.train_size` must be at most 45 .*got 46"):
        split(raw_images(50), name="x", val_fraction=0.1, train_size=46)
    assert len(split(raw_images(50), name="x", val_fraction=0.1, train_size=45).train) == 45


def test_one_image_cannot_be_split() -> None:
    with pytest.raises(DataError, match="at least 2 training images"):
        split(raw_images(1), name="x", val_fraction=0.1, train_size=None)


@pytest.mark.parametrize("scale", [16, 255])
def test_moments_are_those_of_the_training_split(scale: int) -> None:
    raw = raw_images(
        5000,
        train_images=np.minimum(random_images(5000, (2, 4, 5)), scale),
        test_images=np.minimum(random_images(7, (2, 4, 5)), scale),
        scale=scale,
    )
    data = split(raw, name="x", val_fraction=0.1, train_size=None)
    pixels = data.train.images / scale
    np.testing.assert_allclose(data.mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(data.std, pixels.std(axis=(0, 2, 3)), rtol=1e-12)


def test_a_constant_channel_has_std_one() -> None:
    images = random_images(50, (2, 4, 5))
    images[:, 1] = 51
    data = split(raw_images(train_images=images), name="x", val_fraction=0.1, train_size=None)
    assert data.mean[1] == pytest.approx(0.2)
    assert data.std[1] == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": random_images(50, (2, 4, 5)).astype(float)}, r"train images must be uint8 .* got float64"),
        ({"train_images": random_images(50, (2, 4, 5))[:, 0]}, r"got uint8 \(50, 4, 5\)"),
        ({"train_images": random_images(0, (2, 4, 5))}, r"got uint8 \(0, 2, 4, 5\)"),
        ({"test_images": random_images(7, (2, 5, 5))}, r"one shape .* got \(2, 4, 5\) and \(2, 5, 5\)"),
        ({"train_labels": cyclic_labels(49, 3)}, r"train labels must be 50 integers"),
        ({"train_labels": cyclic_labels(50, 3) / 2}, r"train labels must be 50 integers, .* float64"),
        ({"test_labels": cyclic_labels(7, 4)}, r"test labels must be in 0\.\.2, got 0\.\.3"),
        ({"test_labels": cyclic_labels(7, 3) - 1}, r"test labels must be in 0\.\.2, got -1"),
        ({"scale": 16}, r"train pixels must be in 0\.\.16, got 2\d\d"),
    ],
)
def test_contradicting_arrays_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        raw_images(**changes)


def test_digits_match_scikit_learn_and_each_is_in_one_split() -> None:
    from sklearn.datasets import load_digits

    source, labels = load_digits(return_X_y=True)
    raw = digits(None)
    assert (len(raw.train_images), len(raw.test_images), raw.scale) == (1437, 360, 16)
    both = np.concatenate([raw.train_images, raw.test_images]).reshape(1797, 64)
    both_labels = np.concatenate([raw.train_labels, raw.test_labels])
    examples = sorted(map(tuple, np.c_[both, both_labels].tolist()))
    assert examples == sorted(map(tuple, np.c_[source.astype(int), labels].tolist()))
    for images in (raw.train_images, raw.test_images):
        rest = iter(source)
        in_order = [any((image.ravel() == other).all() for other in rest) for image in images]
        assert all(in_order), "the file's order has changed"


def test_every_class_is_in_every_split_of_the_digits() -> None:
    data = load_dataset(DatasetSpec(name="digits"))
    for piece in (data.train, data.val, data.test):
        assert set(piece.labels.tolist()) == set(range(10))


@pytest.mark.long
def test_embedded_data_needs_neither_torch_nor_torchvision() -> None:
    code = (
        "import sys; from trainables.data import load_dataset; assert 'numpy' not in sys.modules;"
        "from trainables.spec import DatasetSpec; load_dataset(DatasetSpec(name='digits')).mean;"
        "print([name for name in ('torch', 'torchvision') if name in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"
