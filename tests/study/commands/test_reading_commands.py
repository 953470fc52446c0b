"""`pareto` and `report` on bad input: one clear line each, exit code 2; and the rest read where that is asked for."""

from __future__ import annotations

import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.studies.synthetic_results import result_row, study_rows

from analysis.data.results import example_columns, trial_file, write_columns, write_rows
from analysis.data.schema import EXAMPLE, RESULT
from study.config.loading import load_config, write_yaml


def folder_of(path, rows):
    for row in rows:
        write_rows(path / "results" / f"{row['trial_id']}.parquet", [row], RESULT)
    (path / "results").mkdir(parents=True, exist_ok=True)
    return path


@pytest.mark.parametrize(
    "words", [["pareto", "toy", "--format", "csv"], ["pareto", "toy", "--objectives", "val_clean"]]
)
def test_wrong_words_are_named(command, tmp_path, words) -> None:
    folder_of(tmp_path / "toy", [result_row(0)])
    code, _, err = command(*words)
    assert code == 2
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("verb", ["pareto", "report"])
def test_an_empty_study_says_how_to_go_on(command, tmp_path, verb) -> None:
    folder_of(tmp_path / "toy", [])
    code, _, err = command(verb, "toy")
    assert code == 2
    assert "toy has no results yet: run `robust-study resume toy`" in err


@pytest.mark.parametrize("verb", ["pareto", "report"])
@pytest.mark.parametrize(
    ("column", "value"), [("eval_epsilon", 0.2), ("dataset", "mnist"), ("attack", "autoattack"), ("steps", 40)]
)
def test_rows_of_different_measurements_are_refused_by_column(command, tmp_path, verb, column, value) -> None:
    folder_of(tmp_path / "toy", [result_row(0), result_row(1, **{column: value})])
    code, _, err = command(verb, "toy")
    assert code == 2
    assert f"differ in {column} (" in err
    assert "--allow-mixed" in err


@pytest.mark.long
def test_one_trial_and_only_failed_ones_are_drawn_as_what_they_are(command, tmp_path) -> None:
    folder_of(tmp_path / "one", [result_row(0)])
    lost = result_row(0, status="failed", reason="diverged", val_clean_accuracy=None, val_robust_accuracy=None)
    folder_of(tmp_path / "lost", [lost])
    code, out, _ = command("pareto", "one", "--format", "svg")
    assert (code, "1 member of 1 trial" in out) == (0, True)
    code, out, _ = command("pareto", "lost", "--format", "svg")
    assert (code, "0 members of 1 trial" in out, "1 failed" in out) == (0, True, True)
    for study in ("one", "lost"):
        assert command("report", study)[0] == 0


def test_a_truncated_file_is_named_and_the_rest_read_on_request(command, tmp_path) -> None:
    folder = folder_of(tmp_path / "toy", study_rows(6, seed=1, failed=0))
    damaged = folder / "results" / "t00002.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    code, _, err = command("pareto", "toy", "--format", "svg")
    assert code == 2
    assert str(damaged.name) in err
    assert "--skip-damaged reads the rest" in err
    write_yaml(folder / "study.yaml", load_config("quickstart").to_dict())
    code, _, err = command("resume", "toy")
    assert code == 2
    assert "move it away and resume" in err
    assert "--skip-damaged" not in err
    code, out, _ = command("pareto", "toy", "--format", "svg", "--skip-damaged")
    assert (code, "of 5 trials" in out) == (0, True)


def test_another_schema_version_is_refused_by_its_number(command, tmp_path) -> None:
    folder = folder_of(tmp_path / "toy", [result_row(0)])
    path = folder / "results" / "t00000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"robust_study.schema_version": b"1"}), path)
    code, _, err = command("pareto", "toy", "--skip-damaged")
    assert code == 2
    assert f"has result schema version 1, this robust-study reads version {RESULT.version}" in err


def test_studies_folders_and_exports_share_one_front(command, tmp_path) -> None:
    folder_of(tmp_path / "toy", study_rows(10, seed=1))
    other = [row | {"study": "other"} for row in study_rows(10, seed=2)]
    write_rows(tmp_path / "other.parquet", other, RESULT)
    three = "val_clean_accuracy,val_robust_accuracy,val_lipschitz_scale_free_log10"
    code, out, _ = command("pareto", "toy", "other.parquet", "--format", "svg", "--objectives", three)
    assert code == 0
    assert "of 20 trials" in out
    assert "hypervolume" in out
    assert "reference point (0, 0, 3)" in out
    written = {path.name for path in (tmp_path / "toy" / "figures").iterdir()}
    assert written == {"pareto.svg", "pareto.csv", "table.md", "table.tex", "table.csv", "table.parquet"}


