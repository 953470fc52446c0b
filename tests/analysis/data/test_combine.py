"""Several studies read as one table."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.studies.synthetic_results import result_row

from analysis.data.combine import read_studies
from analysis.data.results import trial_file, write_rows
from analysis.data.schema import RESULT, ResultsError
from analysis.heldout.members import HeldoutResults, together
from analysis.statistics.intervals import Estimate


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
    write_rows(tmp_path / "beside.parquet", [row | {"seconds": row["seconds"] + 0.1}], RESULT)
    assert read_studies([tmp_path / "toy", tmp_path / "beside.parquet"]).num_rows == 2


def test_results_on_test_of_several_studies_name_their_study() -> None:
    measured = Estimate(value=3.0, low=2.0, high=4.0)
    one = HeldoutResults(
        members=(),
        chosen=("t00000", "t00001"),
        evaluations=({"study": "toy", "trial_id": "t00000"},),
        curse={"clean": measured},
        averaged=1,
        waiting=("t00001",),
        same_images={"t00000": 0.5},
        lipschitz={"t00000": measured},
    )
    assert together({"a": one, "b": one}) == HeldoutResults(
        members=(),
        chosen=("a/t00000", "a/t00001", "b/t00000", "b/t00001"),
        evaluations=tuple({"study": label, "trial_id": f"{label}/t00000"} for label in "ab"),
        curse={},
        waiting=("a/t00001", "b/t00001"),
        same_images={"a/t00000": 0.5, "b/t00000": 0.5},
        lipschitz={"a/t00000": measured, "b/t00000": measured},
    )
