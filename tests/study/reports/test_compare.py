"""The command `compare`: what it writes, and one line for each mistake."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
from helpers.studies.synthetic_results import result_row, study_rows

from analysis.data.results import example_columns, write_columns, write_rows
from analysis.data.schema import EXAMPLE, RESULT
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


def test_an_export_can_replace_a_folder_and_equal_names_get_their_paths(folder, command, tmp_path):
    first = folder("a", study_rows(12))
    write_rows(tmp_path / "old.parquet", [{**row, "study": "a"} for row in study_rows(9, seed=3)], RESULT)
    assert command(first, tmp_path / "old.parquet")[0] == 0
    page = (tmp_path / "comparison.html").read_text()
    assert f"a ({tmp_path / 'old.parquet'})" in page


def test_an_export_of_several_studies_is_read_study_by_study_with_its_outcomes(folder, command, tmp_path):
    rows = [result_row(n, method="trades", val_robust_accuracy=0.5 + n / 100, examples=200) for n in range(3)]
    worse = [{**row, "study": "worse", "val_robust_accuracy": row["val_robust_accuracy"] - 0.3} for row in rows]
    single = folder("single", rows)
    write_rows(tmp_path / "both.parquet", [*({**row, "study": "better"} for row in rows), *worse], RESULT)

    def outcomes(name, trials):
        columns = {}
        for row in trials:
            correct = {f"{kind}_correct": np.arange(200) < round(200 * row[f"val_{kind}_accuracy"])
                       for kind in ("clean", "robust")}  # fmt: skip
            more = example_columns({"val": {"index": np.arange(200), **correct}}, study=name, trial_id=row["trial_id"],
                                   checkpoint="last", attack="pgd", epsilon=0.1)  # fmt: skip
            columns = {key: [*columns.get(key, []), *values] for key, values in more.items()}
        return columns

    parts = [outcomes("better", rows), outcomes("worse", worse)]
    both = {key: [*parts[0][key], *parts[1][key]] for key in parts[0]}
    write_columns(tmp_path / "both.examples.parquet", both, EXAMPLE)
    write_columns(single / "examples" / "compacted.parquet", outcomes("single", rows), EXAMPLE)
    code, _, err = command(single, tmp_path / "both.parquet")
    assert (code, err) == (0, "")
    page = (tmp_path / "comparison.html").read_text()
    difference = page[page.index("per method: each study's most robust sound trial".replace("'", "&#x27;")) :]
    assert "<td>better/t00002</td>" in difference
    assert re.search(r"\+0\.000 \[-0\.0\d+, \+0\.0\d+\]</td><td>\+0\.000 \[.*?\]</td><td>pairs</td>", difference)
    assert page.count("of the true accuracies") >= 1


def test_invalid_input_is_reported_in_one_line(folder, command, tmp_path):
    good, empty = folder("good", study_rows(5)), folder("empty", [])
    mixed = folder("mixed", [result_row(0), result_row(1, eval_epsilon=0.2, dataset="mnist")])
    damaged = folder("damaged", study_rows(5))
    file = damaged / "results" / "all.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    for words, line in (
        ((good, good), "compare takes two different studies"),
        ((good, empty), "empty has no results yet"),
        ((good, mixed), "mixed: these results differ in dataset (digits, mnist); eval_epsilon (0.1, 0.2)"),
        ((good, damaged), "all.parquet is not a complete Parquet file"),
        ((good, tmp_path / "nowhere"), "nowhere does not exist"),
    ):
        code, out, err = command(*words)
        assert code == 2
        assert out == ""
        assert line in err
        assert err.count("\n") == 1
    assert not (tmp_path / "comparison.html").exists()
