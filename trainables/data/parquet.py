"""Image sets as Parquet files in the Hugging Face layout: those of train and of test in one folder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainables.checkpoints.files import physical_memory
from trainables.data.base import Integers, Pixels, RawImages
from trainables.data.class_names import LABEL_COLUMN, Classes, agreed_classes, numbered_classes
from trainables.data.decoding import decoded
from trainables.data.inspection import digests
from trainables.data.parquet_files import SPLITS, notes_on_files, require_splits, split_files
from trainables.data.roots import DataError, naming

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_IMAGE_COLUMNS = ("img", "image")
_BATCH_ROWS = 1024
MOST_PIXELS = 25_000_000
"""Most pixels of one image; a few bytes can stand for any number of them."""

MOST_BYTES = 2**30
"""Most bytes of encoded images that are read at a time."""

_NO_LABELS = np.empty(0, np.int64)


@dataclass(frozen=True)
class ParquetSet:
    """Loader of one folder of Parquet files.

    Attributes:
        folder: Holds the files of train and test (`parquet_files.LAYOUT`) with a column `img` or `image`,
            struct<bytes, path>, and an integer column `label`.
        class_names: Names to use if the files have none; None: the label numbers.
    """

    folder: Path
    class_names: tuple[str, ...] | None = None

    def check(self, root: Path, /) -> None:
        """Raise `DataNotFoundError` unless both splits have files."""
        require_splits(self.folder)

    def __call__(self, root: Path, /) -> RawImages:
        """Decode all images; grey ones have 1 channel, others 3. Labels are matched by class name across files.

        Raises:
            DataNotFoundError: A split has no files.
            DataError: A column is missing or of another type, an image cannot be decoded, sizes differ, class names
                differ, or labels without names are not 0..K-1.
        """
        self.check(root)
        parts = [split_files(self.folder, split) for split in SPLITS]
        every = [path for files in parts for path in files]
        classes = agreed_classes({path: _metadata(path) for path in every})
        train, test = (_read_split(files, classes) for files in parts)
        train_images, test_images = train.images, test.images
        if train_images.shape[1] != test_images.shape[1]:
            train_images, test_images = (np.repeat(x, 3 // x.shape[1], axis=1) for x in (train_images, test_images))
        names = classes.names or self.class_names
        names = names or numbered_classes([train.labels, test.labels], folder=self.folder)
        with naming(self.folder):
            return RawImages(
                train_images,
                train.labels,
                test_images,
                test.labels,
                class_names=names,
                notes=(*notes_on_files(self.folder, every), *classes.notes),
                train_files=train.files,
                test_files=test.files,
            )


def read_images(files: list[Path], /) -> Pixels:
    """Decode all images of the files, which need no labels; grey ones have 1 channel, others 3.

    Raises:
        DataError: A column is missing or of another type, an image cannot be decoded, sizes differ.
    """
    return _read_split(files, None).images


def read_labelled(files: list[Path], /) -> tuple[Pixels, Integers, tuple[str, ...] | None]:
    """Decode all images of the files with their labels, and return the names of the classes if the files have any.

    Raises:
        DataError: As `read_images`, or labels are missing, or class names differ.
    """
    classes = agreed_classes({path: _metadata(path) for path in files})
    part = _read_split(files, classes)
    return part.images, part.labels, classes.names


@dataclass(frozen=True)
class _Part:
    """The images (n, c, h, w) of one split, their labels (n,) if they have any, and the names of their files (n)."""

    images: Pixels
    labels: Integers
    files: tuple[str, ...]


def _read_split(files: Sequence[Path], classes: Classes | None) -> _Part:
    """Read files, their labels too if `classes` says what those mean."""
    labelled = classes is not None
    images: list[Pixels] = []
    labels: list[Integers] = []
    names: list[str] = []
    for path in files:
        with _opened(path) as file:
            column = _image_column(file.schema_arrow, path, labelled=labelled)
            columns = [f"{column}.bytes", *([LABEL_COLUMN] if labelled else [])]
            for batch in file.iter_batches(_rows_at_a_time(file.metadata, path), columns=columns):
                images.extend(_decode(batch.column(column).field("bytes"), path, images))
                _require_memory(file.metadata.num_rows, images[0], path)
                if classes is not None:
                    labels.append(classes.relabel(_labels(batch.column(LABEL_COLUMN), path), path))
        names += [path.name] * (len(images) - len(names))
    if not images:
        raise DataError(f"{files[0]} holds no images")
    if len({image.ndim for image in images}) > 1:
        images = [image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2) for image in images]
    stacked = np.stack(images)
    channels_first = stacked[:, None] if stacked.ndim == 3 else stacked.transpose(0, 3, 1, 2)
    part = _Part(np.ascontiguousarray(channels_first), np.concatenate([_NO_LABELS, *labels]), tuple(names))
    if labelled and len(files) > 1:
        _require_new_images(files, part)
    return part


def _require_new_images(files: Sequence[Path], part: _Part) -> None:
    """Check that no file holds what others hold, as `train.parquet` does beside the shards that it was cut into."""
    places = defaultdict(set)
    for digest, name in zip(digests(part.images, scale=0), part.files, strict=True):
        places[digest].add(name)
    alone = {next(iter(names)) for names in places.values() if len(names) == 1}
    for path in files:
        if path.name in part.files and path.name not in alone:
            raise DataError(f"{path}: all its images are in the other files of its split too; move one of them away")


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file; what makes it unreadable, also later, is a `DataError`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {error}") from error


def _metadata(path: Path) -> bytes | None:
    """Return what the `datasets` library wrote about a file's columns."""
    with _opened(path) as file:
        text: bytes | None = (file.schema_arrow.metadata or {}).get(b"huggingface")
    return text


