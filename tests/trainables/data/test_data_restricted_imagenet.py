"""Restricted ImageNet on small folders: groups of classes, sizes, the cache of decoded images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.networks.image_files import encode, random_images, write_image_tree, write_restricted_imagenet

from trainables.data import DataError, DataNotFoundError
from trainables.data.restricted_imagenet import GROUPS, _class_folders, restricted_imagenet


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "robust-study" / "data"


def test_groups_are_those_of_the_literature() -> None:
    """203 ImageNet classes in nine groups."""
    ranges = {name: last - first + 1 for name, (first, last) in GROUPS.items()}
    assert ranges == {
        "dog": 118,
        "cat": 5,
        "frog": 3,
        "turtle": 5,
        "bird": 21,
        "primate": 18,
        "fish": 9,
        "crab": 4,
        "insect": 20,
    }


def test_each_group_gets_its_own_images(tmp_path: Path) -> None:
    write_restricted_imagenet(tmp_path)
    raw = restricted_imagenet(tmp_path)
    assert raw.train_images.shape == raw.test_images.shape == (27, 3, 64, 64)
    assert raw.train_labels.tolist() == [label for label in range(9) for _ in range(3)]
    assert raw.class_names == tuple(GROUPS)


@pytest.mark.parametrize("numbered", [False, True])
def test_folder_order_is_the_class_index(tmp_path: Path, numbered: bool) -> None:
    names = [str(index) if numbered else f"n{index:08d}" for index in range(1000)]
    for name in reversed(names):
        (tmp_path / name).mkdir()
    labelled = {(folder.name, label) for folder, label in _class_folders(tmp_path)}
    expected = {
        (names[index], label) for label, (first, last) in enumerate(GROUPS.values()) for index in range(first, last + 1)
    }
    assert labelled == expected
    assert len(labelled) == 203


def test_images_outside_the_groups_are_excluded(tmp_path: Path) -> None:
    names = [f"{index:03d}" for index in range(1000)]
    images = {"150": list(random_images(1, (3, 72, 72))), "151": list(random_images(2, (3, 72, 72), seed=1))}
    write_image_tree(tmp_path / "imagenet", images, classes=names)
    raw = restricted_imagenet(tmp_path)
    assert raw.train_labels.tolist() == [0, 0]


def test_folders_of_the_groups_themselves(tmp_path: Path) -> None:
    images = {name: list(random_images(1, (3, 72, 72), seed=seed)) for seed, name in enumerate(GROUPS)}
    write_image_tree(tmp_path / "restricted_imagenet", images, classes=list(GROUPS))
    raw = restricted_imagenet(tmp_path)
    assert raw.train_labels.tolist() == list(range(9))
    np.testing.assert_array_equal(raw.train_images[3], images["turtle"][0][:, 4:68, 4:68])


@pytest.mark.parametrize("shape", [(3, 100, 91), (3, 72, 79), (3, 75, 72), (1, 300, 201), (3, 40, 33)])
def test_resize_and_crop_match_torchvision(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    from PIL import Image

    from trainables.data.torchvision_import import torchvision

    transforms = torchvision().transforms
    image = random_images(1, shape)[0]
    write_image_tree(tmp_path / "imagenet", {name: [image] for name in GROUPS}, classes=list(GROUPS))
    pixels = Image.fromarray(image[0] if shape[0] == 1 else image.transpose(1, 2, 0)).convert("RGB")
    as_in_the_paper = transforms.Compose([transforms.Resize(72), transforms.CenterCrop(64)])
    expected = np.asarray(as_in_the_paper(pixels)).transpose(2, 0, 1)
    np.testing.assert_array_equal(restricted_imagenet(tmp_path).test_images[0], expected)


def test_images_are_decoded_once_until_files_change(tmp_path: Path, own_cache: Path, monkeypatch) -> None:
    import trainables.data.restricted_imagenet as module

    decoded: list[Path] = []
    decode = module._decode
    monkeypatch.setattr(module, "_decode", lambda path: decoded.append(path) or decode(path))
    write_restricted_imagenet(tmp_path)
    first = restricted_imagenet(tmp_path)
    assert len(decoded) == 54
    second = restricted_imagenet(tmp_path)
    assert len(decoded) == 54
    np.testing.assert_array_equal(first.train_images, second.train_images)

    image = tmp_path / "restricted_imagenet" / "train" / "n10001057" / "train_3.png"
    image.write_bytes(encode(random_images(1, (3, 72, 72))[0]))
    assert len(restricted_imagenet(tmp_path).train_images) == 28
    assert sorted(path.name for path in own_cache.iterdir() if path.name.startswith("tmp")) == []


def test_an_interrupted_decode_leaves_nothing(tmp_path: Path, own_cache: Path) -> None:
    write_restricted_imagenet(tmp_path)
    broken = tmp_path / "restricted_imagenet" / "val" / "n10001057" / "val_1.png"
    content = broken.read_bytes()
    broken.write_bytes(content[:200])
    with pytest.raises(DataError, match=r"val_1.png cannot be decoded"):
        restricted_imagenet(tmp_path)
    assert [path for path in own_cache.iterdir() if path.is_dir()] == []
    broken.write_bytes(content)
    assert len(restricted_imagenet(tmp_path).test_images) == 27


def test_missing_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"fill .*restricted_imagenet or .*imagenet with train/ and val/"):
        restricted_imagenet.check(tmp_path)
    write_image_tree(tmp_path / "imagenet", {}, classes=[f"n{index}" for index in range(999)])
    with pytest.raises(DataError, match=r"must hold 1000 class folders .* got 999 folders"):
        restricted_imagenet.check(tmp_path)
    (tmp_path / "imagenet" / "train" / "n999").mkdir()
    (tmp_path / "imagenet" / "val" / "n999").mkdir()
    restricted_imagenet.check(tmp_path)
    with pytest.raises(DataError, match=r"train must hold .jpg, .jpeg or .png"):
        restricted_imagenet(tmp_path)
