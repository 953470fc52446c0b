"""Result files: the schema holds on write and read, files are complete or absent, rows are never overwritten."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.studies.synthetic_results import as_table, result_row

from analysis.data import results
from analysis.data.results import (
    ExistingRowsError,
    ResultsError,
    SchemaError,
    differing_columns,
    example_columns,
    read_epochs,
    read_examples,
    read_results,
    trial_file,
    write_columns,
    write_rows,
)
from analysis.data.schema import EPOCH, EXAMPLE, RESULT, SCHEMAS


def write_trial(study: Path, number: int, **changes: Any) -> Path:
    row = result_row(number, **changes)
    path = trial_file(study, row["trial_id"])
    write_rows(path, [row], RESULT)
    return path


def rewrite(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path)


def test_rows_come_back_as_written(tmp_path: Path) -> None:
    row = result_row(3, flags=["zero_gradients", "noisy"], val_loss=math.nan)
    write_rows(trial_file(tmp_path, row["trial_id"]), [row], RESULT)
    (back,) = read_results(tmp_path).to_pylist()
    assert differing_columns(row, back, columns=row.keys()) == {}
    assert math.isnan(back["val_loss"])
    assert back["train_clean_accuracy"] is None


def test_every_declared_column_is_stored_with_its_type(tmp_path: Path) -> None:
    schema = pq.read_schema(write_trial(tmp_path, 0))
    assert [name for name in schema.names if not name.startswith("param.")] == [
        column.name for column in RESULT.columns
    ]
    assert schema.field("number").type == pa.int32()
    assert not schema.field("trial_id").nullable
    assert schema.field("reason").nullable
    assert schema.metadata[b"robust_study.schema_version"] == b"3"


def test_reading_sorts_by_number_and_unifies_hyperparameters(tmp_path: Path) -> None:
    write_trial(tmp_path, 2, trial_id="a", **{"param.beta": 6.0})
    write_trial(tmp_path, 0, trial_id="c")
    write_trial(tmp_path, 1, trial_id="b", **{"param.lambda": 1.0})
    table = read_results(tmp_path)
    assert table["number"].to_pylist() == [0, 1, 2]
    assert table["param.beta"].to_pylist() == [None, None, 6.0]
    assert table["param.lambda"].to_pylist() == [None, 1.0, None]


def test_one_file_of_many_rows_reads_like_many_files(tmp_path: Path) -> None:
    rows = [result_row(number, **{"param.beta": float(number)}) for number in range(5)]
    for row in rows:
        write_rows(trial_file(tmp_path, row["trial_id"]), [row], RESULT)
    write_rows(tmp_path / "export.parquet", rows, RESULT)
    assert read_results(tmp_path / "export.parquet").equals(read_results(tmp_path))


def test_row_held_by_a_compacted_file_too_is_read_once(tmp_path: Path) -> None:
    write_trial(tmp_path, 0)
    write_rows(tmp_path / "results" / "compacted.parquet", [result_row(0), result_row(1)], RESULT)
    assert read_results(tmp_path)["number"].to_pylist() == [0, 1]


def test_two_files_that_disagree_on_a_trial_are_both_named(tmp_path: Path) -> None:
    write_trial(tmp_path, 0)
    write_rows(tmp_path / "results" / "compacted.parquet", [result_row(0, val_loss=1.0)], RESULT)
    with pytest.raises(
        ResultsError, match=r"t00000\.parquet and .*compacted\.parquet both hold trial t00000.*val_loss"
    ):
        read_results(tmp_path)


@pytest.mark.parametrize("read", [read_results, read_epochs, read_examples])
def test_study_without_files_gives_an_empty_table(tmp_path: Path, read: Any) -> None:
    assert read(tmp_path).num_rows == 0


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="nowhere is neither a study folder nor a Parquet file"):
        read_results(tmp_path / "nowhere")


def test_writing_again_is_idempotent_and_never_overwrites(tmp_path: Path) -> None:
    path = write_trial(tmp_path, 0, seconds=3.0)
    before = path.read_bytes()
    assert write_rows(path, [result_row(0, seconds=4.0)], RESULT) is False
    with pytest.raises(
        ExistingRowsError, match=r"differs in val_clean_accuracy \(val_clean_accuracy: 0.9 on disk, 0.8"
    ):
        write_rows(path, [result_row(0, val_clean_accuracy=0.8)], RESULT)
    with pytest.raises(ExistingRowsError, match=r"param\.beta"):
        write_rows(path, [result_row(0, **{"param.beta": 1.0})], RESULT)
    with pytest.raises(ExistingRowsError, match="1 rows, not 2"):
        write_rows(path, [result_row(0), result_row(1)], RESULT)
    assert path.read_bytes() == before


def test_crash_before_the_rename_leaves_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class CrashError(BaseException):
        pass

    def crash(*_: Any) -> None:
        raise CrashError

    with monkeypatch.context() as dying:
        dying.setattr(Path, "replace", crash)
        dying.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(CrashError):
            write_trial(tmp_path, 0)
    (left,) = (tmp_path / "results").iterdir()
    assert pq.read_table(left).num_rows == 1
    assert read_results(tmp_path).num_rows == 0
    write_trial(tmp_path, 0)
    assert [entry.name for entry in (tmp_path / "results").iterdir()] == ["t00000.parquet"]


def test_hidden_files_are_not_results(tmp_path: Path) -> None:
    path = write_trial(tmp_path, 0)
    path.with_name("._t00000.parquet").write_bytes(b"resource fork")
    assert read_results(tmp_path).num_rows == 1


def test_file_and_folder_reach_the_disk_before_and_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(
        results.os, "fsync", lambda fd: (steps.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))[1]
    )
    monkeypatch.setattr(Path, "replace", lambda self, to: (steps.append("rename"), replace(self, to))[1])
    path = write_trial(tmp_path, 0)
    assert steps == [str(path.with_name(".t00000.parquet.tmp")), "rename", str(path.parent)]


def test_failure_while_writing_removes_the_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(results.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_trial(tmp_path, 0)
    assert list((tmp_path / "results").iterdir()) == []


@pytest.mark.parametrize("keep", [0, 10, 0.5, -1])
def test_truncated_file_is_named_and_left_out_on_request(
    tmp_path: Path, keep: float, caplog: pytest.LogCaptureFixture
) -> None:
    whole, damaged = write_trial(tmp_path, 0), write_trial(tmp_path, 1)
    content = damaged.read_bytes()
    damaged.write_bytes(content[: int(len(content) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(ResultsError, match=r"t00001\.parquet is not a complete Parquet file"):
        read_results(tmp_path)
    assert read_results(tmp_path, skip_damaged=True)["trial_id"].to_pylist() == [whole.stem]
    assert "t00001.parquet" in caplog.text


def test_damage_inside_the_data_pages_is_named(tmp_path: Path) -> None:
    path = write_trial(tmp_path, 0)
    content = bytearray(path.read_bytes())
    content[4:40] = b"\xff" * 36
    path.write_bytes(content)
    with pytest.raises(ResultsError, match=r"t00000\.parquet is not a complete Parquet file"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ("version", "message"),
    [(b"1", "has result schema version 1, this robust-study reads version 3"), (b"", "version unknown")],
)
def test_other_schema_version_is_refused_even_with_skip_damaged(tmp_path: Path, version: bytes, message: str) -> None:
    path = write_trial(tmp_path, 0)
    table = pq.read_table(path)
    rewrite(path, table.replace_schema_metadata({**table.schema.metadata, b"robust_study.schema_version": version}))
    with pytest.raises(SchemaError, match=rf"t00000\.parquet .*{message}"):
        read_results(tmp_path, skip_damaged=True)


def test_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = write_trial(tmp_path, 0)
    with pytest.raises(SchemaError, match="must hold epoch rows, but has result rows"):
        read_epochs(path)
    rewrite(path, pa.table({"x": [1]}))
    with pytest.raises(SchemaError, match=r"has no robust-study schema; move it out of results/"):
        read_results(tmp_path)


def test_an_accuracy_that_is_no_number_is_read_as_missing(tmp_path: Path) -> None:
    table = as_table([result_row(0), result_row(1)])
    column = table.column_names.index("val_robust_accuracy")
    pq.write_table(table.set_column(column, table.field(column), pa.array([0.5, math.nan])), tmp_path / "r.parquet")
    assert read_results(tmp_path / "r.parquet")["val_robust_accuracy"].to_pylist() == [0.5, None]


def test_missing_unknown_and_mistyped_columns_of_a_file_are_named(tmp_path: Path) -> None:
    path = write_trial(tmp_path, 0)
    table = pq.read_table(path)
    rewrite(path, table.drop_columns(["seed"]))
    with pytest.raises(SchemaError, match="has no result column 'seed'"):
        read_results(tmp_path)
    rewrite(path, table.append_column("speed", pa.array([1.0])))
    with pytest.raises(SchemaError, match="unknown column 'speed'"):
        read_results(tmp_path)
    position = table.column_names.index("val_loss")
    rewrite(path, table.set_column(position, "val_loss", pa.array(["0.5"])))
    with pytest.raises(SchemaError, match="column 'val_loss' must be float64, got string"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speed": 1.0}, "unknown result column 'speed'"),
        ({"param.": 1.0}, r"unknown result column 'param\.'"),
        ({"part.ce": 1.0}, "unknown result column 'part.ce'"),
        ({"trial_id": None}, "'trial_id' must not be null"),
        ({"val_loss": "0.5"}, "'val_loss' must be float64, got '0.5'"),
        ({"val_loss": True}, "'val_loss' must be float64, got True"),
        ({"epochs": 1.5}, "'epochs' must be int32, got 1.5"),
        ({"epochs": True}, "'epochs' must be int32, got True"),
        ({"epochs": 2**31}, "'epochs' must be int32"),
        ({"flags": "noisy"}, "'flags' must be list<string>, got 'noisy'"),
        ({"status": "done"}, "'status' must be one of completed, stopped_early, failed, got 'done'"),
    ],
)
def test_rows_off_schema_are_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SchemaError, match=message):
        write_rows(tmp_path / "results" / "t.parquet", [result_row(0, **changes)], RESULT)
    assert not (tmp_path / "results").exists()


def test_numpy_scalars_are_accepted(tmp_path: Path) -> None:
    changes = {"val_loss": np.float32(0.5), "epochs": np.int64(7), "seed": np.uint32(9)}
    write_trial(tmp_path, 0, **changes)
    (row,) = read_results(tmp_path).to_pylist()
    assert (row["val_loss"], row["epochs"], row["seed"]) == (0.5, 7, 9)


@pytest.mark.parametrize("trial_id", ["", "../x", "a/b", ".hidden"])
def test_trial_id_that_is_no_file_name_is_refused(trial_id: str) -> None:
    with pytest.raises(ResultsError, match="`trial_id` must be usable as a file name"):
        trial_file("study", trial_id)


def test_epoch_rows_keep_order_and_loss_parts(tmp_path: Path) -> None:
    def epoch(trial: str, number: int, epoch: int, **parts: float) -> dict[str, Any]:
        row = {"study": "toy", "trial_id": trial, "number": number, "epoch": epoch, "stale": epoch == 1, "lr": 0.1}
        return {**row, "loss": 1.0, "seconds": 0.5, **parts}

    for number, trial, part in ((1, "a", "part.ce"), (0, "b", "part.kl")):
        rows = [epoch(trial, number, index, **{part: float(index)}) for index in (1, 2)]
        write_rows(trial_file(tmp_path, trial, schema=EPOCH), rows, EPOCH)
    table = read_epochs(tmp_path)
    assert table["trial_id"].to_pylist() == ["b", "b", "a", "a"]
    assert table["epoch"].to_pylist() == [1, 2, 1, 2]
    assert table["part.ce"].to_pylist() == [None, None, 1.0, 2.0]


def test_example_outcomes_of_two_splits(tmp_path: Path) -> None:
    split = {
        "index": np.array([4, 2, 9]),
        "clean_correct": np.array([True, True, False]),
        "robust_correct": np.array([True, False, False]),
        "lipschitz": np.array([1.5, np.nan]),
    }
    identity = {"study": "toy", "checkpoint": "last", "attack": "pgd", "epsilon": 0.1}
    for trial in ("a", "b"):
        columns = example_columns({"train": split, "val": split}, trial_id=trial, **identity)
        write_columns(trial_file(tmp_path, trial, schema=EXAMPLE), columns, EXAMPLE)
    table = read_examples(tmp_path, trials=["b", "not there"])
    assert set(table["trial_id"].to_pylist()) == {"b"}
    assert table["split"].to_pylist() == ["train"] * 3 + ["val"] * 3
    assert table["index"].to_pylist() == [4, 2, 9] * 2
    assert table["robust_correct"].to_pylist() == [True, False, False] * 2
    assert table["lipschitz"].to_pylist() == [1.5, None, None] * 2
    assert table["lipschitz_scale_free"].null_count == 6
    assert read_examples(tmp_path).num_rows == 12


def test_columns_of_unequal_length_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"one length, got \[1, 2\]"):
        write_columns(tmp_path / "x.parquet", {"study": ["a"], "trial_id": ["a", "b"]}, EXAMPLE)


def test_float_array_for_a_whole_number_column_is_refused(tmp_path: Path) -> None:
    columns = example_columns(
        {"val": {"index": np.zeros(1), "clean_correct": np.ones(1, bool), "robust_correct": np.ones(1, bool)}},
        study="s",
        trial_id="t",
        checkpoint="last",
        attack="pgd",
        epsilon=0.1,
    )
    with pytest.raises(SchemaError, match="'index' must be int32"):
        write_columns(tmp_path / "x.parquet", columns, EXAMPLE)


def test_comparison_is_exact_and_says_what_differs() -> None:
    row = result_row(0, val_loss=math.nan, seconds=1.0)
    assert differing_columns(row, result_row(0, val_loss=math.nan, seconds=2.0, host="other")) == {}
    nudged = result_row(0, val_clean_accuracy=math.nextafter(0.9, 1), val_loss=None, **{"param.beta": 1.0})
    assert sorted(differing_columns(row, nudged)) == ["param.beta", "val_clean_accuracy", "val_loss"]


def test_columns_that_depend_on_the_machine_are_not_deterministic() -> None:
    free = {column.name for column in RESULT.columns} - set(RESULT.deterministic_columns())
    expected = "started_at seconds seconds_training seconds_attack seconds_lipschitz examples_per_second peak_memory_mb"
    assert free == {
        "attempts",
        *expected.split(),
        "seconds_certify",
        *"device host versions code_revision mlflow_run_id checkpoint_path".split(),
    }


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_declarations_are_complete(schema: Any) -> None:
    names = [column.name for column in schema.columns]
    assert len(set(names)) == len(names)
    assert all(column.doc for column in schema.columns)
    assert set(schema.order) <= set(names)
