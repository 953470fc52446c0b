from __future__ import annotations

import math
import shutil

import pytest

from study.tracking.tracker import PARENT_TAG, STUDY_TAG, Tracker, default_uri


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    """A store with its tables made, which takes seconds, to be copied by each test."""
    from study.tracking.client import connect

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    connect(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(tmp_path, monkeypatch, empty_store):
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return default_uri()


def row(trial_id, *, status="completed"):
    return {"trial_id": trial_id, "status": status, "epochs": 2, "clean_gap": 0.1, "flags": [], "method": "trades"}


def run_study(uri, *, trials=("00000", "00001"), status="FINISHED", study_id="abc"):
    tracker = Tracker(study="s", study_id=study_id, uri=uri)
    tracker.start({"name": "s"}, {"study": "s"})
    for number, trial in enumerate(trials):
        tracker.trial_started(trial, {"method": "trades", "param.beta": 6.0, "absent": None}, {"method": "trades"})
        for epoch in (1, 2):
            tracker.trial_reported(trial, epoch, {"loss": 1 / epoch, "val_robust_accuracy": None})
        tracker.trial_ended(row(trial, status="failed" if number else "completed"))
        tracker.study_reported(number + 1, {"front_size": number + 1})
    return tracker, tracker.close(status)


def test_a_study_is_one_parent_with_a_child_a_trial_and_a_rerun_adds_nothing(uri):
    from mlflow import MlflowClient

    tracker, problem = run_study(uri)
    assert problem is None
    again, problem = run_study(uri, trials=("00000", "00001", "00002"))
    assert problem is None
    assert again.parent_run_id == tracker.parent_run_id

    client = MlflowClient(tracking_uri=uri)
    (experiment,) = [e for e in client.search_experiments() if e.name == "robust-study"]
    runs = client.search_runs([experiment.experiment_id])
    children = [run for run in runs if PARENT_TAG in run.data.tags]
    assert len(runs) == 4
    assert {run.data.tags[PARENT_TAG] for run in children} == {tracker.parent_run_id}
    assert {run.data.tags[STUDY_TAG] for run in runs} == {"abc"}
    first = client.get_run(tracker.run_id("00000"))
    assert first.info.status == "FINISHED"
    assert first.info.run_name == "s-00000"
    assert first.data.params == {"method": "trades", "param.beta": "6.0"}
    assert first.data.metrics == {"loss": 0.5, "clean_gap": 0.1}
    steps = {metric.step: metric.value for metric in client.get_metric_history(first.info.run_id, "loss")}
    assert steps == {1: 1.0, 2: 0.5}
    assert client.get_run(tracker.run_id("00001")).info.status == "FAILED"
    assert client.get_run(tracker.parent_run_id).info.status == "FINISHED"


def test_figures_and_tags_reach_runs_that_an_earlier_driver_made(uri, tmp_path):
    from mlflow import MlflowClient

    first, _ = run_study(uri)
    figure = tmp_path / "pareto.png"
    figure.write_bytes(b"png")
    later = Tracker(study="s", study_id="abc", uri=uri)
    later.start({"name": "s"}, {"study": "s"})
    later.artifacts([figure], "figures")
    later.tag_trial("00000", {"on_front": "true"})
    assert later.close("FINISHED") is None
    client = MlflowClient(tracking_uri=uri)
    assert [item.path for item in client.list_artifacts(first.parent_run_id, "figures")] == ["figures/pareto.png"]
    assert client.get_run(first.run_id("00000")).data.tags["on_front"] == "true"
    assert (tmp_path / "mlartifacts").is_dir()


def test_a_store_that_cannot_be_reached_costs_nothing_but_a_line():
    tracker, problem = run_study("sqlite:////dev/null/mlflow.db")
    assert problem
    assert "\n" not in problem
    assert tracker.run_id("00000") is None


def test_not_finite_metrics_do_not_stop_a_batch(uri):
    from mlflow import MlflowClient

    tracker = Tracker(study="s", study_id="nan", uri=uri)
    tracker.start({}, {})
    tracker.trial_started("00000", {}, {})
    tracker.trial_reported("00000", 1, {"loss": math.nan, "lr": 0.1})
    assert tracker.close("FINISHED") is None
    metrics = MlflowClient(tracking_uri=uri).get_run(tracker.run_id("00000")).data.metrics
    assert metrics["lr"] == 0.1
    assert math.isnan(metrics["loss"])


def test_runs_that_a_dead_driver_left_open_are_closed_from_the_rows(uri):
    from mlflow import MlflowClient

    dead = Tracker(study="s", study_id="abc", uri=uri)
    dead.start({"name": "s"}, {"study": "s"})
    dead.trial_started("00000", {}, {})
    assert dead.close("KILLED") is None
    later = Tracker(study="s", study_id="abc", uri=uri)
    later.start({"name": "s"}, {"study": "s"})
    later.settle([row("00000"), row("00001", status="failed")])
    assert later.close("FINISHED") is None
    client = MlflowClient(tracking_uri=uri)
    (experiment,) = [e for e in client.search_experiments() if e.name == "robust-study"]
    found = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert {name: run.info.status for name, run in found.items()} == {
        "s": "FINISHED", "s-00000": "FINISHED", "s-00001": "FAILED",
    }  # fmt: skip
    assert found["s-00000"].data.metrics == {"clean_gap": 0.1}
    assert found["s-00001"].data.tags["status"] == "failed"
