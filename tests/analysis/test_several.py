"""Several studies read as one table."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.synthetic_results import result_row

from analysis.results import trial_file, write_rows
from analysis.schema import RESULT, ResultsError
from analysis.several import read_studies


def test_several_studies_follow_each_other_each_once(tmp_path: Path) -> None:
    for name, parameter in (("b", "param.beta"), ("a", "param.mu")):
        row = result_row(0, study=name, **{parameter: 1.0})
        write_rows(trial_file(tmp_path / name, row["trial_id"]), [row], RESULT)
    table = read_studies([tmp_path / "b", tmp_path / "a", tmp_path / "x" / ".." / "b"])
    assert table["study"].to_pylist() == ["b", "a"]
    assert table["param.beta"].to_pylist() == [1.0, None]


def test_a_study_and_its_own_export_are_not_two_studies(tmp_path: Path) -> None:
    row = result_row(0, started_at="2026-11-01T10:00:00+00:00")
    for place in (trial_file(tmp_path / "toy", row["trial_id"]), tmp_path / "export.parquet"):
        write_rows(place, [row], RESULT)
    with pytest.raises(ResultsError, match=r"export\.parquet and .*toy both hold trial t00000 of study toy: give one"):
        read_studies([tmp_path / "toy", tmp_path / "export.parquet"])
    write_rows(tmp_path / "again.parquet", [row | {"started_at": "2026-11-02T10:00:00+00:00"}], RESULT)
    assert read_studies([tmp_path / "toy", tmp_path / "again.parquet"]).num_rows == 2
