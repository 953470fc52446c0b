"""Parquet image sets in the Hugging Face layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.networks.image_files import cyclic_labels, encode, parquet_table, random_images, write_parquet

from trainables.data import DataError, DataNotFoundError, check_available, load_dataset, parquet
from trainables.data.parquet import ParquetSet, read_images
from trainables.spec import DatasetSpec


@pytest.mark.parametrize("column", ["img", "image"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 7)])
def test_pixels_and_labels_round_trip(tmp_path: Path, column: str, shape: tuple[int, int, int]) -> None:
    write_parquet(tmp_path, shape=shape, column=column)
    raw = ParquetSet(tmp_path)(tmp_path)
    np.testing.assert_array_equal(raw.train_images, random_images(60, shape))
    np.testing.assert_array_equal(raw.test_images, random_images(20, shape, seed=1))
    np.testing.assert_array_equal(raw.train_labels, cyclic_labels(60))
    assert raw.class_names == tuple("0123456789")


def test_class_names_come_from_the_schema(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(10)]
    write_parquet(tmp_path, class_names=names)
    assert ParquetSet(tmp_path, class_names=tuple("abcdefghij"))(tmp_path).class_names == tuple(names)


def test_class_names_of_the_registered_set_are_the_fallback(tmp_path: Path) -> None:
    write_parquet(tmp_path)
    assert ParquetSet(tmp_path, class_names=tuple("abcdefghij"))(tmp_path).class_names == tuple("abcdefghij")


def test_files_of_a_split_are_read_in_name_order(tmp_path: Path) -> None:
    write_parquet(tmp_path, num_train=5)
    images = random_images(3, (3, 32, 32), seed=7)
    table = parquet_table([encode(image) for image in images], cyclic_labels(3))
    pq.write_table(table, tmp_path / "train-00001-of-00001.parquet")
    raw = ParquetSet(tmp_path)(tmp_path)
    np.testing.assert_array_equal(raw.train_images, np.concatenate([random_images(5, (3, 32, 32)), images]))


def test_more_rows_than_a_batch_and_several_row_groups(tmp_path: Path) -> None:
    images = random_images(2500, (1, 2, 2))
    table = parquet_table([encode(image) for image in images], cyclic_labels(2500))
    for split in ("train", "test"):
        pq.write_table(table, tmp_path / f"{split}.parquet", row_group_size=700)
    np.testing.assert_array_equal(ParquetSet(tmp_path)(tmp_path).train_images, images)


@pytest.mark.parametrize("grey_split", ["train", "test", "within"])
def test_grey_among_colour_becomes_colour(tmp_path: Path, grey_split: str) -> None:
    grey, colour = random_images(4, (1, 8, 8)), random_images(4, (3, 8, 8))
    mixed = [encode(grey[0]), *[encode(image) for image in colour[1:]]]
    contents = {
        "train": [encode(image) for image in (grey if grey_split == "train" else colour)],
        "test": [encode(image) for image in (grey if grey_split == "test" else colour)],
    }
    if grey_split == "within":
        contents["train"] = mixed
    for split, encoded in contents.items():
        pq.write_table(parquet_table(encoded, cyclic_labels(4)), tmp_path / f"{split}.parquet")
    raw = ParquetSet(tmp_path)(tmp_path)
    assert raw.train_images.shape == raw.test_images.shape == (4, 3, 8, 8)
    images = raw.test_images if grey_split == "test" else raw.train_images
    np.testing.assert_array_equal(images[0], np.repeat(grey[0], 3, axis=0))


def _write(folder: Path, table: pa.Table) -> None:
    for split in ("train", "test"):
        pq.write_table(table, folder / f"{split}.parquet")


def _sixteen_bits() -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


GOOD = encode(random_images(1, (1, 8, 8))[0])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            parquet_table([GOOD, encode(random_images(1, (1, 8, 9))[0])], cyclic_labels(2)),
            "one size, got 8x9 after 8x8",
        ),
        (parquet_table([GOOD, b"no image"], cyclic_labels(2)), "image 1 of the split cannot be decoded"),
        (parquet_table([GOOD, GOOD[:60]], cyclic_labels(2)), "image 1 of the split cannot be decoded"),
        (parquet_table([None], cyclic_labels(1)), "`bytes` must hold the encoded image, got null"),
        (parquet_table([_sixteen_bits()], cyclic_labels(1)), "8 bits, got mode I"),
        (parquet_table([], cyclic_labels(0)), "holds no images"),
        (parquet_table([GOOD], np.array([None])), "must have no nulls"),
        (parquet_table([GOOD, GOOD], np.array([0, -1])), r"labels must be in 0\.\.0, got -1"),
        (parquet_table([GOOD], cyclic_labels(1), column="picture"), "`img` or `image` and `label`, got picture, label"),
        (pa.table({"image": [GOOD], "label": [0]}), "must be struct<bytes, path>, got binary"),
        (
            pa.table({"image": [{"bytes": "a.png", "path": ""}], "label": [0]}),
            r"must be struct<bytes, path>, got struct<",
        ),
        (pa.table({"image": [{"bytes": GOOD, "path": ""}], "label": ["cat"]}), "must be integers, got string"),
    ],
)
def test_errors_name_what_is_wrong(tmp_path: Path, table: pa.Table, message: str) -> None:
    _write(tmp_path, table)
    with pytest.raises(DataError, match=message) as caught:
        ParquetSet(tmp_path)(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_parquet(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}.parquet").write_bytes(b"not at all")
    with pytest.raises(DataError, match=r"train.parquet is not a readable Parquet file"):
        ParquetSet(tmp_path)(tmp_path)


@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_missing_split_is_named_before_reading(tmp_path: Path, missing: str) -> None:
    write_parquet(tmp_path)
    (tmp_path / f"{missing}-00000-of-00001.parquet").unlink()
    spec = DatasetSpec(name=str(tmp_path))
    for use in (check_available, load_dataset):
        with pytest.raises(
            DataNotFoundError,
            match=rf"no file is named like {missing}\.parquet; it holds [a-z]+-00000-of-00001\.parquet",
        ):
            use(spec)


def test_a_folder_is_found_relative_to_the_working_folder_and_to_the_root(tmp_path: Path, monkeypatch) -> None:
    write_parquet(tmp_path / "data" / "letters", shape=(1, 8, 8))
    monkeypatch.chdir(tmp_path)
    hashes = set()
    for spec in (
        DatasetSpec(name=str(tmp_path / "data" / "letters")),
        DatasetSpec(name="data/letters"),
        DatasetSpec(name="letters", root=str(tmp_path / "data")),
        DatasetSpec(name="data/letters/"),
    ):
        check_available(spec)
        data = load_dataset(spec)
        assert data.name == "letters"
        hashes.add(data.split_hash)
    assert len(hashes) == 1


def test_a_missing_path(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"`dataset.name` must be .* existing folder, got ./nothing/here"):
        check_available(DatasetSpec(name="./nothing/here"))


def test_a_format_that_is_handed_to_another_program_is_not_decoded(tmp_path: Path) -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EOF\n"
    pq.write_table(parquet_table([postscript], cyclic_labels(1)), tmp_path / "pool.parquet")
    with pytest.raises(DataError, match="image 0 of the split cannot be decoded: it is none of PNG, JPEG, WEBP"):
        read_images([tmp_path / "pool.parquet"])


def test_few_bytes_that_stand_for_many_pixels_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "pool.parquet"
    content = encode(random_images(1, (1, 40, 50))[0])
    pq.write_table(parquet_table([content] * 30, cyclic_labels(30)), file)
    assert read_images([file]).shape == (30, 1, 40, 50)
    for name, value, message in (
        ("MOST_PIXELS", 1999, "an image may have 1,999 pixels at most, got 50x40"),
        ("physical_memory", lambda: 100, "bytes in one part, more than fits in memory"),
        ("physical_memory", lambda: 30 * 2000 - 1, "holds 30 images of 50x40 pixels, more than fits in memory"),
    ):
        with monkeypatch.context() as changed:
            changed.setattr(parquet, name, value)
            with pytest.raises(DataError, match=message):
                read_images([file])


def test_a_small_file_that_repeats_a_large_image_is_read_a_few_rows_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "pool.parquet"
    content = encode(random_images(1, (1, 40, 50))[0])
    pq.write_table(parquet_table([content] * 30, cyclic_labels(30)), file, row_group_size=7)
    part = max(pq.read_metadata(file).row_group(0).column(at).total_uncompressed_size for at in range(3))
    monkeypatch.setattr(parquet, "MOST_BYTES", 3 * part)
    with pq.ParquetFile(file) as opened:
        assert parquet._rows_at_a_time(opened.metadata, file) == 3
    assert read_images([file]).shape == (30, 1, 40, 50)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("image", "must have one column `image`, got 2"),
        ("label", "must have one column `label`, got 2"),
        ("img", "must have one of the columns `img` and `image`, got both"),
    ],
)
def test_two_columns_of_images_or_labels_are_refused(tmp_path: Path, column: str, message: str) -> None:
    write_parquet(tmp_path, column="image")
    file = next(tmp_path.glob("train*.parquet"))
    table = pq.read_table(file)
    pq.write_table(table.append_column(column, table["image" if column == "img" else column]), file)
    with pytest.raises(DataError, match=message):
        ParquetSet(tmp_path)(tmp_path)
