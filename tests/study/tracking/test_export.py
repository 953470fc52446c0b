"""Rows rebuilt from MLflow alone equal the rows on disk."""

from __future__ import annotations

import csv
import io
import math
import shutil
import sqlite3
from contextlib import closing

import pandas as pd
import pytest
from helpers.studies.synthetic_results import as_table
from helpers.studies.tracked import row, run_trial, tracker
from mlflow import MlflowClient

from analysis.data.results import read_examples, read_results
from analysis.tables.text_table import csv_text, inert
from study.errors import UsageError
from study.tracking.export import export, write_csv
from study.tracking.row_mapping import ROW_TAG, TRIAL_TAG

ROWS = [
    row(0, val_lipschitz_max=math.inf, val_loss=math.nan, seed=2**62 + 1, flags=["a", "b"]),
    row(1, **{"param.beta": None, "param.never": None, "method": "natural", "val_robust_accuracy": 1 / 3}),
    row(2, status="failed", reason="diverged", val_robust_accuracy=None, epochs=1),
]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A tracked study and the URI of its store."""
    root = tmp_path_factory.mktemp("tracked")
    folder, uri = root / "study", f"sqlite:///{root / 'mlflow.db'}"
    folder.mkdir()
    (folder / "study.yaml").write_text("{name: s, dataset: {name: digits}, search: {space: core}}")
    tracking = tracker(folder, uri)
    tracking.start({}, {"study": "s"})
    for trial in ROWS:
        run_trial(tracking, folder, trial)
    assert tracking.close("FINISHED", timeout=120) is None
    return folder, uri


def test_every_column_and_type_comes_back_from_mlflow_alone(study, tmp_path):
    folder, uri = study
    rows, examples = read_results(folder), read_examples(folder)
    moved = folder.rename(folder.with_name("away"))
    try:
        export(None, uri=uri, experiment="robust-study", out=tmp_path / "rows.parquet")
    finally:
        moved.rename(folder)
    back = read_results(tmp_path / "rows.parquet")
    assert back.schema.equals(rows.schema)
    assert str(back.to_pylist()) == str(rows.to_pylist())  # as text: NaN is not equal to NaN
    assert "param.never" in back.column_names
    assert read_examples(tmp_path / "rows.examples.parquet").sort_by("trial_id").equals(examples.sort_by("trial_id"))


def test_a_folder_and_its_store_export_the_same_csv(study, tmp_path):
    folder, uri = study
    export(folder, uri=None, experiment=None, out=tmp_path / "a.csv")
    export(None, uri=uri, experiment="robust-study", out=tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    first, second, third = csv.DictReader((tmp_path / "a.csv").open())
    assert (first["val_lipschitz_max"], first["val_loss"], first["flags"]) == ("inf", "nan", '["a", "b"]')
    assert float(second["val_robust_accuracy"]) == 1 / 3
    assert third["val_robust_accuracy"] == ""
    export(folder, uri=None, experiment=None, out=tmp_path / "a.csv")  # replaces the file


def test_of_studies_with_one_name_the_newest_is_exported_unless_another_is_selected(study, tmp_path, capsys):
    uri = study[1]
    copy = tmp_path / "mlflow.db"
    shutil.copy(uri.removeprefix("sqlite:///"), copy)
    other = tmp_path / "other"
    other.mkdir()
    tracking = tracker(other, f"sqlite:///{copy}", study_id="newer")
    tracking.start({}, {"study": "s"})
    run_trial(tracking, other, row(0, seed=7))
    assert tracking.close("FINISHED") is None
    seeds = tmp_path / "seeds"
    seeds.mkdir()
    tracking = tracker(seeds, f"sqlite:///{copy}", study="s-confirm", study_id="again", parent_study_id="newer")
    tracking.start({}, {"study": "s-confirm"})
    run_trial(tracking, seeds, row(0, study="s-confirm", seed=8))
    assert tracking.close("FINISHED") is None

    def exported(name):
        export(None, uri=f"sqlite:///{copy}", experiment="robust-study", out=tmp_path / "rows.parquet", study=name)
        return read_results(tmp_path / "rows.parquet")["seed"].to_pylist(), " ".join(capsys.readouterr().err.split())

    seeds, notes = exported(None)
    assert seeds == [7]
    assert "skipped: an older study s; --study abc exports it" in notes
    assert "skipped: the new seeds of s; --study again exports it" in notes
    seeds, notes = exported("s")
    assert seeds == [7]
    assert "an older study s; --study abc exports it" in notes
    assert "new seeds" not in notes
    assert [exported(name)[0] for name in ("newer", "again", "s-confirm")] == [[7], [8], [8]]
    assert len(exported("abc")[0]) == 3
    with pytest.raises(UsageError, match=r"--study t is not in the experiment; it has: s \(id abc\), s \(id newer\)"):
        exported("t")


SECRET = "hunter2-not-to-be-shown"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("./mlflow.db", r"--mlflow must begin with one of .* for a file use sqlite:///PATH"),
        ("sqlite:///typo.db", r"--mlflow names typo.db, which does not exist"),
        ("sqlite:///optuna.db", r"--mlflow names optuna.db, which is not an MLflow store"),
        ("sqlite:///notes.txt", r"--mlflow names notes.txt, which cannot be read"),
        (f"http://ada:{SECRET}@127.0.0.1:1", "--mlflow must not hold a user name, password or token"),
        (f"postgresql://127.0.0.1:1/mlflow?password={SECRET}", "--mlflow must not hold a user name, password or token"),
        ("http://127.0.0.1:1", "MLflow at http://127.0.0.1:1 cannot be read: "),
        ("postgresql+psycopg://127.0.0.1:1/mlflow", "MLflow at postgresql"),
    ],
)
def test_an_unusable_store_is_refused_in_one_line_and_nothing_is_written(tmp_path, monkeypatch, uri, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with closing(sqlite3.connect("optuna.db")) as database, database:
        database.execute("create table studies (id integer)")
    (tmp_path / "notes.txt").write_text("notes " * 1000)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match=message) as caught:
        export(None, uri=uri, experiment="robust-study", out=tmp_path / "out.csv")
    assert len(str(caught.value).splitlines()) == 1
    assert SECRET not in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("folder", "uri", "experiment", "out", "message"),
    [
        (None, None, None, "x.csv", "either a STUDY_DIR, or --mlflow"),
        (None, "sqlite:///x.db", None, "x.csv", "either a STUDY_DIR, or --mlflow"),
        ("s", "sqlite:///x.db", "e", "x.csv", "either a STUDY_DIR, or --mlflow"),
        ("nowhere", None, None, "x.xlsx", "must end in .parquet or .csv"),
        ("nowhere", None, None, "x.csv", "does not exist"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, folder, uri, experiment, out, message):
    with pytest.raises(UsageError, match=message):
        export(tmp_path / folder if folder else None, uri=uri, experiment=experiment, out=tmp_path / out)


def test_missing_outcomes_are_counted_in_a_note(study, tmp_path, capsys):
    folder, uri = study
    store = tmp_path / "mlartifacts"
    shutil.copytree(folder.parent / "mlartifacts", store)
    client = MlflowClient(tracking_uri=uri)
    runs = {run.data.tags["robust_study.trial_id"]: run for run in client.search_runs(["1"])}
    lost = folder.parent / "mlartifacts/robust-study" / runs["00001"].info.run_id
    shutil.rmtree(lost)
    try:
        export(None, uri=uri, experiment="robust-study", out=tmp_path / "rows.parquet")
    finally:
        shutil.copytree(store / "robust-study" / lost.name, lost)
    assert read_results(tmp_path / "rows.parquet").num_rows == 3
    assert sorted(read_examples(tmp_path / "rows.examples.parquet")["trial_id"].to_pylist()) == ["00000", "00002"]
    assert "no per-example outcomes for 1 of 2 trials: " in " ".join(capsys.readouterr().err.split())
    export(None, uri=uri, experiment="robust-study", out=tmp_path / "rows.parquet")
    assert "no per-example outcomes" not in capsys.readouterr().err


def test_an_unknown_experiment_is_refused_with_those_that_exist(study, tmp_path):
    with pytest.raises(UsageError, match=r"no experiment 'robust'; it has: Default, robust-study"):
        export(None, uri=study[1], experiment="robust", out=tmp_path / "x.csv")


def test_one_damaged_artifact_or_row_costs_the_export_no_other(study, tmp_path, capsys):
    folder, uri = study
    shutil.copytree(folder.parent, tmp_path / "copy")
    uri = f"sqlite:///{tmp_path / 'copy/mlflow.db'}"
    client = MlflowClient(tracking_uri=uri)
    runs = {run.data.tags[TRIAL_TAG]: run for run in client.search_runs(["1"])}
    damaged = tmp_path / "00001.parquet"
    damaged.write_bytes(b"PAR1 no more")
    client.log_artifact(runs["00001"].info.run_id, str(damaged), "examples")
    client.set_tag(runs["00002"].info.run_id, ROW_TAG, "{")
    export(None, uri=uri, experiment="robust-study", out=tmp_path / "rows.parquet")
    said = capsys.readouterr().err
    assert f"left out the outcomes of trial 00001, run {runs['00001'].info.run_id}: its file is not a complete" in said
    assert f"left out trial 00002, run {runs['00002'].info.run_id}" in said
    assert read_results(tmp_path / "rows.parquet")["trial_id"].to_pylist() == ["00000", "00001"]
    assert set(read_examples(tmp_path / "rows.examples.parquet")["trial_id"].to_pylist()) == {"00000"}


def test_a_spreadsheet_runs_no_text_of_a_csv_and_its_numbers_stay_numbers(tmp_path):
    table = as_table([row(0, method="=cmd|' /C calc'!A0", val_loss=-1.5, reason="@SUM(1)", status="failed")])
    write_csv(tmp_path / "rows.csv", table)
    (read,) = pd.read_csv(tmp_path / "rows.csv").to_dict("records")
    assert read["method"] == "'=cmd|' /C calc'!A0"
    assert read["reason"] == "'@SUM(1)"
    assert read["val_loss"] == -1.5
    (text,) = csv.DictReader(io.StringIO(csv_text(["name", "value"], [["-x", -2.0]])))
    assert text == {"name": "'-x", "value": "-2.0"}
    assert (inert("-1.5"), inert("trades"), inert("-inf")) == ("-1.5", "trades", "-inf")
