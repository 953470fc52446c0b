"""Creating MLflow's SQLite store, which is never left half made, and opening one that is."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from helpers.studies.tracked import row, run_study, runs, tracker
from torch import nn

from study.cluster.preflight import check_tracking, require
from study.cluster.start import new_start
from study.config.file_urls import default_uri
from study.config.loading import write_yaml
from study.tracking.artifacts import log_model, save_model
from study.tracking.client import connect, experiment_id, store_problem

EXPORT = ("--experiment", "robust-study", "--out", "rows.csv")


@pytest.mark.long
def test_a_store_is_created_whole_or_not_at_all(tmp_path, monkeypatch):
    """Killed between MLflow's migrations, a store's tables are there in part, and no later migration succeeds."""
    path, link = tmp_path / "mlflow.db", os.link
    seen = []

    def killed(new, path):
        seen.append(path.exists())
        raise KeyboardInterrupt

    monkeypatch.setattr("study.tracking.client.os.link", killed)
    with pytest.raises(KeyboardInterrupt):
        connect(f"sqlite:///{path}")
    assert seen == [False]
    assert not path.exists()
    monkeypatch.setattr("study.tracking.client.os.link", link)
    connect(f"sqlite:///{path}").create_experiment("first")
    assert os.listdir(tmp_path) == ["mlflow.db"]
    assert connect(f"sqlite:///{path}").get_experiment_by_name("first") is not None


@pytest.mark.long
def test_a_store_that_another_driver_created_meanwhile_is_kept(tmp_path, monkeypatch):
    path, link = tmp_path / "mlflow.db", os.link

    def late(new, path):
        monkeypatch.setattr("study.tracking.client.os.link", link)
        connect(f"sqlite:///{path}").create_experiment("theirs")
        link(new, path)

    monkeypatch.setattr("study.tracking.client.os.link", late)
    assert connect(f"sqlite:///{path}").get_experiment_by_name("theirs") is not None


KILLED = """
import os, sys
from sqlalchemy import Engine, event
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

statements = 0


@event.listens_for(Engine, "before_cursor_execute")
def killed(connection, cursor, statement, *_):
    global statements
    statements += not statement.strip().upper().startswith(("PRAGMA", "SELECT"))
    if statements == 40:
        os._exit(9)


