"""Real studies tracked to `mlflow server` on PostgreSQL: compared field by field, through outages, without secrets."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers.services.mlflow_server import MlflowServer
from helpers.services.ports import free_port
from helpers.services.postgres import PASSWORD, programs, temporary_postgres

from analysis.data.results import read_epochs, read_results
from analysis.data.schema import RESULT
from analysis.fronts.front import front_of

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(programs() is None, reason="no PostgreSQL server is installed"),
]

CONFIG = """
name: NAME
dataset: {name: digits, train_size: 128}
model: {name: mlp}
training: {epochs: 3, batch_size: 64, attack_steps: 2, momentum: 0.99}
evaluation: {epsilon: 0.1, steps: 2, examples: 64, every: 1, lipschitz: {steps: 2, examples: 8}}
search:
  {space: core, num_trials: TRIALS, methods: [natural, adversarial_training, trades], random_fraction: 1.0, RANGES}
tracking: {uri: URI}
resources: {max_concurrent: 2}
"""
SECRETS = {
    "MLFLOW_TRACKING_USERNAME": "planted-user",
    "MLFLOW_TRACKING_PASSWORD": "planted-password-51c9",
    "AWS_SECRET_ACCESS_KEY": "planted-key-88fa",
    "RAY_AUTH_TOKEN": "",
    "MY_API_TOKEN": "planted-token-0d1e",
}


@pytest.fixture(scope="module")
def database():
    """A PostgreSQL server."""
    pytest.importorskip("psycopg", reason="needs the extra `postgres`")
    with temporary_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def server(database, tmp_path_factory):
    database.create("mlflow")
    folder = tmp_path_factory.mktemp("server")
    backend = database.url("mlflow", driver="psycopg")
    with MlflowServer(folder, backend=backend, port=free_port(), environment={"PGPASSWORD": PASSWORD}) as running:
        yield running


def launch(folder: Path, *, name: str, trials: int, uri: str, ranges: str = "ranges: {}") -> subprocess.Popen[bytes]:
    text = CONFIG.replace("NAME", name).replace("TRIALS", str(trials)).replace("URI", uri).replace("RANGES", ranges)
    (folder / f"{name}.yaml").write_text(text)
    environment = {**os.environ, **{key: value for key, value in SECRETS.items() if value}}
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "study", "launch", f"{name}.yaml"],
            cwd=folder, env=environment, stdout=log, stderr=log,
        )  # fmt: skip


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "study", *words]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=900, check=False)


def results_of(folder: Path, name: str) -> list[Path]:
    return list((folder / f"studies/{name}/results").glob("*.parquet"))


def require_equal(uri: str, study_dir: Path, *, trials: int) -> None:
    """Compare every run with the rows on disk, independently of the code that wrote them."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("robust-study")
    rows = read_results(study_dir).to_pylist()
    epochs = read_epochs(study_dir).to_pylist()
    runs = [
        run
        for run in client.search_runs([experiment.experiment_id], max_results=1000)
        if run.data.tags["study"] == study_dir.name
    ]
    assert len(rows) == trials
    assert len(runs) == trials + 1
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert parent.info.status == "FINISHED"
    assert parent.data.params["search.num_trials"] == str(trials)
    completed = client.get_metric_history(parent.info.run_id, "trials_completed")
    assert sorted(metric.step for metric in completed) == list(range(1, trials + 1))
    front = set(front_of(read_results(study_dir))["trial_id"].to_pylist())
    children = {run.data.tags["robust_study.trial_id"]: run for run in runs if run is not parent}
    view = json.loads(experiment.tags[f"mlflow.sharedViewState.{parent.data.tags['robust_study.study_id']}"])
    ordered = client.search_runs(
        [experiment.experiment_id], view["searchFilter"], order_by=[f"{view['orderByKey']} ASC"], max_results=1000
    )
    along = front_of(read_results(study_dir))["trial_id"].to_pylist()
    assert [run.data.tags["robust_study.trial_id"] for run in ordered][: len(front) + 1] == [*along, "study"]
    assert len(ordered) == trials + 1
    assert f"{len(front)} member" in parent.data.tags["mlflow.note.content"]
    assert {trial for trial, run in children.items() if run.data.tags.get("on_front") == "true"} == front
    for row in rows:
        run = children[row["trial_id"]]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.info.status == ("FAILED" if row["status"] == "failed" else "FINISHED")
        for name in ("study", "method", "dataset", "model", "norm", "proposal", "status", "reason"):
            assert run.data.tags.get(name) == (None if row[name] is None else str(row[name]))
        for name, value in row.items():
            if name.startswith("param.") or name in ("seed", "steps", "train_epsilon", "eval_epsilon", "split_hash"):
                stored = run.data.params.get(name)
                # the setting 64 is 64 in MLflow and 64.0 in its column
                assert (stored if stored is None or value is None else type(value)(stored)) == value, name
        floats = [column.name for column in RESULT.columns if column.type == "float64"]
        compared = [name for name in floats if name in run.data.metrics]
        assert row["status"] == "failed" or len(compared) >= 20
        for name in compared:
            latest = run.data.metrics[name]
            assert latest == row[name] or (row[name] is None and math.isnan(latest)), name
        trial_epochs = [epoch for epoch in epochs if epoch["trial_id"] == row["trial_id"]]
        assert len(trial_epochs) == row["epochs"]
        for name in ("loss", "lr", "part.clean"):
            history = client.get_metric_history(run.info.run_id, name)
            stored = [(metric.step, metric.value) for metric in history if not math.isnan(metric.value)]
            on_disk = [(epoch["epoch"], epoch[name]) for epoch in trial_epochs if epoch.get(name) is not None]
            assert sorted(stored) == on_disk, name
        validation = client.get_metric_history(run.info.run_id, "val_robust_accuracy")
        measured = {epoch["epoch"] for epoch in trial_epochs if not epoch["stale"]}
        assert {metric.step for metric in validation if not math.isnan(metric.value)} == measured


