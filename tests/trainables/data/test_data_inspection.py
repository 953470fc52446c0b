"""Images in two splits, constant images and classes without any: counted, and said."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.networks.image_files import cyclic_labels, encode, parquet_table, random_images, write_image_tree

from trainables.data import DataError, load_dataset
from trainables.data.base import RawImages
from trainables.data.inspection import constant_images, digests, notes_on_images, repeated_images
from trainables.data.restricted_imagenet import GROUPS
from trainables.data.splits import split
from trainables.spec import DatasetSpec


def raw_of(train: np.ndarray, test: np.ndarray, **more: object) -> RawImages:
    labels = [cyclic_labels(len(images), 2) for images in (train, test)]
    return RawImages(train, labels[0], test, labels[1], **({"class_names": ("a", "b")} | more))


def by_comparison(images: np.ndarray, earlier: np.ndarray) -> int:
    return sum(any(np.array_equal(image, other) for other in earlier) for image in images)


@pytest.mark.parametrize("train_size", [None, 20])
def test_repeated_images_agree_with_comparing_all_pairs(train_size: int | None) -> None:
    """Few different images, so that repeats are the rule: within a split they do not count."""
    train, test = (random_images(count, (1, 1, 4), seed=count) % 3 for count in (60, 30))
    data = split(raw_of(train, test), name="x", val_fraction=0.2, train_size=train_size)
    both = np.concatenate([data.train.images, data.val.images])
    assert data.repeated == {
        "val": by_comparison(data.val.images, data.train.images),
        "test": by_comparison(data.test.images, both),
    }
    assert 0 < data.repeated["val"] < len(data.val)


def test_repeated_images_are_said_with_their_number() -> None:
    train = random_images(40, (1, 3, 3))
    data = split(raw_of(train, train[:5]), name="x", val_fraction=0.2, train_size=None)
    assert data.notes == ("5 of 5 test images are identical to a training or validation image",)
    data = split(raw_of(np.concatenate([train, train]), random_images(5, (1, 3, 3), seed=9)), name="x",
                 val_fraction=0.5, train_size=None)  # fmt: skip
    count = by_comparison(data.val.images, data.train.images)
    assert data.notes == (f"{count} of 40 validation images are identical to a training image",)
    assert data.without_test().notes == data.notes


def test_digests_tell_scales_and_shapes_of_one_byte_string_apart_and_are_those_of_every_process() -> None:
    images = random_images(2, (1, 2, 3))
    assert digests(images, scale=16) != digests(images, scale=255)
    code = (
        "import numpy as np; from trainables.data.inspection import digests;"
        "print(digests(np.random.default_rng(0).integers(0, 256, (2, 1, 2, 3), dtype=np.uint8), scale=16)[0].hex())"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert shown == digests(images, scale=16)[0].hex()


def test_counting_takes_little_time_on_as_many_images_as_cifar10_has() -> None:
    images = np.random.default_rng(0).integers(0, 256, (60_000, 3, 32, 32), dtype=np.uint8)
    started = time.process_time()
    repeated_images({"train": images[:45_000], "val": images[45_000:50_000], "test": images[50_000:]})
    constant_images(images)
    assert time.process_time() - started < 3


def test_constant_images_are_found_by_channel_and_single_pixels_are_not_constant() -> None:
    images = random_images(5000, (3, 4, 4))
    images[[3, 4500]] = 0
    images[7] = np.array([10, 20, 30], np.uint8)[:, None, None]
    images[9] = images[9][:1]
    assert constant_images(images).tolist() == [3, 7, 4500]
    assert constant_images(random_images(9, (3, 1, 1))).tolist() == []


def test_constant_images_and_classes_without_images_are_said() -> None:
    train, test = random_images(40, (1, 3, 3)), random_images(9, (1, 3, 3), seed=1)
    train[[4, 6]] = 7
    raw = raw_of(train, test, class_names=("a", "b", "c"))
    constant, missing = notes_on_images(raw)
    assert constant.startswith("2 of 40 training images are of one colour, the first at 4; transparency is not read")
    assert missing == "1 of 3 classes have no training image: c"
    assert notes_on_images(raw_of(train[7:], test)) == []


def test_a_picture_in_the_alpha_channel_alone_is_said_with_its_file(tmp_path: Path) -> None:
    pictures = np.zeros((12, 4, 5, 5), np.uint8)
    pictures[:, 3] = random_images(12, (1, 5, 5))[:, 0]
    plain = random_images(12, (3, 5, 5), seed=1)
    for name, images in (("train_0", plain), ("train_1", pictures), ("test", random_images(6, (3, 5, 5), seed=2))):
        table = parquet_table([encode(image) for image in images], cyclic_labels(len(images)) % 2)
        pq.write_table(table, tmp_path / f"{name}.parquet")
    data = load_dataset(DatasetSpec(name=str(tmp_path)))
    said = [note for note in data.notes if "of one colour" in note]
    assert len(said) == 1
    assert said[0].startswith("12 of 24 training images are of one colour (12 in train_1.parquet)")


def test_constant_images_of_restricted_imagenet_are_said_with_their_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    images = {name: list(random_images(2, (3, 70, 70), seed=seed)) for seed, name in enumerate(GROUPS)}
    images["cat"][1][:] = 0
    write_image_tree(tmp_path / "restricted_imagenet", images, classes=list(GROUPS))
    data = load_dataset(DatasetSpec(name="restricted_imagenet", root=str(tmp_path), val_fraction=0.2))
    assert any("1 of 18 training images are of one colour (1 in train/cat/train_1.png)" in note for note in data.notes)


def test_file_names_must_be_as_many_as_images() -> None:
    with pytest.raises(DataError, match="train files must be 40 names, one per image, got 1"):
        raw_of(random_images(40, (1, 3, 3)), random_images(9, (1, 3, 3)), train_files=("a",))
