"""Creating MLflow's SQLite store, which is never left half made."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from study.config.file_urls import default_uri
from study.tracking.artifacts import log_model, save_model
from study.tracking.client import connect, experiment_id


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


def test_a_store_that_another_driver_created_meanwhile_is_kept(tmp_path, monkeypatch):
    path, link = tmp_path / "mlflow.db", os.link

    def late(new, path):
        monkeypatch.setattr("study.tracking.client.os.link", link)
        connect(f"sqlite:///{path}").create_experiment("theirs")
        link(new, path)

    monkeypatch.setattr("study.tracking.client.os.link", late)
    assert connect(f"sqlite:///{path}").get_experiment_by_name("theirs") is not None


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
