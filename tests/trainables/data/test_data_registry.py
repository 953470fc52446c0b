"""The contract of every registered data set; data roots, names and users' own loaders."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.networks.image_files import (
    cyclic_labels,
    random_images,
    write_mnist,
    write_parquet,
    write_restricted_imagenet,
)

from trainables.data import DATASETS, DataError, DataNotFoundError, check_available, load_dataset
from trainables.data.base import RawImages
from trainables.data.roots import data_root
from trainables.registry import UnknownNameError
from trainables.spec import DatasetSpec

# Functions that write tiny files of each registered data set; embedded ones have none.
FILES: dict[str, Callable[[Path], object] | None] = {
    "digits": None,
    "mnist": write_mnist,
    "fashion_mnist": lambda root: write_mnist(root, dataset="FashionMNIST"),
    "cifar10": lambda root: write_parquet(root / "cifar10", column="img"),
    "svhn": lambda root: write_parquet(root / "svhn"),
    "restricted_imagenet": write_restricted_imagenet,
    "synthetic_separated": None,
}


def test_every_data_set_is_under_contract() -> None:
    assert set(FILES) == set(DATASETS)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_contract(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write = FILES[name]
    if write is not None:
        write(tmp_path)
    spec = DatasetSpec(name=name, root=str(tmp_path), val_fraction=0.2, train_size=20)
    check_available(spec)
    data, reloaded = load_dataset(spec), load_dataset(spec)

    assert data.name == name
    assert data.split_hash == reloaded.split_hash
    assert len(data.train) == 20
    assert data.image_shape[0] in (1, 3)
    assert data.num_classes == len(set(data.class_names)) >= 2
    assert len(data.mean) == len(data.std) == data.image_shape[0]
    for piece in (data.train, data.val, data.test):
        assert piece.images.dtype == np.uint8
        assert piece.images.shape == (len(piece), *data.image_shape)
        assert piece.images.flags.c_contiguous
        assert piece.images.max() <= data.scale
        assert piece.labels.dtype == piece.index.dtype == np.int64
        assert 0 <= piece.labels.min() <= piece.labels.max() < data.num_classes
    assert not set(data.train.index) & set(data.val.index)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_a_missing_root_is_an_error_for_every_data_set(name: str, tmp_path: Path) -> None:
    for use in (check_available, load_dataset):
        with pytest.raises(DataNotFoundError, match=r"`dataset.root` must be an existing folder, got .*nowhere"):
            use(DatasetSpec(name=name, root=str(tmp_path / "nowhere")))


@pytest.mark.parametrize("name", sorted(name for name, write in FILES.items() if write))
def test_a_missing_root_from_the_environment(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("ROBUST_STUDY_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataNotFoundError, match=r"nowhere does not exist .*ROBUST_STUDY_DATA"):
        check_available(DatasetSpec(name=name))


@pytest.mark.parametrize("name", sorted(name for name, write in FILES.items() if not write))
def test_embedded_data_ignores_the_root_from_the_environment(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("ROBUST_STUDY_DATA", str(tmp_path / "nowhere"))
    assert len(load_dataset(DatasetSpec(name=name)).train)


def test_root_is_the_spec_then_the_environment_then_the_cache(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("ROBUST_STUDY_DATA", str(tmp_path / "environment"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_root(str(tmp_path)) == tmp_path
    assert data_root(None) == tmp_path / "environment"
    monkeypatch.delenv("ROBUST_STUDY_DATA")
    assert data_root(None) == tmp_path / "cache" / "robust-study" / "data"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_root(None) == tmp_path / ".cache" / "robust-study" / "data"


def test_only_the_cache_folder_is_created(tmp_path: Path, monkeypatch) -> None:
    from trainables.data.roots import require_root

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("ROBUST_STUDY_DATA", raising=False)
    assert require_root(data_root(None)).is_dir()
    assert sorted(os.listdir(tmp_path)) == ["robust-study"]


def test_an_unknown_name_suggests_the_closest() -> None:
    for use in (check_available, load_dataset):
        with pytest.raises(UnknownNameError, match=r"unknown data set 'minst' \(did you mean mnist\?\)"):
            use(DatasetSpec(name="minst"))


def test_what_is_valid_beside_the_registered_names_is_told() -> None:
    tail = r"svhn, synthetic_separated, the path of a folder of Parquet files, or your own as package\.module:object$"
    with pytest.raises(UnknownNameError, match=tail):
        check_available(DatasetSpec(name="order"))


def checkers(root: Path) -> RawImages:
    return RawImages(
        train_images=random_images(30, (1, 8, 8)),
        train_labels=cyclic_labels(30, 2),
        test_images=random_images(10, (1, 8, 8), seed=1),
        test_labels=cyclic_labels(10, 2),
        class_names=("black", "white"),
    )


def not_images(root: Path) -> list[int]:
    return [1, 2, 3]


@pytest.fixture
def own_module(monkeypatch) -> str:
    """Make this file importable under the name that a config would use."""
    import sys

    monkeypatch.setitem(sys.modules, "my_project.data", sys.modules[__name__])
    monkeypatch.setitem(sys.modules, "my_project", sys.modules[__name__])
    return "my_project.data"


def test_a_users_own_loader(own_module: str) -> None:
    spec = DatasetSpec(name=f"{own_module}:checkers")
    check_available(spec)
    data = load_dataset(spec)
    assert (data.name, data.class_names, len(data.train)) == ("my_project.data:checkers", ("black", "white"), 27)


def test_a_users_own_loader_that_returns_something_else(own_module: str) -> None:
    with pytest.raises(DataError, match=r"must return trainables.data.base.RawImages, got list"):
        load_dataset(DatasetSpec(name=f"{own_module}:not_images"))


def test_a_users_own_loader_that_does_not_exist(own_module: str) -> None:
    with pytest.raises(UnknownNameError, match="cannot be imported"):
        load_dataset(DatasetSpec(name=f"{own_module}:nothing"))
