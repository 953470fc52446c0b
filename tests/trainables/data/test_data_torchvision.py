"""Data sets in torchvision's layouts: tiny files in the real format, downloads, and errors about missing files."""

from __future__ import annotations

import builtins
import functools
import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from helpers.networks.image_files import (
    cyclic_labels,
    random_images,
    write_cifar10,
    write_mnist,
    write_mnist_archives,
    write_parquet,
    write_svhn,
)

from trainables.data import DataError, DataNotFoundError, check_available, load_dataset
from trainables.data.torchvision_import import torchvision
from trainables.data.torchvision_sets import cifar10, fashion_mnist, mnist, svhn
from trainables.spec import DatasetSpec


@pytest.fixture
def no_network(monkeypatch, tmp_path: Path) -> None:
    """Point every download at a folder that does not exist."""
    nowhere = (tmp_path / "nowhere").as_uri()
    datasets = torchvision().datasets
    monkeypatch.setattr(datasets.MNIST, "mirrors", [f"{nowhere}/"])
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [f"{nowhere}/"])
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{nowhere}/cifar.tar.gz")
    lists = {split: [f"{nowhere}/{entry[1]}", *entry[1:]] for split, entry in datasets.SVHN.split_list.items()}
    monkeypatch.setattr(datasets.SVHN, "split_list", lists)


@pytest.fixture
def tiny_cifar10(monkeypatch, tmp_path: Path) -> Path:
    """Write CIFAR-10 batches and give torchvision their checksums, so that it still checks them."""
    sums = write_cifar10(tmp_path)
    dataset = torchvision().datasets.CIFAR10
    monkeypatch.setattr(dataset, "train_list", [[f"data_batch_{n}", sums[f"data_batch_{n}"]] for n in range(1, 6)])
    monkeypatch.setattr(dataset, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(dataset, "meta", dataset.meta | {"md5": sums["batches.meta"]})
    return tmp_path


def test_torchvision_imports_with_any_torch_and_twice() -> None:
    assert torchvision() is torchvision()
    assert torchvision().datasets.MNIST


def test_an_import_that_fails_with_all_schemas_declared_is_not_retried(monkeypatch) -> None:
    from trainables.data import torchvision_import

    torchvision_import.torchvision()
    declared, attempts = list(torchvision_import._declared), []

    def failing(name: str, *options, load=builtins.__import__):
        if name == "torchvision":
            attempts.append(1)
            raise RuntimeError("something else")
        return load(name, *options)

    monkeypatch.setattr(builtins, "__import__", failing)
    with pytest.raises(RuntimeError, match="something else"):
        torchvision_import.torchvision()
    assert len(attempts) == 1
    assert torchvision_import._declared == declared


@pytest.mark.parametrize(("loader", "dataset"), [(mnist, "MNIST"), (fashion_mnist, "FashionMNIST")])
def test_idx_files_round_trip(tmp_path: Path, loader, dataset: str) -> None:
    write_mnist(tmp_path, dataset=dataset)
    raw = loader(tmp_path)
    np.testing.assert_array_equal(raw.train_images, random_images(60, (1, 28, 28)))
    np.testing.assert_array_equal(raw.test_images, random_images(20, (1, 28, 28), seed=1))
    np.testing.assert_array_equal(raw.train_labels, cyclic_labels(60))
    assert len(raw.class_names) == 10


def test_cifar_batches_round_trip(tiny_cifar10: Path) -> None:
    raw = cifar10(tiny_cifar10)
    expected = np.concatenate([random_images(12, (3, 32, 32), seed=seed) for seed in range(5)])
    np.testing.assert_array_equal(raw.train_images, expected)
    np.testing.assert_array_equal(raw.test_images, random_images(20, (3, 32, 32), seed=5))
    np.testing.assert_array_equal(raw.train_labels, np.tile(cyclic_labels(12), 5))


@pytest.mark.parametrize("base", ["svhn", "."])
def test_svhn_mat_files_round_trip(tmp_path: Path, monkeypatch, base: str) -> None:
    sums = write_svhn(tmp_path / base)
    dataset = torchvision().datasets.SVHN
    lists = {split: ["", name, sums[name]] for split, name in zip(("train", "test"), svhn.files, strict=True)}
    monkeypatch.setattr(dataset, "split_list", lists)
    raw = svhn(tmp_path)
    np.testing.assert_array_equal(raw.train_images, random_images(60, (3, 32, 32)))
    np.testing.assert_array_equal(raw.test_images, random_images(20, (3, 32, 32), seed=1))
    np.testing.assert_array_equal(raw.test_labels, cyclic_labels(20))


def test_a_changed_svhn_file_is_refused(tmp_path: Path) -> None:
    write_svhn(tmp_path / "svhn")
    with pytest.raises(DataError, match=r"svhn: files in .*svhn are corrupted"):
        svhn(tmp_path)


def test_class_names_match_torchvision() -> None:
    assert list(fashion_mnist.class_names) == torchvision().datasets.FashionMNIST.classes


def test_a_changed_cifar_batch_is_refused(tiny_cifar10: Path) -> None:
    path = tiny_cifar10 / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(DataError, match=r"cifar10: files in .*cifar-10-batches-py are corrupted"):
        cifar10(tiny_cifar10)


def test_a_truncated_idx_file_is_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"mnist: files in .*raw are corrupted"):
        mnist(tmp_path)


