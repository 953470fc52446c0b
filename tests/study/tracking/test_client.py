"""Creating MLflow's SQLite store, which is never left half made."""

from __future__ import annotations

import os

import pytest

from study.tracking.client import connect


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
