"""A small real study that stops trials early, is killed and resumed: its rungs are restored from disk."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter

import optuna
import pytest

from analysis.data.results import read_epochs, read_results
from analysis.fronts.front import front_of
from study.directory.layout import open_config
from study.driver.schedulers import resumed_scheduler

pytestmark = [pytest.mark.e2e, pytest.mark.chaos]

TRIALS, EPOCHS = 20, 8
CONFIG = f"""
name: halved
dataset: {{name: digits, train_size: 256}}
model: {{name: mlp}}
training: {{epochs: {EPOCHS}, batch_size: 64, lr: 0.05, attack_steps: 2}}
evaluation: {{epsilon: 0.15, every: 2, steps: 3, examples: 64, lipschitz: {{steps: 3, examples: 16}}}}
search: {{space: core, sampler: random, random_fraction: 1.0, num_trials: {TRIALS},
          methods: [natural, adversarial_training, gradient_regularization]}}
scheduler: {{name: moasha, grace_period: 2, reduction_factor: 2}}
resources: {{max_concurrent: 2}}
"""


def command(folder, *words):
    line = [sys.executable, "-m", "study", *words]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def halved(tmp_path_factory):
    """A finished study, the trials done and those past each rung when its first driver was killed."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "halved.yaml").write_text(CONFIG)
    study = folder / "studies/halved"
    with (folder / "log").open("w") as log:
        line = [sys.executable, "-m", "study", "launch", "halved.yaml"]
        driver = subprocess.Popen(line, cwd=folder, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 600
        while len(list((study / "results").glob("*.parquet"))) < TRIALS // 2:
            assert driver.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.05)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    before = set(read_results(study)["trial_id"].to_pylist())
    passed = Counter(row["epoch"] for row in read_epochs(study).to_pylist() if not row["stale"])
    resumed = command(folder, "resume", "studies/halved")
    assert resumed.returncode == 0, resumed.stderr
    return folder, study, before, passed


def test_rows_of_stopped_trials_have_the_rung_and_the_last_measurement_and_are_not_on_the_front(halved):
    _, study, _, _ = halved
    table = read_results(study)
    rows = table.to_pylist()
    stopped = [row for row in rows if row["status"] == "stopped_early"]
    assert len(rows) == TRIALS
    assert 0 < len(stopped) < TRIALS
    for row in stopped:
        assert row["epochs"] in (2, 4)
        assert row["reason"].startswith(f"rung {row['epochs'] // 2} (epoch {row['epochs']}): place ")
        assert row["val_robust_accuracy"] is not None
        assert row["train_robust_accuracy"] is None
    assert not {row["trial_id"] for row in stopped} & set(front_of(table)["trial_id"].to_pylist())


def test_stopped_trials_are_pruned_in_optuna_and_have_no_values(halved):
    _, study, _, _ = halved
    states = {"completed": "COMPLETE", "stopped_early": "PRUNED", "failed": "FAIL"}
    trials = optuna.load_study(study_name="halved", storage=f"sqlite:///{study}/optuna.db").trials
    rows = read_results(study).to_pylist()
    assert [trial.state.name for trial in trials] == [states[row["status"]] for row in rows]
    assert all(trial.values is None for trial in trials if trial.state.name == "PRUNED")


def test_trials_stopped_after_the_kill_were_compared_with_those_before_it(halved):
    _, study, before, passed = halved
    later = [
        row
        for row in read_results(study).to_pylist()
        if row["trial_id"] not in before and row["status"] == "stopped_early"
    ]
    assert later
    for row in later:
        compared = int(re.search(r"place \d+ of (\d+)", row["reason"])[1])
        assert compared > passed[row["epochs"]]


def test_the_rungs_read_from_disk_include_every_trial_that_reached_them(halved):
    _, study, _, _ = halved
    rows = read_results(study).to_pylist()
    seen = resumed_scheduler(open_config(study), study, rows).seen
    for epoch in (2, 4):
        reached = {row["trial_id"] for row in rows if row["epochs"] >= epoch}
        assert set(seen[epoch]) == reached


def test_status_shows_the_epochs_saved_and_a_stopped_row_is_reproduced(halved):
    folder, study, _, _ = halved
    rows = read_results(study).to_pylist()
    shown = json.loads(command(folder, "status", "studies/halved", "--json").stdout)
    assert shown["epochs_saved"] == pytest.approx(
        sum(EPOCHS - row["epochs"] for row in rows if row["status"] == "stopped_early") / (TRIALS * EPOCHS)
    )
    stopped = next(row for row in rows if row["status"] == "stopped_early")
    alone = command(folder, "train", "studies/halved", "--trial", stopped["trial_id"])
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert f"agrees with trial {stopped['trial_id']}" in alone.stdout
