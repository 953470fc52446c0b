"""The report of several studies: distinct trial ids, one measurement unless --allow-mixed, invalid input."""

from __future__ import annotations

import sys

import pyarrow.parquet as pq
import pytest
from helpers.studies.pages import json_of
from helpers.studies.synthetic_results import as_table, evaluation_row, result_row, study_rows

from analysis.data.results import example_columns, write_columns, write_rows
from analysis.data.schema import EVALUATION, EXAMPLE, RESULT
from analysis.fronts.front import MixedStudiesError, front_of, mixed_columns, require_like_for_like, with_mixed_allowed
from study.cli import main

SETTINGS = {"eval_epsilon": 0.1, "examples": 40}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def make(name, rows, *, study=None, examples=False):
        home = tmp_path / name
        (home / "results").mkdir(parents=True)
        rows = [{**row, "study": study or name} for row in rows]
        if rows:
            write_rows(home / "results" / "all.parquet", rows, RESULT)
        for row in rows if examples else []:
            if row["status"] == "completed":
                shares = (row["val_clean_accuracy"], row["val_robust_accuracy"])
                clean, robust = ([index < share * 200 for index in range(200)] for share in shares)
                arrays = {"index": list(range(200)), "clean_correct": clean, "robust_correct": robust}
                columns = example_columns(
                    {"val": arrays}, study=row["study"], trial_id=row["trial_id"], checkpoint="last", attack="pgd",
                    epsilon=0.1,
                )  # fmt: skip
                write_columns(home / "examples" / f"{row['trial_id']}.parquet", columns, EXAMPLE)
        return home

    return make


@pytest.fixture
def command(monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["robust-study", "report", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return run


def test_a_damaged_row_is_skipped_on_request_in_a_study_that_was_measured_on_test(folder, command, tmp_path):
    home = folder("a", study_rows(6, failed=0))
    evaluated = [evaluation_row("t00000", study="a")]
    write_rows(home / "evaluations" / "t00000.parquet", evaluated, EVALUATION)
    write_rows(home / "results" / "t00099.parquet", [result_row(99, study="a")], RESULT)
    damaged = home / "results" / "t00099.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-50])
    assert command(home)[0] == 2
    code, _, _ = command(home, "--skip-damaged")
    assert code == 0
    page = (home / "report.html").read_text()
    assert "test data was used once" in page
    assert "6 trials over" in page


def test_two_studies_share_a_page_with_distinct_trial_ids(folder, command, tmp_path):
    first = folder("a", study_rows(8), examples=True)
    second = folder("b", study_rows(8, seed=1), examples=True)
    code, out, _ = command(first, second, first)
    assert code == 0
    assert out.strip() == "report.html"
    page = (tmp_path / "report.html").read_text()
    assert "16 trials over" in page
    labels = json_of(page, "labels")
    assert [sum(label.startswith(f"<b>{study}/t") for label in labels) for study in "ab"] == [8, 8]
    # it needs the outcomes of both studies
    assert any("truly on the front with probability" in label for label in labels)


def test_equal_names_get_their_folders_and_exports_are_read(folder, command, tmp_path):
    first = folder("a", study_rows(6))
    again = folder("old", study_rows(6, seed=2), study="a")
    assert command(first, again, "--out", "both.html")[0] == 0
    assert f"a ({again})/t0000" in (tmp_path / "both.html").read_text()
    both = [{**row, "study": name} for name in ("x", "y") for row in study_rows(5)]
    write_rows(tmp_path / "export.parquet", both, RESULT)
    assert command(tmp_path / "export.parquet", "--out", "export.html")[0] == 0
    assert "<b>y/t0000" in (tmp_path / "export.html").read_text()


def test_mixed_studies_are_refused_with_the_columns_that_differ_unless_allow_mixed(folder, command, tmp_path):
    first, second = folder("a", study_rows(6)), folder("b", [row | {"eval_epsilon": 0.2} for row in study_rows(6)])
    code, out, err = command(first, second)
    assert (code, out) == (2, "")
    assert "differ in eval_epsilon (0.1, 0.2), so they share no front" in err
    assert "--allow-mixed" in err
    assert err.count("\n") == 1
    assert command(first, second, "--allow-mixed")[0] == 0
    page = (tmp_path / "report.html").read_text()
    assert "measured differently (eval_epsilon) and were combined with --allow-mixed" in page


def test_selections_of_the_table_keep_the_mark_of_allow_mixed():
    table = as_table([result_row(0), result_row(1, eval_epsilon=0.2, val_robust_accuracy=0.6)])
    with pytest.raises(MixedStudiesError):
        front_of(table)
    marked = with_mixed_allowed(table)
    assert front_of(marked)["trial_id"].to_pylist() == ["t00001"]
    for part in (marked.take([0, 1]), marked.filter([True, True]), marked.slice(0, 2)):
        require_like_for_like(part)
    assert set(mixed_columns(marked)) == {"eval_epsilon"}


def test_invalid_input_is_reported_in_one_line(folder, command, tmp_path):
    good, empty = folder("good", study_rows(5)), folder("empty", [])
    damaged, old = folder("damaged", study_rows(5)), folder("old", study_rows(5))
    file = damaged / "results" / "all.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    path = old / "results" / "all.parquet"
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"robust_study.schema_version": b"1"}), path)
    for other, line in (
        (empty, "empty has no results yet"),
        (damaged, "all.parquet is not a complete Parquet file"),
        (old, "has result schema version 1, this robust-study reads version"),
        (tmp_path / "nowhere", "nowhere does not exist"),
    ):
        code, out, err = command(good, other)
        assert (code, out) == (2, "")
        assert line in err
        assert err.count("\n") == 1


def test_one_trial_and_only_failed_ones_still_give_a_page(folder, command, tmp_path):
    failed = {"status": "failed", "reason": "diverged", "val_clean_accuracy": None, "val_robust_accuracy": None}
    one, none = folder("one", [result_row(0)]), folder("none", [result_row(0, **failed)])
    assert command(one)[0] == 0
    assert command(none)[0] == 0
    assert "so there is no front" in (none / "report.html").read_text()
    assert command(one, none)[0] == 0
    assert "2 trials over 1 method" in (tmp_path / "report.html").read_text()
