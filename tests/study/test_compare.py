"""The command `compare`: what it writes, and one clear line for each mistake."""

from __future__ import annotations

import sys

import pytest
from helpers.synthetic_results import result_row, study_rows

from analysis.results import write_rows
from analysis.schema import RESULT
from study.cli import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def make(name, rows):
        (tmp_path / name / "results").mkdir(parents=True)
        if rows:
            write_rows(tmp_path / f"{name}/results/all.parquet", [{**row, "study": name} for row in rows], RESULT)
        return tmp_path / name

    return make


@pytest.fixture
def command(monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["robust-study", "compare", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return run


def test_two_folders_give_one_page(folder, command, tmp_path):
    first, second = folder("a", study_rows(12)), folder("b", study_rows(12, seed=1))
    code, out, _ = command(first, second, "--out", tmp_path / "pages" / "c.html")
    assert code == 0
    assert out.strip() == str(tmp_path / "pages" / "c.html")
    assert "b minus a, per method" in (tmp_path / "pages" / "c.html").read_text()


def test_an_export_can_stand_for_a_folder_and_equal_names_are_told_apart(folder, command, tmp_path):
    first = folder("a", study_rows(12))
    write_rows(tmp_path / "old.parquet", [{**row, "study": "a"} for row in study_rows(9, seed=3)], RESULT)
    assert command(first, tmp_path / "old.parquet")[0] == 0
    page = (tmp_path / "comparison.html").read_text()
    assert f"a ({tmp_path / 'old.parquet'})" in page


def test_bad_input_is_one_line(folder, command, tmp_path):
    good, empty = folder("good", study_rows(5)), folder("empty", [])
    mixed = folder("mixed", [result_row(0), result_row(1, eval_epsilon=0.2, dataset="mnist")])
    damaged = folder("damaged", study_rows(5))
    file = damaged / "results" / "all.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    for words, line in (
        ((good, good), "compare takes two different studies"),
        ((good, empty), "empty has no results yet"),
        ((good, mixed), "mixed: these results differ in dataset (digits, mnist); eval_epsilon (0.1, 0.2)"),
        ((good, damaged), "all.parquet is no whole Parquet file"),
        ((good, tmp_path / "nowhere"), "nowhere does not exist"),
    ):
        code, out, err = command(*words)
        assert code == 2
        assert out == ""
        assert line in err
        assert err.count("\n") == 1
    assert not (tmp_path / "comparison.html").exists()