@pytest.mark.long
def test_outcomes_of_several_studies_and_of_exports_say_who_is_truly_on_the_front(command, tmp_path) -> None:
    for name, clean in (("a", 0.8), ("b", 0.6)):
        row = result_row(0, study=name, val_clean_accuracy=clean, val_robust_accuracy=1.1 - clean, examples=200)
        correct = {
            f"{kind}_correct": np.arange(200) < 200 * row[f"val_{kind}_accuracy"] for kind in ("clean", "robust")
        }
        own = {"study": name, "trial_id": row["trial_id"], "checkpoint": "last", "attack": "pgd", "epsilon": 0.1}
        columns = example_columns({"val": {"index": np.arange(200), **correct}}, **own)
        folder_of(tmp_path / name, [row])
        write_columns(tmp_path / name / "examples" / f"{row['trial_id']}.parquet", columns, EXAMPLE)
    write_rows(tmp_path / "c.parquet", [row], RESULT)
    code, out, err = command("pareto", "a", "c.parquet", "--format", "svg")
    assert (code, "on front)" in out, "no per-example outcomes in c.examples.parquet" in err) == (0, False, True)
    write_columns(tmp_path / "c.examples.parquet", columns, EXAMPLE)
    for others in (("b",), ("c.parquet",)):
        code, out, err = command("pareto", "a", *others, "--format", "svg")
        assert (code, "on front)" in out, "no probabilities" in err) == (0, True, False)
        assert "b/t00000" in (tmp_path / "a" / "figures" / "pareto_dominance.csv").read_text()


@pytest.mark.parametrize("words", [["pareto"], ["figures"], ["report"], ["compare", "other.parquet"]])
def test_a_place_that_cannot_be_written_is_named_in_one_line(command, tmp_path, words) -> None:
    for place in (tmp_path / "other.parquet", trial_file(tmp_path / "toy", "t00000")):
        write_rows(place, [result_row(0, study=place.stem)], RESULT)
    (tmp_path / "file").write_text("no folder")
    code, _, err = command(words[0], *words[1:], "toy", "--out", "file/page.csv")
    assert code == 2
    assert re.search(r"^robust-study: cannot use file.*: (Not a directory|File exists)$", err, re.MULTILINE)
    assert "Traceback" not in err


def test_one_objective_has_a_table_without_a_figure_and_a_repeated_one_is_refused(command, tmp_path) -> None:
    folder_of(tmp_path / "toy", [result_row(0, val_clean_accuracy=0.8), result_row(1), result_row(2)])
    code, out, err = command("pareto", "toy", "--objectives", "val_clean_accuracy")
    assert code == 0
    assert "2 members of 3 trials" in out
    assert "t00000" not in out
    assert "no figure" in err
    written = {path.name for path in (tmp_path / "toy" / "figures").iterdir()}
    assert written == {"pareto.csv", "table.md", "table.tex", "table.csv", "table.parquet"}
    code, _, err = command("pareto", "toy", "--objectives", "val_clean_accuracy,val_clean_accuracy")
    assert code == 2
    assert err.strip().endswith("--objectives names val_clean_accuracy twice: name each once")
    assert len(err.strip().splitlines()) == 1


def test_a_preference_names_its_nearest_member_and_another_form_is_refused(command, tmp_path) -> None:
    rows = [result_row(0), result_row(1, val_clean_accuracy=0.8, val_robust_accuracy=0.6)]
    folder_of(tmp_path / "toy", rows)
    code, out, _ = command("pareto", "toy", "--format", "svg", "--prefer", "0.7,0.6")
    assert code == 0
    assert "nearest to (0.7, 0.6): trial t00001 at (0.8, 0.6)" in out
    assert "Fronts of each method alone" in out
    for wrong in ("0.7", "0.7,much", "0.7,nan"):
        code, _, err = command("pareto", "toy", "--prefer", wrong)
        assert (code, len(err.strip().splitlines())) == (2, 1)
        assert "--prefer takes a number for each of val_clean_accuracy, val_robust_accuracy, such as 0.9,0.9" in err
    code, _, err = command("pareto", "toy", "--split", "test", "--prefer", "0.7,0.6")
    assert (code, "leave them out on test" in err) == (2, True)
