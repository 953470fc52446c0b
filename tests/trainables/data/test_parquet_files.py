"""Which files of a folder a split takes: those with exactly its names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.networks.image_files import write_parquet

from trainables.data import DataError, DataNotFoundError, load_dataset
from trainables.data.parquet import ParquetSet
from trainables.data.parquet_files import has_parquet, notes_on_files, pool_files, require_splits, split_files
from trainables.data.unlabelled import check_images, load_images
from trainables.spec import DatasetSpec

TAKEN = [
    "train.parquet",
    "train-00000-of-00001.parquet",
    "train-00000-of-00001-0123456789abcdef.parquet",
    "train_0.parquet",
    "train-12.parquet",
    "train_00000_of_00001.parquet",
]
LEFT_OUT = [
    "trainval.parquet",
    "training.parquet",
    "train_extra_unlabelled.parquet",
    "train_augmented.parquet",
    "train-small.parquet",
    "train0.parquet",
    "my_train.parquet",
    "train.parquet.parquet",
    "validation.parquet",
]


def fill(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


@pytest.mark.parametrize("name", TAKEN)
def test_the_usual_names_are_taken(tmp_path: Path, name: str) -> None:
    files = [name, name.replace("train", "test")]
    fill(tmp_path, *files)
    assert [split_files(tmp_path, split) for split in ("train", "test")] == [[tmp_path / file] for file in files]
    assert has_parquet(tmp_path)
    assert notes_on_files(tmp_path, map(tmp_path.joinpath, files)) == []


@pytest.mark.parametrize("name", LEFT_OUT)
def test_neighbours_are_left_out_and_named(tmp_path: Path, name: str) -> None:
    files = ["train.parquet", "test.parquet"]
    fill(tmp_path, *files, name)
    assert split_files(tmp_path, "train") == [tmp_path / "train.parquet"]
    note = f"{name} left out: only files named like train.parquet and test.parquet are read"
    assert notes_on_files(tmp_path, map(tmp_path.joinpath, files)) == [note]


def test_a_neighbour_alone_is_no_split_and_is_named(tmp_path: Path) -> None:
    fill(tmp_path, "train_small.parquet", "test.parquet")
    with pytest.raises(
        DataNotFoundError, match=r"no file is named like train\.parquet; it holds .*train_small\.parquet"
    ):
        require_splits(tmp_path)


def test_shards_that_are_missing_are_counted(tmp_path: Path) -> None:
    names = [f"train-{number:05}-of-00004.parquet" for number in (0, 3)] + ["test-00000-of-00001.parquet"]
    fill(tmp_path, *names)
    assert notes_on_files(tmp_path, map(tmp_path.joinpath, names)) == ["2 of the 4 files of train are missing"]


def test_a_split_in_one_file_and_in_shards_is_said(tmp_path: Path) -> None:
    names = ["train.parquet", "train-00000-of-00001.parquet", "test.parquet"]
    fill(tmp_path, *names)
    line = "train is read from train.parquet and from train-00000-of-00001.parquet: move away what holds it twice"
    assert notes_on_files(tmp_path, map(tmp_path.joinpath, names)) == [line]


@pytest.mark.parametrize("extra", ["train.parquet", "train-00000-of-00001.parquet", "train_2.parquet"])
def test_a_file_whose_images_other_files_hold_is_refused_and_one_with_others_is_read(
    tmp_path: Path, extra: str
) -> None:
    """What was cut into shards, or saved under another name, is left beside them: training images would be validation
    images too."""
    write_parquet(tmp_path, shape=(1, 4, 4), num_train=60)
    table = pq.read_table(tmp_path / "train-00000-of-00001.parquet")
    (tmp_path / "train-00000-of-00001.parquet").unlink()
    for number, rows in enumerate((table[:40], table[40:])):
        pq.write_table(rows, tmp_path / f"train-{number:05}-of-00002.parquet")
    assert len(ParquetSet(tmp_path)(tmp_path).train_labels) == 60
    pq.write_table(table[10:], tmp_path / extra)
    with pytest.raises(DataError, match=r"train.*\.parquet: all its images are in the other files of its split too"):
        ParquetSet(tmp_path)(tmp_path)
    other = write_other(tmp_path / "other")
    pq.write_table(other, tmp_path / extra)
    raw = ParquetSet(tmp_path)(tmp_path)
    assert len(raw.train_labels) == 67
    assert any(extra in note for note in raw.notes) == (extra == "train.parquet")


def write_other(folder: Path) -> pa.Table:
    """Return a table of seven images that `write_parquet` does not give to a split of 60."""
    write_parquet(folder, shape=(1, 4, 4), num_train=1, num_test=27)
    return pq.read_table(folder / "test-00000-of-00001.parquet")[20:]


def test_hidden_files_are_neither_read_nor_named(tmp_path: Path) -> None:
    write_parquet(tmp_path, shape=(1, 4, 4))
    fill(tmp_path, "._train-00000-of-00001.parquet", "._notes.parquet")
    assert ParquetSet(tmp_path)(tmp_path).notes == ()


def test_the_hubs_data_folder_is_found_and_the_folder_itself_comes_first(tmp_path: Path) -> None:
    write_parquet(tmp_path / "toy/data", shape=(1, 4, 4))
    whole = load_dataset(DatasetSpec(name=str(tmp_path / "toy")))
    assert whole.split_hash == load_dataset(DatasetSpec(name=str(tmp_path / "toy/data"))).split_hash
    assert (whole.name, len(whole.notes)) == ("toy", 0)
    fill(tmp_path / "toy", "train_old.parquet")
    assert load_dataset(DatasetSpec(name=str(tmp_path / "toy"))).notes[0].startswith("train_old.parquet left out")
    write_parquet(tmp_path / "toy", shape=(1, 4, 4), num_train=7)
    assert split_files(tmp_path / "toy", "train") == [tmp_path / "toy/train-00000-of-00001.parquet"]


@pytest.mark.parametrize(("half", "lacking"), [("train", "test"), ("test", "train")])
def test_a_split_alone_beside_the_hubs_data_folder_is_named_with_the_reason(
    tmp_path: Path, half: str, lacking: str
) -> None:
    write_parquet(tmp_path / "data", shape=(1, 4, 4))
    fill(tmp_path, f"{half}.parquet", "other.parquet")
    assert ParquetSet(tmp_path)(tmp_path).notes == (
        f"{half}.parquet left out: data/ is read, because the folder itself has no {lacking}",
        "other.parquet left out: only files named like train.parquet and test.parquet are read",
    )
    if half == "train":  # a pool takes it
        assert check_images(str(tmp_path), root=None) == [
            "other.parquet left out: only files named like train.parquet and test.parquet are read"
        ]


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (["train.parquet", "train_extra.parquet", "test.parquet"], ["train.parquet"]),
        (["extra.parquet", "more.parquet", "test.parquet"], ["extra.parquet", "more.parquet"]),
        (["train_extra.parquet", "test-00000-of-00001.parquet"], ["train_extra.parquet"]),
        (["data/train-00000-of-00001.parquet"], ["data/train-00000-of-00001.parquet"]),
    ],
)
def test_a_pool_never_takes_the_files_of_test(tmp_path: Path, names: list[str], taken: list[str]) -> None:
    fill(tmp_path, *names)
    assert pool_files(tmp_path) == [tmp_path / name for name in taken]


def test_a_pool_says_what_it_leaves_out(tmp_path: Path) -> None:
    write_parquet(tmp_path, shape=(1, 4, 4))
    extra = tmp_path / "train_extra_unlabelled.parquet"
    extra.write_bytes((tmp_path / "test-00000-of-00001.parquet").read_bytes())
    assert check_images(str(tmp_path), root=None) == [
        "train_extra_unlabelled.parquet left out: only files named like train.parquet and test.parquet are read"
    ]
    assert len(load_images(str(tmp_path), root=None)[0]) == 60
    assert check_images(str(extra), root=None) == check_images("digits", root=None) == []
    assert np.array_equal(load_images(str(extra), root=None)[0], ParquetSet(tmp_path)(tmp_path).test_images)