def _require_memory(rows: int, image: Pixels, path: Path) -> None:
    if rows * image.nbytes > physical_memory():
        height, width = image.shape[:2]
        raise DataError(f"{path} holds {rows:,} images of {width}x{height} pixels, more than fits in memory")


def _image_column(schema: pa.Schema, path: Path, *, labelled: bool) -> str:
    import pyarrow as pa

    if all(name in schema.names for name in _IMAGE_COLUMNS):
        raise DataError(f"{path} must have one of the columns `img` and `image`, got both: leave one out of the file")
    column = next((name for name in _IMAGE_COLUMNS if name in schema.names), None)
    if column is None or (labelled and LABEL_COLUMN not in schema.names):
        required = "columns `img` or `image` and `label`" if labelled else "a column `img` or `image`"
        raise DataError(f"{path} must have {required}, got {', '.join(schema.names)}")
    for name in (column, LABEL_COLUMN):
        if schema.names.count(name) > 1:
            raise DataError(f"{path} must have one column `{name}`, got {schema.names.count(name)}")
    image_type = schema.field(column).type
    at = image_type.get_field_index("bytes") if pa.types.is_struct(image_type) else -1
    if at < 0 or not (pa.types.is_binary(image_type[at].type) or pa.types.is_large_binary(image_type[at].type)):
        raise DataError(f"{path}: column `{column}` must be struct<bytes, path>, got {image_type}")
    if labelled and not pa.types.is_integer(schema.field(LABEL_COLUMN).type):
        raise DataError(
            f"{path}: column `{LABEL_COLUMN}` must be integers, got {schema.field(LABEL_COLUMN).type}: number the "
            "classes 0..K-1, in the same way for train and test"
        )
    return column


def _decode(column: pa.Array, path: Path, before: list[Pixels]) -> Iterator[Pixels]:
    size = before[0].shape[:2] if before else None
    for row, data in enumerate(column.to_pylist(), start=len(before)):
        image = _pixels(data, where=f"{path}, image {row} of the split")
        size = size or image.shape[:2]
        if image.shape[:2] != size:
            raise DataError(
                f"{path}, image {row} of the split: all images of a data set must have one size, "
                f"got {image.shape[0]}x{image.shape[1]} after {size[0]}x{size[1]}"
            )
        yield image


def _rows_at_a_time(metadata: pq.FileMetaData, path: Path) -> int:
    """Return how many rows can be read at once: repeated images take room once in a file, and each time in memory."""
    groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
    sizes = [group.column(at).total_uncompressed_size for group in groups for at in range(group.num_columns)]
    largest = max(sizes, default=0)
    if largest > physical_memory():
        raise DataError(f"{path} holds {largest:,} bytes in one part, more than fits in memory")
    # no image is larger than all of its part
    return int(min(max(1, MOST_BYTES // max(1, largest)), _BATCH_ROWS))


def _pixels(data: bytes | None, *, where: str) -> Pixels:
    if data is None:
        raise DataError(f"{where}: `bytes` must hold the encoded image, got null")
    return np.asarray(decoded(data, where=where, most_pixels=MOST_PIXELS))


def _labels(column: pa.Array, path: Path) -> Integers:
    if column.null_count:
        raise DataError(f"{path}: column `{LABEL_COLUMN}` must have no nulls, got {column.null_count}")
    values = column.to_numpy(zero_copy_only=False)
    if values.size and values.max() > np.iinfo(np.int64).max:
        raise DataError(f"{path}: labels must count the classes from 0, got {values.max()}")
    labels: Integers = values.astype(np.int64)
    return labels