def require_no_secret(folders: list[Path], database) -> None:
    planted = [value for value in SECRETS.values() if value]
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                assert not [secret for secret in planted if secret.encode() in content], path
    dump = subprocess.run(
        [database.bin / "pg_dump", "-h", "127.0.0.1", "-p", str(database.port), "-U", "study", "mlflow"],
        env={**os.environ, "PGPASSWORD": PASSWORD}, capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
    assert "robust_study.study_id" in dump
    assert not [secret for secret in planted if secret in dump]


def test_thirty_trials_arrive_field_by_field_and_no_secret_with_them(server, database, tmp_path):
    ranges = "ranges: {lr: {values: [0.05, 0.1, 100.0]}}"  # at the last, training diverges
    assert launch(tmp_path, name="whole", trials=30, uri=server.uri, ranges=ranges).wait(timeout=1800) == 0
    log = (tmp_path / "whole.log").read_text()
    assert "tracking verified" in log
    require_equal(server.uri, tmp_path / "studies/whole", trials=30)
    require_no_secret([tmp_path, Path(server._log).parent], database)
    rows = read_results(tmp_path / "studies/whole")
    assert "diverged" in rows["reason"].to_pylist()
    moved = (tmp_path / "studies").rename(tmp_path / "away")
    out = command(tmp_path, "export", "--mlflow", server.uri, "--experiment", "robust-study", "--out", "r.parquet")
    assert out.returncode == 0, out.stderr
    back = read_results(tmp_path / "r.parquet")
    assert back.equals(rows)
    moved.rename(tmp_path / "studies")


def test_a_server_killed_in_mid_study_and_restarted_after_20_s(server, tmp_path):
    driver = launch(tmp_path, name="outage", trials=30, uri=server.uri)
    while len(results_of(tmp_path, "outage")) < 5:
        assert driver.poll() is None, (tmp_path / "outage.log").read_text()
        time.sleep(0.1)
    server.kill()
    back = threading.Timer(20, server.start)
    back.start()
    try:
        assert driver.wait(timeout=1800) == 0, (tmp_path / "outage.log").read_text()
    finally:
        back.join()
    if "tracking verified" not in (tmp_path / "outage.log").read_text():
        # the study ended before the server was back
        assert command(tmp_path, "sync", "studies/outage").returncode == 0
    require_equal(server.uri, tmp_path / "studies/outage", trials=30)


def test_a_server_that_never_comes_back_costs_no_result_and_sync_uploads_all(server, tmp_path):
    driver = launch(tmp_path, name="lost", trials=6, uri=server.uri)
    while len(results_of(tmp_path, "lost")) < 2:
        assert driver.poll() is None, (tmp_path / "lost.log").read_text()
        time.sleep(0.1)
    server.kill()
    assert driver.wait(timeout=1800) == 0
    log = " ".join((tmp_path / "lost.log").read_text().split())
    assert "robust-study sync studies/lost" in log
    assert len(results_of(tmp_path, "lost")) == 6
    refused = command(tmp_path, "sync", "studies/lost")
    assert refused.returncode == 1
    assert "is still missing: " in refused.stderr
    server.start()
    synced = command(tmp_path, "sync", "studies/lost")
    assert synced.returncode == 0, synced.stderr
    assert "tracking verified: 6 trials" in synced.stdout
    require_equal(server.uri, tmp_path / "studies/lost", trials=6)


def test_a_server_with_basic_auth_takes_name_and_password_from_the_environment_only(database, tmp_path, monkeypatch):
    pytest.importorskip("flask_wtf", reason="needs mlflow[auth]")
    database.create("guarded")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "admin-password-7731")
    (tmp_path / "auth.ini").write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{tmp_path}/auth.db\nadmin_username = admin\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    environment = {
        "PGPASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "only-for-tests",
        "MLFLOW_AUTH_ADMIN_PASSWORD": "admin-password-7731",
        "MLFLOW_AUTH_CONFIG_PATH": str(tmp_path / "auth.ini"),
    }
    guarded = MlflowServer(
        tmp_path,
        backend=database.url("guarded", driver="psycopg"),
        port=free_port(),
        environment=environment,
        options=("--app-name", "basic-auth"),
    )
    from helpers.studies.tracked import row, run_trial, tracker

    (tmp_path / "study").mkdir()
    with guarded:
        tracking = tracker(tmp_path / "study", guarded.uri)
        tracking.start({}, {"study": "s"})
        run_trial(tracking, tmp_path / "study", row(0))
        assert tracking.close("FINISHED", timeout=120) is None
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
        tracking = tracker(tmp_path / "study", guarded.uri)
        tracking.start({}, {"study": "s"})
        problem = tracking.close("FINISHED", timeout=30)
    assert "bytes of updates, waiting in" in problem
    assert "wrong" not in problem
    spool = (tmp_path / "study/tracking/spool.jsonl").read_text()
    assert "admin-password" not in spool


def test_the_ui_stops_cleanly_on_ctrl_c(tmp_path, server):
    assert launch(tmp_path, name="shown", trials=2, uri=f"sqlite:///{tmp_path}/mlflow.db").wait(timeout=900) == 0
    log = tmp_path / "ui.log"
    with log.open("wb") as file:
        ui = subprocess.Popen(
            [sys.executable, "-m", "study", "ui", "studies/shown"], cwd=tmp_path, stdout=file, stderr=file
        )
    deadline = time.monotonic() + 300
    while "table: http://127.0.0.1:" not in " ".join(log.read_text().split()):
        assert ui.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert "/runs/" in log.read_text()
    ui.send_signal(signal.SIGINT)
    assert ui.wait(timeout=60) == 0
    assert "stopped" in log.read_text()
