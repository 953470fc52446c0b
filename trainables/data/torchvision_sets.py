"""Data sets in torchvision's folder layouts, or under the same name as Parquet files."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.base import Integers, Pixels, RawImages
from trainables.data.parquet import ParquetSet
from trainables.data.parquet_files import LAYOUT, has_parquet
from trainables.data.roots import DataError, DataNotFoundError, naming, require_root

_CONNECT_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class TorchvisionSet:
    """Loader of one torchvision data set.

    Complete files in torchvision's layout are preferred: they are the originals, and Parquet copies may be lossy.

    Attributes:
        name: Registered name, and the folder of its Parquet files.
        dataset: Name of the class in `torchvision.datasets`.
        bases: Folders under the data root to pass to torchvision; files are downloaded to the first.
        folder: Folder of the files under such a base.
        files: The files.
        splits: Arguments that select the training and the test set.
        read: Returns images (n, c, h, w) and labels (n,) of torchvision's object.
        class_names: Names by label.
        about: One line: subject, image shape, number of training and test images.
    """

    name: str
    about: str
    dataset: str
    bases: tuple[str, ...] = (".",)
    folder: str
    files: tuple[str, ...]
    splits: tuple[dict[str, Any], dict[str, Any]] = ({"train": True}, {"train": False})
    read: Callable[[Any], tuple[Pixels, Integers]]
    class_names: tuple[str, ...]

    def check(self, root: Path, /) -> None:
        """Make sure that the files exist, and download missing ones, once per node under a lock.

        Raises:
            DataNotFoundError: The data root does not exist, or files are missing and cannot be downloaded; the
                message names the folder to fill.
        """
        require_root(root)
        if self._base(root) is None and not has_parquet(root / self.name):
            self._download(root)

    def __call__(self, root: Path, /) -> RawImages:
        """Read all images.

        Raises:
            DataNotFoundError: See `check`.
            DataError: The files are corrupted or have another format.
        """
        self.check(root)
        base = self._base(root)
        if base is None:
            return ParquetSet(root / self.name, class_names=self.class_names)(root)
        try:
            train, test = map(self.read, self._parts(base, download=False))
        except (RuntimeError, AssertionError, ValueError, OSError, EOFError, pickle.UnpicklingError) as error:
            raise DataError(
                f"{self.name}: files in {base / self.folder} are corrupted or of another format ({_last_line(error)}); "
                f"delete them to download them again"
            ) from error
        with naming(f"{self.name} in {base / self.folder}"):
            return RawImages(*train, *test, class_names=self.class_names)

    def _base(self, root: Path) -> Path | None:
        """Return the base folder that has all the files, if any."""
        bases = (root / base for base in self.bases)
        return next((base for base in bases if all((base / self.folder / file).is_file() for file in self.files)), None)

    def _parts(self, base: Path, *, download: bool) -> list[Any]:
        from trainables.data.torchvision_import import torchvision

        dataset = getattr(torchvision().datasets, self.dataset)
        return [dataset(str(base), download=download, **options) for options in self.splits]

    def _download(self, root: Path) -> None:
        from filelock import FileLock

        base, lock = root / self.bases[0], root / f".{self.name}.lock"
        try:
            with FileLock(lock), _nothing_left(base / self.folder, lock), _connect_timeout(_CONNECT_SECONDS):
                if self._base(root) is None:
                    self._parts(base, download=True)
        except (RuntimeError, OSError) as error:
            raise DataNotFoundError(
                f"{self.name} is not in {root} and could not be downloaded ({_last_line(error)}); fill "
                f"{base / self.folder} with {', '.join(self.files)} (torchvision's layout), or {root / self.name} "
                f"with {LAYOUT} (Hugging Face layout)"
            ) from error


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


@contextmanager
def _nothing_left(folder: Path, lock: Path) -> Iterator[None]:
    """After an error in the block, remove the empty folders that it made down to `folder`, and the lock's file."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        yield
    except BaseException:
        lock.unlink(missing_ok=True)  # while it is held: who waits for it takes the file of that name then
        with suppress(OSError):  # one that is not empty
            for place in made:
                place.rmdir()
        raise


@contextmanager
def _connect_timeout(seconds: float) -> Iterator[None]:
    # torchvision opens URLs without a timeout: behind a firewall that drops packets each mirror would take minutes.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _read_grey(part: Any) -> tuple[Pixels, Integers]:
    return part.data.numpy()[:, None], part.targets.numpy()


def _read_colour(part: Any) -> tuple[Pixels, Integers]:
    return np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)), np.array(part.targets, dtype=np.int64)


def _read_svhn(part: Any) -> tuple[Pixels, Integers]:
    return np.ascontiguousarray(part.data), part.labels


_IDX_FILES = tuple(
    f"{split}-{content}-ubyte" for split in ("train", "t10k") for content in ("images-idx3", "labels-idx1")
)

mnist = TorchvisionSet(
    name="mnist",
    about="handwritten digits, 28x28 grey, 10 classes; 60,000 train, 10,000 test",
    dataset="MNIST",
    folder="MNIST/raw",
    files=_IDX_FILES,
    read=_read_grey,
    class_names=tuple("0123456789"),
)

fashion_mnist = TorchvisionSet(
    name="fashion_mnist",
    about="articles of clothing, 28x28 grey, 10 classes; 60,000 train, 10,000 test",
    dataset="FashionMNIST",
    folder="FashionMNIST/raw",
    files=_IDX_FILES,
    read=_read_grey,
    class_names=(
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
)  # fmt: skip

cifar10 = TorchvisionSet(
    name="cifar10",
    about="animals and vehicles, 32x32 colour, 10 classes; 50,000 train, 10,000 test",
    dataset="CIFAR10",
    folder="cifar-10-batches-py",
    files=(*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"),
    read=_read_colour,
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)

# Its files lie in the base itself, without the data set's name: downloaded ones get their own folder.
svhn = TorchvisionSet(
    name="svhn",
    about="house numbers from the street, 32x32 colour, 10 classes; 73,257 train, 26,032 test",
    dataset="SVHN",
    bases=("svhn", "."),
    folder=".",
    files=("train_32x32.mat", "test_32x32.mat"),
    splits=({"split": "train"}, {"split": "test"}),
    read=_read_svhn,
    class_names=tuple("0123456789"),
)
