"""What labels of Parquet files mean: matched by class name across files, or numbers from 0 without gaps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.networks.image_files import encode, parquet_table, random_images

from trainables.data import DataError, load_dataset
from trainables.data.base import RawImages
from trainables.data.parquet import ParquetSet
from trainables.spec import DatasetSpec

NAMES = ["ant", "bee", "cat", "dog"]
LABELS = [0, 1, 2, 3] * 3
NO_LIST = b'{"info": {"features": {"label": {"names": "ant"}}}}'


def write(path: Path, labels: Sequence[int], names: list[str] | None = None, *, kind: object = None) -> None:
    """Write as many random images as there are labels; `kind` is the type of the labels' column."""
    path.parent.mkdir(exist_ok=True)
    encoded = [encode(image) for image in random_images(len(labels), (1, 4, 4), seed=sum(path.name.encode()))]
    table = parquet_table(encoded, np.zeros(len(labels), int), class_names=names)
    column = pa.array(labels, kind or pa.int64())
    pq.write_table(table.set_column(1, "label", column).replace_schema_metadata(table.schema.metadata), path)


def read(folder: Path) -> RawImages:
    return ParquetSet(folder)(folder)


def test_labels_of_a_split_in_another_order_are_matched_by_name(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", LABELS, NAMES)
    write(tmp_path / "test.parquet", [3, 2, 0], NAMES[::-1])
    raw = read(tmp_path)
    assert raw.class_names == tuple(NAMES)
    assert [raw.class_names[label] for label in raw.test_labels] == ["ant", "bee", "dog"]
    assert raw.train_labels.tolist() == LABELS
    assert raw.notes == (
        "classes are in another order in test.parquet than in train.parquet: labels are matched by name",
    )


def test_labels_of_a_shard_in_a_cyclic_order_are_matched_by_name(tmp_path: Path) -> None:
    """A reversed order is its own inverse; this one is not."""
    write(tmp_path / "train-00000-of-00002.parquet", LABELS, NAMES)
    write(tmp_path / "train-00001-of-00002.parquet", [0, 1, 2, 3], ["bee", "cat", "dog", "ant"])
    write(tmp_path / "test.parquet", LABELS, NAMES)
    raw = read(tmp_path)
    assert [raw.class_names[label] for label in raw.train_labels[-4:]] == ["bee", "cat", "dog", "ant"]
    assert raw.test_labels.tolist() == LABELS
    assert len(raw.notes) == 1


@pytest.mark.parametrize(
    ("others", "only"),
    [
        (["ant", "bee", "cat", "wasp"], r"only the first has 'wasp', only the second 'dog', of 4 and 4 names"),
        (["ant", "bee", "cat"], r"only the first has no other, only the second 'dog', of 3 and 4 names"),
        ([*NAMES, "elk"], r"only the first has 'elk', only the second no other, of 5 and 4 names"),
        (["ant", "ant", "bee", "cat"], r"only the first has no other, only the second 'dog', of 4 and 4 names"),
    ],
)
def test_names_that_do_not_match_one_to_one_are_refused(tmp_path: Path, others: list[str], only: str) -> None:
    write(tmp_path / "train.parquet", LABELS, NAMES)
    write(tmp_path / "test.parquet", [0, 1], others)
    with pytest.raises(DataError, match=rf"test\.parquet and train\.parquet must match one to one: {only}"):
        read(tmp_path)


@pytest.mark.parametrize("bare", ["train.parquet", "test.parquet"])
def test_files_without_names_beside_named_ones_are_said(tmp_path: Path, bare: str) -> None:
    for file in ("train.parquet", "test.parquet"):
        write(tmp_path / file, LABELS, None if file == bare else NAMES)
    raw = read(tmp_path)
    named = {"train.parquet": "test.parquet", "test.parquet": "train.parquet"}[bare]
    assert raw.notes == (f"no class names in {bare}: labels there are taken to count the classes of {named}",)
    assert raw.class_names == tuple(NAMES)


def test_a_name_of_two_classes_is_refused_with_its_file(tmp_path: Path) -> None:
    for file in ("train.parquet", "test.parquet"):
        write(tmp_path / file, LABELS, ["a", "b", "a", "c"])
    with pytest.raises(DataError, match=r"train\.parquet: class names in the metadata must differ, got 'a' more than"):
        read(tmp_path)


def test_equal_names_and_files_without_names_are_no_news(tmp_path: Path) -> None:
    for folder, names in (("named", NAMES), ("bare", None)):
        for file in ("train.parquet", "test.parquet"):
            write(tmp_path / folder / file, LABELS, names)
        assert read(tmp_path / folder).notes == ()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 4], r"test\.parquet: labels must be in 0\.\.3, because the metadata names 4 classes, got 0\.\.4"),
        ([0, -1], r"got -1\.\.0 \(-1 usually marks an image without a label: leave it out\)"),
    ],
)
@pytest.mark.parametrize("names", [NAMES, NAMES[::-1]])
def test_labels_without_a_name_are_refused_with_their_file(tmp_path: Path, names, labels, message) -> None:
    write(tmp_path / "train.parquet", LABELS, NAMES)
    write(tmp_path / "test.parquet", labels, names)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


