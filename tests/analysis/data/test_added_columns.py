"""Columns that were added to a schema later: files from before have nulls there, also once they are merged."""

from __future__ import annotations

import itertools
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers.studies.synthetic_results import result_row

from analysis.data.compaction import compact
from analysis.data.results import read_results, trial_file, write_rows
from analysis.data.schema import RESULT, SCHEMAS

ADDED = [column.name for column in RESULT.columns if column.added]


def test_only_columns_that_may_be_null_are_added() -> None:
    assert {"certify", "val_certified_accuracy"} <= set(ADDED)
    columns = itertools.chain.from_iterable(schema.columns for schema in SCHEMAS.values())
    assert all(column.nullable for column in columns if column.added)


@pytest.mark.parametrize("later", [True, False])
def test_a_file_without_them_is_read_as_null(tmp_path: Path, later: bool) -> None:
    path = trial_file(tmp_path, "t00000")
    write_rows(path, [result_row(0)], RESULT)
    pq.write_table(pq.read_table(path).drop_columns(ADDED), path)
    if later:
        write_rows(trial_file(tmp_path, "t00001"), [result_row(1, val_certified_accuracy=0.25)], RESULT)
    rows = read_results(tmp_path).to_pylist()
    assert [row["val_certified_accuracy"] for row in rows] == [None, 0.25][: len(rows)]
    assert [row["certify"] for row in rows] == [None, "ibp"][: len(rows)]
    assert compact(tmp_path, at_least=1) == {"result": len(rows)}
    assert read_results(tmp_path).to_pylist() == rows
    # the trial that wrote the file is asked again after a crash
    assert not write_rows(tmp_path / "results/compacted.parquet", rows, RESULT)