def test_a_label_that_is_no_class_is_refused_with_its_folder(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    path = tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x0b")
    with pytest.raises(DataError, match=r"^mnist in .*MNIST/raw: train labels must be in 0\.\.9, got 0\.\.11$"):
        mnist(tmp_path)


def test_parquet_under_the_same_name_needs_no_torchvision(tmp_path: Path) -> None:
    write_parquet(tmp_path / "cifar10", column="img")
    code = (
        "import sys; from trainables.data import load_dataset; from trainables.spec import DatasetSpec;"
        f"data = load_dataset(DatasetSpec(name='cifar10', root={str(tmp_path)!r}));"
        "assert data.class_names[0] == 'airplane' and data.image_shape == (3, 32, 32);"
        "print([name for name in ('torch', 'torchvision') if name in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


def test_originals_are_preferred_to_a_parquet_copy(tmp_path: Path) -> None:
    write_mnist(tmp_path, num_train=60)
    write_parquet(tmp_path / "mnist", shape=(1, 28, 28), num_train=30)
    assert len(mnist(tmp_path).train_images) == 60


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder over HTTP on this machine."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_missing_files_are_downloaded_once(tmp_path: Path, monkeypatch) -> None:
    server, root = tmp_path / "server", tmp_path / "root"
    server.mkdir()
    root.mkdir()
    dataset = torchvision().datasets.MNIST
    monkeypatch.setattr(dataset, "resources", write_mnist_archives(server))
    spec = DatasetSpec(name="mnist", root=str(root))
    with served(server) as url:
        monkeypatch.setattr(dataset, "mirrors", [f"{url}/"])
        check_available(spec)
    check_available(spec)
    assert len(load_dataset(spec).train) == 54


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "svhn"])
def test_without_a_network_one_line_names_the_folders_to_fill(tmp_path: Path, name: str) -> None:
    loader = {"mnist": mnist, "fashion_mnist": fashion_mnist, "cifar10": cifar10, "svhn": svhn}[name]
    for use in (check_available, load_dataset):
        with pytest.raises(DataNotFoundError) as caught:
            use(DatasetSpec(name=name, root=str(tmp_path)))
        message = str(caught.value)
        assert str(tmp_path / loader.bases[0] / loader.folder) in message
        assert f"{tmp_path / name} with train.parquet and test.parquet" in message
        assert "\n" not in message
        assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_network")
def test_a_failed_download_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "MNIST").mkdir()
    with pytest.raises(DataNotFoundError):
        check_available(DatasetSpec(name="mnist", root=str(tmp_path)))
    assert list(tmp_path.rglob("*")) == [tmp_path / "MNIST"]


@pytest.mark.usefixtures("no_network")
def test_an_incomplete_parquet_set_is_ignored(tmp_path: Path) -> None:
    write_parquet(tmp_path / "mnist", shape=(1, 28, 28))
    (tmp_path / "mnist" / "test-00000-of-00001.parquet").unlink()
    with pytest.raises(DataNotFoundError, match="mnist is not in"):
        check_available(DatasetSpec(name="mnist", root=str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "shape", "num_train"),
    [
        ("mnist", (1, 28, 28), 54_000),
        ("fashion_mnist", (1, 28, 28), 54_000),
        pytest.param("cifar10", (3, 32, 32), 45_000, marks=pytest.mark.chaos),  # for its length
    ],
)
def test_the_real_files(data_root: Path, name: str, shape: tuple[int, int, int], num_train: int) -> None:
    data = load_dataset(DatasetSpec(name=name, root=str(data_root)))
    assert data.image_shape == shape
    assert (len(data.train), len(data.val) + num_train, len(data.test)) == (
        num_train,
        60_000 if shape[0] == 1 else 50_000,
        10_000,
    )
    if name == "cifar10":
        assert np.bincount(data.test.labels).tolist() == [1000] * 10
        np.testing.assert_allclose(data.mean, (0.4914, 0.4822, 0.4465), atol=1e-3)
    if name == "mnist":
        assert data.mean[0] == pytest.approx(0.1307, abs=2e-4)
        assert np.bincount(data.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