@pytest.mark.parametrize("names", [NAMES, None])
def test_a_label_beyond_64_bits_is_shown_as_it_is(tmp_path: Path, names: list[str] | None) -> None:
    write(tmp_path / "train.parquet", LABELS, names)
    write(tmp_path / "test.parquet", [0, 2**64 - 1], names, kind=pa.uint64())
    with pytest.raises(
        DataError, match=r"test\.parquet: labels must count the classes from 0, got 18446744073709551615$"
    ):
        read(tmp_path)


def test_negative_labels_without_names_are_refused_with_their_folder(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", LABELS)
    write(tmp_path / "test.parquet", [-1, -1])
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    advice = "(-1 usually marks an image without a label: leave it out)"
    assert str(caught.value) == f"{tmp_path}: test labels must be in 0..3, got -1..-1 {advice}"


def test_labels_beyond_the_names_of_a_registered_set_are_refused_with_their_folder(tmp_path: Path) -> None:
    for file in ("train.parquet", "test.parquet"):
        write(tmp_path / "mnist" / file, [0, 10])
    with pytest.raises(DataError, match=rf"^{tmp_path}/mnist: train labels must be in 0\.\.9, got 0\.\.10$"):
        load_dataset(DatasetSpec(name="mnist", root=str(tmp_path)))


TEXTS = [b"not JSON", b"[]", b'{"info": null}', b'{"info": {"features": {"label": "x"}}}', NO_LIST]


@pytest.mark.parametrize("text", TEXTS)
def test_metadata_of_another_form_is_one_line(tmp_path: Path, text: bytes) -> None:
    for file in ("train.parquet", "test.parquet"):
        write(tmp_path / file, LABELS)
        table = pq.read_table(tmp_path / file).replace_schema_metadata({b"huggingface": text})
        pq.write_table(table, tmp_path / file)
    with pytest.raises(DataError, match=r"train\.parquet: the metadata `huggingface` must be the JSON of"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2, 3, 4], r"must be 0\.\.3 for 4 classes, got 1, 2, 3, 4: subtract 1, or name the classes"),
        ([0, 1, 7], r"must be 0\.\.2 for 3 classes, got 0, 1, 7: renumber them, or name"),
        ([100_017, 200_333], r"must be 0\.\.1 for 2 classes, got 100017, 200333: renumber them"),
        ([0, 2_000_000_011], r"got 0, 2000000011: renumber them"),
        (range(10, 20), r"got 10, 11, 12, 13, 14 and 5 more: renumber them"),
    ],
)
def test_labels_without_names_must_be_consecutive_from_0(tmp_path: Path, labels, message: str) -> None:
    for file in ("train.parquet", "test.parquet"):
        write(tmp_path / file, [*labels] * 3)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_numbers_may_be_consecutive_over_both_splits_only_and_names_allow_gaps(tmp_path: Path) -> None:
    write(tmp_path / "bare/train.parquet", [0, 2, 0, 2])
    write(tmp_path / "bare/test.parquet", [1])
    assert read(tmp_path / "bare").class_names == ("0", "1", "2")
    for file in ("train.parquet", "test.parquet"):
        write(tmp_path / "named" / file, [0, 3, 0, 3], NAMES)
    assert read(tmp_path / "named").class_names == tuple(NAMES)


@pytest.mark.parametrize("kind", [pa.string(), pa.bool_(), pa.float64()])
def test_labels_of_another_type_are_refused_with_advice(tmp_path: Path, kind: pa.DataType) -> None:
    values = {"string": ["ant", "bee"], "bool": [True, False], "double": [0.0, 1.0]}[str(kind)]
    for file in ("train.parquet", "test.parquet"):
        write(tmp_path / file, values, kind=kind)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=rf"must be integers, got {kind}: number the classes 0\.\.K-1"):
        read(tmp_path)


def test_one_class_cannot_be_studied(tmp_path: Path) -> None:
    for file in ("train.parquet", "test.parquet"):
        write(tmp_path / file, [0, 0, 0])
    with pytest.raises(DataError, match="must have at least 2 classes, got 1"):
        load_dataset(DatasetSpec(name=str(tmp_path)))
