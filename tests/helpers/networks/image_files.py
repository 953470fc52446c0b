"""Tiny image files in the real formats, for tests that read data sets."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def random_images(count: int, shape: tuple[int, int, int], *, seed: int = 0) -> np.ndarray:
    """Return random uint8 images (count, c, h, w)."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def cyclic_labels(count: int, num_classes: int = 10) -> np.ndarray:
    """Return labels 0, 1, .., K-1, 0, 1, .. of shape (count,)."""
    return np.arange(count) % num_classes


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def idx(array: np.ndarray) -> bytes:
    """Encode an array in MNIST's IDX format: magic number, big-endian sizes, bytes."""
    magic = struct.pack(">BBBB", 0, 0, 0x08, array.ndim)
    return magic + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()


def mnist_parts(num_train: int, num_test: int) -> dict[str, np.ndarray]:
    """Return IDX file names and contents of a random imitation of MNIST."""
    return {
        "train-images-idx3-ubyte": random_images(num_train, (1, 28, 28))[:, 0],
        "train-labels-idx1-ubyte": cyclic_labels(num_train),
        "t10k-images-idx3-ubyte": random_images(num_test, (1, 28, 28), seed=1)[:, 0],
        "t10k-labels-idx1-ubyte": cyclic_labels(num_test),
    }


def write_mnist(root: Path, *, dataset: str = "MNIST", num_train: int = 60, num_test: int = 20) -> None:
    """Write `<root>/<dataset>/raw/` with the four uncompressed files."""
    folder = root / dataset / "raw"
    folder.mkdir(parents=True)
    for name, array in mnist_parts(num_train, num_test).items():
        (folder / name).write_bytes(idx(array))


def write_mnist_archives(folder: Path, *, num_train: int = 60, num_test: int = 20) -> list[tuple[str, str]]:
    """Write the four .gz files that torchvision downloads; return (file name, md5) of each."""
    resources = []
    for name, array in mnist_parts(num_train, num_test).items():
        path = folder / f"{name}.gz"
        path.write_bytes(gzip.compress(idx(array)))
        resources.append((path.name, md5(path)))
    return resources


def write_cifar10(root: Path, *, num_batch: int = 12, num_test: int = 20) -> dict[str, str]:
    """Write `<root>/cifar-10-batches-py/`; return file name to md5."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    for seed, name in enumerate(names):
        count = num_test if name == "test_batch" else num_batch
        batch = {
            "data": random_images(count, (3, 32, 32), seed=seed).reshape(count, -1),
            "labels": cyclic_labels(count).tolist(),
        }
        (folder / name).write_bytes(pickle.dumps(batch))
    classes = "airplane automobile bird cat deer dog frog horse ship truck".split()
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": classes}))
    return {path.name: md5(path) for path in folder.iterdir()}


def encode(image: np.ndarray, *, kind: str = "PNG") -> bytes:
    """Encode one uint8 image (c, h, w)."""
    pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def parquet_table(
    encoded: list[bytes | None], labels: np.ndarray, *, column: str = "image", class_names: list[str] | None = None
) -> pa.Table:
    """Return a table in the Hugging Face layout."""
    images = [{"bytes": data, "path": None} for data in encoded]
    table = pa.table(
        {
            column: pa.array(images, pa.struct({"bytes": pa.binary(), "path": pa.string()})),
            "label": pa.array(labels, pa.int64()),
        }
    )
    if class_names is None:
        return table
    features = {column: {"_type": "Image"}, "label": {"names": class_names, "_type": "ClassLabel"}}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write_parquet(
    folder: Path,
    *,
    shape: tuple[int, int, int] = (3, 32, 32),
    num_train: int = 60,
    num_test: int = 20,
    column: str = "image",
    class_names: list[str] | None = None,
) -> None:
    """Write random images as `<folder>/train-00000-of-00001.parquet` and its test counterpart."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (split, count) in enumerate({"train": num_train, "test": num_test}.items()):
        encoded: list[bytes | None] = [encode(image) for image in random_images(count, shape, seed=seed)]
        table = parquet_table(encoded, cyclic_labels(count), column=column, class_names=class_names)
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")


def write_svhn(folder: Path, *, num_train: int = 60, num_test: int = 20) -> dict[str, str]:
    """Write the two .mat files, in which the digit 0 has the label 10; return file name to md5."""
    from scipy.io import savemat

    folder.mkdir(parents=True, exist_ok=True)
    for seed, (split, count) in enumerate({"train": num_train, "test": num_test}.items()):
        images = random_images(count, (3, 32, 32), seed=seed)
        labels = np.where(cyclic_labels(count) == 0, 10, cyclic_labels(count)).astype(np.uint8)
        savemat(folder / f"{split}_32x32.mat", {"X": images.transpose(2, 3, 1, 0), "y": labels[:, None]})
    return {path.name: md5(path) for path in folder.glob("*.mat")}


def write_image_tree(folder: Path, images: dict[str, list[np.ndarray]], *, classes: list[str]) -> None:
    """Write `<folder>/train` and `<folder>/val`, both with a folder for each class; `images`: class to (c, h, w)."""
    for part in ("train", "val"):
        for name in classes:
            (folder / part / name).mkdir(parents=True)
        for name, contents in images.items():
            for number, image in enumerate(contents):
                (folder / part / name / f"{part}_{number}.png").write_bytes(encode(image))


def write_restricted_imagenet(root: Path) -> None:
    """Write three small images for each of the nine groups, in ImageNet's thousand folders."""
    first = {"dog": 151, "cat": 281, "frog": 30, "turtle": 33, "bird": 80, "primate": 365, "fish": 389, "crab": 118}
    wnids = [f"n{10_000_000 + 7 * index}" for index in range(1000)]
    contents = {wnids[index]: list(random_images(3, (3, 70, 80), seed=index)) for index in [*first.values(), 300]}
    write_image_tree(root / "restricted_imagenet", contents, classes=wnids)
