"""Small files are merged into one of each kind; a crash at any moment leaves readers the same rows."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from helpers.studies.synthetic_results import result_row

from analysis.data import compaction, results
from analysis.data.compaction import compact
from analysis.data.files import COMPACTED, read_file, trial_files
from analysis.data.results import read_epochs, read_examples, read_results, trial_file, write_columns, write_rows
from analysis.data.schema import EPOCH, EXAMPLE, RESULT, ResultsError

KINDS = (RESULT, EPOCH, EXAMPLE)


def write(folder, *numbers, param="param.beta"):
    for number in numbers:
        row = result_row(number)
        trial = row["trial_id"]
        epochs = [
            {
                "study": "toy",
                "trial_id": trial,
                "number": number,
                "epoch": epoch,
                "stale": False,
                "part.x": float(epoch),
            }
            for epoch in (1, 2)
        ]
        examples = {
            "study": ["toy"] * 3, "trial_id": [trial] * 3, "checkpoint": ["last"] * 3, "split": ["val"] * 3,
            "attack": ["pgd"] * 3, "epsilon": [0.1] * 3, "index": [0, 1, 2], "clean_correct": [True] * 3,
            "robust_correct": [number % 2 == 0] * 3,
        }  # fmt: skip
        write_columns(trial_file(folder, trial, schema=EXAMPLE), examples, EXAMPLE)
        write_rows(trial_file(folder, trial, schema=EPOCH), epochs, EPOCH)
        write_rows(trial_file(folder, trial), [{**row, param: float(number)}], RESULT)


def everything(folder):
    examples = sorted(map(str, read_examples(folder).to_pylist()))
    return read_results(folder).to_pylist(), read_epochs(folder).to_pylist(), examples


def names(folder):
    return {
        schema.name: [path.name for path in trial_files(folder / schema.folder)] for schema in (RESULT, EPOCH, EXAMPLE)
    }


def test_rows_are_the_same_and_one_file_of_each_kind_is_left(tmp_path):
    write(tmp_path, 0, 1, 2)
    write(tmp_path, 3, param="param.other")
    before = everything(tmp_path)
    assert compact(tmp_path) == {"example": 4, "epoch": 4, "result": 4}
    assert names(tmp_path) == {schema.name: [COMPACTED] for schema in KINDS}
    assert everything(tmp_path) == before
    assert compact(tmp_path) == {}


def test_a_relative_folder_that_looks_like_a_uri_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("s3:x", "file:x", "a%20b?"):
        write(Path(name), 0, 1)
        before = everything(tmp_path / name)
        assert everything(Path(name)) == before
        compact(Path(name))
        assert everything(Path(name)) == before


def test_trials_that_are_added_join_it(tmp_path):
    write(tmp_path, 0, 1)
    compact(tmp_path)
    write(tmp_path, 2, 3)
    before = everything(tmp_path)
    assert len(before[0]) == 4
    compact(tmp_path)
    assert everything(tmp_path) == before
    assert names(tmp_path)["result"] == [COMPACTED]


def test_examples_of_some_trials_are_read_from_either_place(tmp_path):
    write(tmp_path, 0, 1)
    compact(tmp_path)
    write(tmp_path, 2)
    found = read_examples(tmp_path, trials=["t00001", "t00002"])
    assert sorted(set(found["trial_id"].to_pylist())) == ["t00001", "t00002"]
    assert found.num_rows == 6
    assert read_examples(tmp_path, trials=[]).num_rows == 0


class CrashError(BaseException):
    pass


@pytest.mark.long
def test_a_crash_at_any_step_loses_and_repeats_nothing(tmp_path, monkeypatch):
    """The crash comes before each call that changes the disk."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    start = tmp_path / "start"
    write(start, 0)
    compact(start, at_least=1)
    write(start, 2, 3)
    before = everything(start)
    shutil.copytree(start, tmp_path / "count")
    steps = run_until(tmp_path / "count", monkeypatch, None)
    assert steps > 12
    for fatal in range(steps):
        folder = tmp_path / str(fatal)
        shutil.copytree(start, folder)
        run_until(folder, monkeypatch, fatal)
        assert everything(folder) == before, f"died at step {fatal}"
        found = read_examples(folder, trials=["t00003"])
        assert found.num_rows == 3
        compact(folder, at_least=1)
        assert everything(folder) == before
        assert names(folder)["example"] == [COMPACTED]


def run_until(folder, monkeypatch, fatal):
    done = []

    def step():
        if fatal is not None and len(done) == fatal:
            raise CrashError
        done.append(1)

    def stepping(function):
        def call(*args, **kwargs):
            step()
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stepping(Path.replace))
        patch.setattr(Path, "unlink", stepping(Path.unlink))
        patch.setattr(compaction.pq.ParquetWriter, "write_table", stepping(compaction.pq.ParquetWriter.write_table))
        try:
            compact(folder)
        except CrashError:
            pass
    return len(done)


def test_a_damaged_file_stops_it_before_anything_is_removed(tmp_path):
    write(tmp_path, 0, 1, 2)
    trial_file(tmp_path, "t00001", schema=EPOCH).write_bytes(b"not Parquet")
    before = names(tmp_path)
    with pytest.raises(ResultsError, match="not a complete Parquet file"):
        compact(tmp_path)
    assert names(tmp_path)["epoch"] == before["epoch"]
    assert names(tmp_path)["result"] == before["result"]


@pytest.mark.parametrize("skip_damaged", [False, True])
@pytest.mark.parametrize("compacted", [(), (0, 1)])
def test_a_reader_during_compaction_gets_every_row(tmp_path, monkeypatch, compacted, skip_damaged):
    write(tmp_path, *compacted)
    compact(tmp_path)
    write(tmp_path, 2, 3, 4)
    complete = read_results(tmp_path)

    def slow(path, schema, **options):
        """Read a file; the study's small ones are merged before the third is read."""
        if path.stem == "t00003":
            compact(tmp_path)
        return read_file(path, schema, **options)

    monkeypatch.setattr(results, "read_file", slow)
    assert read_results(tmp_path, skip_damaged=skip_damaged) == complete