SqlAlchemyStore("sqlite:///mlflow.db", "mlartifacts")
"""


@pytest.fixture(scope="module")
def half_made(tmp_path_factory):
    """A store whose creation by MLflow itself was ended between its migrations."""
    folder = tmp_path_factory.mktemp("half")
    assert subprocess.run([sys.executable, "-c", KILLED], cwd=folder, capture_output=True, check=False).returncode == 9
    return folder / "mlflow.db"


@pytest.fixture(params=["half made", "no version", "no database", "of a later MLflow"])
def damaged(request, half_made, empty_store, tmp_path):
    """A store that no attempt can open, and the URI of a place for another."""
    path = tmp_path / "mlflow.db"
    shutil.copy(half_made if request.param == "half made" else empty_store, path)
    if request.param == "no database":
        path.write_text("no database " * 100)
    elif request.param != "half made":
        with sqlite3.connect(path) as database:
            statement = "delete from alembic_version", "update alembic_version set version_num = 'ffffffffffff'"
            database.execute(statement[request.param == "of a later MLflow"])
    return path


@pytest.fixture
def tracked(folder, tmp_path, empty_store):
    """Return a function that has a study tracked elsewhere, and then names a store."""
    other = shutil.copy(empty_store, tmp_path / "other.db")
    assert run_study(f"sqlite:///{other}", folder, [row(0)]) is None

    def name(path):
        tracking = {"uri": f"sqlite:///{path}"}
        search = {"space": "core", "num_trials": 1}
        write_yaml(
            folder / "study.yaml", {"name": "s", "dataset": {"name": "digits"}, "search": search, "tracking": tracking}
        )

    return name


@pytest.mark.long
def test_a_damaged_store_is_one_line_for_every_command_that_needs_it(damaged, tracked, command, folder):
    tracked(damaged)
    before = damaged.read_bytes()
    for words in (("sync", folder), ("ui", folder), ("ui",), ("export", "--mlflow", f"sqlite:///{damaged}", *EXPORT)):
        code, _, err = command(*words)
        assert (code, err.count("\n")) == (2, 1), (words, err)
        if "file is not a database" in err and words[0] == "export":
            continue  # which looks before MLflow does, and says so
        assert f"MLflow's store {damaged} is damaged, half made or of another version of MLflow (" in err
        assert "move it away, and `robust-study sync STUDY_DIR` writes all runs of a study to a new one" in err
    assert damaged.read_bytes() == before


@pytest.mark.chaos  # a whole study
def test_after_it_is_moved_away_sync_writes_all_runs_to_a_new_one(half_made, tracked, folder, tmp_path):
    path = tmp_path / "mlflow.db"
    tracked(path)
    shutil.copy(half_made, path)
    line = [sys.executable, "-m", "study", "sync", str(folder)]  # MLflow keeps a file open for as long as a process
    assert subprocess.run(line, capture_output=True, check=False).returncode == 2
    path.rename(tmp_path / "away.db")
    again = subprocess.run(line, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert {trial: run.info.status for trial, run in runs(f"sqlite:///{path}")[0].items()} == {
        "study": "FINISHED", "00000": "FINISHED"
    }  # fmt: skip


@pytest.mark.chaos  # a whole study
def test_a_study_is_told_of_a_damaged_store_before_it_starts_and_goes_on(half_made, tmp_path, capsys):
    uri = f"sqlite:///{half_made}"
    config = {"name": "s", "dataset": {"name": "digits"}, "search": {"space": "core"}, "tracking": {"uri": uri}}
    start = new_start(config, assignments=[], out=tmp_path, data_root=None, address=None)
    require(start, [check_tracking])
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"MLflow's store {half_made} is damaged, half made" in err
    assert "The results do not depend on it" in err
    tracking = tracker(tmp_path, uri)
    tracking.start({}, {"study": "s"})
    problem = tracking.close(None, timeout=15)
    assert "bytes of updates, waiting in" in problem
    assert "table model_version_tags already exists): move it away, and" in problem


def test_a_store_that_is_locked_is_tried_again(uri, tmp_path):
    """A lock passes; only what no attempt can open is refused."""
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as database:
        database.execute("begin exclusive")
        assert store_problem(f"{uri}?timeout=0.1") is None


@pytest.mark.long
@pytest.mark.parametrize("name", ["lr%3D0.1 a%20b", "runs?v2 #&;", 'it\'s "é漢" + @ {} :x'])
def test_a_store_artifacts_and_models_stay_in_a_folder_of_any_name(tmp_path, monkeypatch, name):
    """MLflow itself makes the folder %3F for one named ?, and cannot write both quotes into its first statement."""
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    client = connect(default_uri())
    experiment = experiment_id(client, "../../any")
    run = client.create_run(experiment).info.run_id
    Path("note.txt").write_text("kept")
    client.log_artifact(run, "note.txt", "notes")
    save_model(
        nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval(), np.zeros((2, 1, 2, 2), np.float32), Path(f"of {name}")
    )
    log_model(client, Path(f"of {name}"), run_id=run, experiment_id=experiment)
    assert os.listdir(tmp_path) == [name]
    assert sorted(os.listdir()) == sorted(["mlartifacts", "mlflow.db", "note.txt", f"of {name}"])
    assert len(list(Path("mlartifacts").rglob("MLmodel"))) == 1
    Path("down").mkdir()
    assert Path(client.download_artifacts(run, "notes/note.txt", "down")).read_text() == "kept"
