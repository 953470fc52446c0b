"""Restricted ImageNet: nine groups of ImageNet classes at 64x64, decoded once from a folder of images."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.base import Integers, Pixels, RawImages
from trainables.data.decoding import decoded
from trainables.data.roots import DataError, DataNotFoundError, cache_folder, require_root

# First and last ImageNet class of each group.
GROUPS = {
    "dog": (151, 268),
    "cat": (281, 285),
    "frog": (30, 32),
    "turtle": (33, 37),
    "bird": (80, 100),
    "primate": (365, 382),
    "fish": (389, 397),
    "crab": (118, 121),
    "insect": (300, 319),
}
_FOLDERS = ("restricted_imagenet", "imagenet")
_PARTS = {"train": "train", "test": "val"}
_NUM_CLASSES = 1000
_SHORT_SIDE = 72
_SIDE = 64
_SUFFIXES = {".jpg", ".jpeg", ".png"}


class RestrictedImageNet:
    """Loader of `<root>/restricted_imagenet` or `<root>/imagenet`, each with `train/` and `val/`.

    Each of the two holds ImageNet's 1,000 class folders, whose sorted order is the class index (numbers sort as
    numbers), or the nine folders of the groups themselves. `val/` is the test split. An image's short side is resized
    to 72 pixels (bilinear, antialiased), and the central 64x64 are kept, as in the paper. The decoded images are
    written to the per-user cache folder, and later loads map them from there.

    Source: Tsipras et al. 2019 (nine groups); Yang et al. 2020 (size and crop).
    """

    about = "nine groups of ImageNet's classes (animals), 64x64 colour; your ImageNet's train/ and val/ folders"

    def check(self, root: Path, /) -> None:
        """Raise `DataNotFoundError` unless the folders exist, and `DataError` unless their classes are known."""
        folder = _folder(root)
        for part in _PARTS.values():
            _class_folders(folder / part)

    def __call__(self, root: Path, /) -> RawImages:
        """Decode all images, or map the images decoded by an earlier load.

        Raises:
            DataNotFoundError: The folders do not exist.
            DataError: Class folders are neither of the two kinds or hold no images, or an image cannot be decoded.
        """
        from filelock import FileLock

        folder = _folder(root)
        files = {split: _files(folder / part) for split, part in _PARTS.items()}
        cache = cache_folder()
        arrays_folder = cache / f"restricted_imagenet-{_SIDE}-upright-{_fingerprint(folder, files)}"
        with FileLock(cache / ".restricted_imagenet.lock"):
            if not arrays_folder.is_dir():
                _decode_all(files, arrays_folder)
        stored = arrays_folder.glob("*.npy")
        arrays: dict[str, Any] = {path.stem: np.asarray(np.load(path, mmap_mode="r")) for path in stored}
        for split, part in files.items():
            arrays[f"{split}_files"] = tuple(str(path.relative_to(folder)) for path, _ in part)
        return RawImages(**arrays, class_names=tuple(GROUPS))


restricted_imagenet = RestrictedImageNet()


def _folder(root: Path) -> Path:
    require_root(root)
    for name in _FOLDERS:
        if all((root / name / part).is_dir() for part in _PARTS.values()):
            return root / name
    raise DataNotFoundError(
        f"restricted_imagenet is not in {root} and cannot be downloaded (ImageNet needs an account); fill "
        f"{root / _FOLDERS[0]} or {root / _FOLDERS[1]} with train/ and val/, each with ImageNet's 1,000 class folders "
        f"or with the nine folders {', '.join(GROUPS)}"
    )


def _class_folders(part: Path) -> list[tuple[Path, int]]:
    """Return the class folders that belong to a group, with the group's label."""
    folders = [path for path in part.iterdir() if path.is_dir()]
    names = {path.name for path in folders}
    if names == set(GROUPS):
        return [(part / name, label) for label, name in enumerate(GROUPS)]
    if len(names) != _NUM_CLASSES:
        raise DataError(
            f"{part} must hold {_NUM_CLASSES} class folders or the nine folders {', '.join(GROUPS)}, "
            f"got {len(names)} folders"
        )
    numbered = all(name.isdecimal() for name in names)
    folders.sort(key=lambda path: (int(path.name) if numbered else 0, path.name))
    bounds = enumerate(GROUPS.values())
    return [(folders[index], label) for label, (first, last) in bounds for index in range(first, last + 1)]


def _files(part: Path) -> list[tuple[Path, int]]:
    files = [
        (path, label)
        for folder, label in _class_folders(part)
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in _SUFFIXES
    ]
    if not files:
        raise DataError(f"{part} must hold .jpg, .jpeg or .png files in its class folders, found none")
    return files


def _fingerprint(folder: Path, files: dict[str, list[tuple[Path, int]]]) -> str:
    digest = hashlib.sha256()
    for part in files.values():
        for path, label in part:
            status = path.stat()
            digest.update(f"{path.relative_to(folder)} {status.st_size} {status.st_mtime_ns} {label}\n".encode())
    return digest.hexdigest()[:16]


def _decode_all(files: dict[str, list[tuple[Path, int]]], folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        complete = Path(temporary) / "complete"
        complete.mkdir()
        for split, part in files.items():
            images = np.lib.format.open_memmap(
                complete / f"{split}_images.npy", mode="w+", dtype=np.uint8, shape=(len(part), 3, _SIDE, _SIDE)
            )
            for row, image in enumerate(_decoded([path for path, _ in part])):
                images[row] = image
            images.flush()
            labels: Integers = np.array([label for _, label in part], dtype=np.int64)
            np.save(complete / f"{split}_labels.npy", labels)
        complete.rename(folder)


def _decoded(paths: list[Path]) -> Iterator[Pixels]:
    # Batches bound the number of decoded images that wait to be written.
    batch = 1024
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(paths), batch):
            yield from pool.map(_decode, paths[start : start + batch])


def _decode(path: Path) -> Pixels:
    from PIL import Image

    image = decoded(path, where=str(path)).convert("RGB")
    width, height = image.size
    short = min(width, height)
    width, height = int(_SHORT_SIDE * width / short), int(_SHORT_SIDE * height / short)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - _SIDE) / 2), round((height - _SIDE) / 2)
    return np.asarray(image.crop((left, top, left + _SIDE, top + _SIDE))).transpose(2, 0, 1)
