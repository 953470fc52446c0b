"""A study that is stopped, in each way that a user or a cluster stops it, resumes where it was."""

from __future__ import annotations

import os
import signal
import time

import pytest
from helpers.services.ray_cluster import cluster
from helpers.studies.small_study import SmallStudy

from study.directory.lock import process_start, running_driver
from study.lifecycle.train_trial import retrain
from trainables.checkpoints.format import read_checkpoint

pytestmark = pytest.mark.chaos

TRIALS = 5


@pytest.fixture
def study(tmp_path):
    # a trial takes seconds on a fast machine too, so that the study is stopped during a trial
    return SmallStudy(tmp_path, {"search": {"num_trials": TRIALS}, "training": {"epochs": 60}})


def wait_for_half_trained(study, driver):
    """Wait until a row is written and another trial has run some epochs; return the rows."""
    study.wait_until(study.written, driver)
    study.wait_until(lambda: any(epoch_of(study, trial) >= 2 for trial in study.running()), driver)
    return study.contents()


def epoch_of(study, trial):
    return read_checkpoint(study.dir / "checkpoints" / trial / "last.pt")["epoch"]


def check_resume(study, before):
    """Resume the study, and check that every trial has one row and that earlier rows are unchanged."""
    epochs = {trial: epoch_of(study, trial) for trial in study.running()}
    assert epochs
    resumed = study.call("resume", str(study.dir))
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    rows = study.contents()
    assert len(rows) == TRIALS
    assert {trial: rows[trial] for trial in before} == before
    assert all(rows[trial]["attempts"] == 2 for trial in epochs)
    assert f"{len(before)} trials finished (0 failed), {len(epochs)} to retry" in resumed.stderr
    assert {tuple(states) for states in study.runs().values()} == {("FINISHED",)}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_stops_it_gracefully(study, number, code, note):
    driver = study.launch()
    wait_for_half_trained(study, driver)
    started = time.monotonic()
    os.kill(driver.pid, number)
    assert driver.wait(120) == code, study.output
    taken = time.monotonic() - started
    before = study.contents()
    seen = f"stopped in {taken:.0f} s, exit code {code}, and the command to resume"
    note(f"{signal.Signals(number).name} to the driver", seen, f"{len(before)} of {TRIALS} rows, the rest resumed")
    assert 0 < len(before) < TRIALS
    assert "stopping: no new trials" in study.output
    assert f"{len(before)} of {TRIALS} trials are done; resume with: robust-study resume" in study.output
    assert (study.dir / "figures" / "pareto.png").exists()
    assert ("KILLED",) in {tuple(states) for states in study.runs().values()}
    assert running_driver(study.dir) is None
    check_resume(study, before)


def test_an_epoch_much_longer_than_a_second_is_saved_within(tmp_path, note, capsys):
    slow = {"epochs": 1, "batch_size": 8, "attack_steps": 800}
    study = SmallStudy(tmp_path, {"search": {"num_trials": 1, "methods": ["adversarial_training"]}, "training": slow})
    driver = study.launch()
    study.wait_until(lambda: "1 running" in study.output, driver)
    time.sleep(4)
    started = time.monotonic()
    os.kill(driver.pid, signal.SIGTERM)
    assert driver.wait(120) == 143, study.output
    taken = time.monotonic() - started
    assert "trials to save: 00000" in study.output
    assert "not saved in time" not in study.output
    state = read_checkpoint(study.dir / "checkpoints" / "00000" / "partial.pt")
    done, batches = state["within"][0], 512 // slow["batch_size"]
    assert state["epoch"] == 0
    assert 0 < done < batches / 2
    resumed = study.call("resume", str(study.dir))
    assert resumed.returncode == 0, resumed.stderr
    (row,) = study.rows()
    assert row["attempts"] == 2
    # the trial resumed after the batches before the stop, and has the same results
    retrain(study.dir, trial="00000", save=None, as_json=False)
    assert "agrees with trial 00000" in capsys.readouterr().out
    note(
        "SIGTERM within a long epoch",
        f"stopped in {taken:.0f} s, saved after batch {done} of {batches}",
        "1 of 1 rows, the same as without the stop",
    )


def test_a_node_that_joins_late_is_used(tmp_path, note):
    with cluster(1, "--num-cpus", "1") as ray:
        changes = {"search": {"num_trials": 60}, "resources": {"max_concurrent": None}}
        study = SmallStudy(tmp_path, changes, environment=ray.driver_environment)
        driver = study.launch("--address", ray.address)
        study.wait_until(study.running, driver)
        ray.add("node-2", "--num-cpus", "1").wait()
        started = time.monotonic()
        study.wait_until(lambda: "2 running" in study.output, driver)
        note("a node that joins late", f"runs a trial {time.monotonic() - started:.0f} s later", "two run concurrently")
        os.kill(driver.pid, signal.SIGTERM)
        assert driver.wait(120) == 143, study.output


def test_the_second_signal_stops_it_at_once(study):
    driver = study.launch()
    wait_for_half_trained(study, driver)
    os.kill(driver.pid, signal.SIGINT)
    time.sleep(0.3)
    started = time.monotonic()
    os.kill(driver.pid, signal.SIGINT)
    assert driver.wait(10) == 130
    assert time.monotonic() - started < 5
    assert "stopped immediately" in study.output
    check_resume(study, study.contents())


@pytest.mark.parametrize("words", [[], ["--now"]])
def test_a_study_runs_in_the_background_until_it_is_stopped(study, words):
    started = study.call("launch", "study.yaml", "--detach")
    assert started.returncode == 0, started.stderr
    deadline = time.monotonic() + 300
    while (driver := running_driver(study.dir)) is None:
        assert time.monotonic() < deadline, (study.dir / "driver.log").read_text()
        time.sleep(0.1)
    assert f"runs in the background as process {driver.pid}" in started.stdout
    assert os.getsid(driver.pid) == driver.pid
    deadline = time.monotonic() + 300
    while not (study.written() and study.running()):
        assert time.monotonic() < deadline, (study.dir / "driver.log").read_text()
        time.sleep(0.1)
    second = study.call("resume", str(study.dir), "--detach")
    assert second.returncode == 2
    assert f"process {driver.pid} on" in second.stderr
    assert f"run by process {driver.pid}" in study.call("status", str(study.dir)).stdout
    stopped = study.call("stop", str(study.dir), *words)
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert f"stopped process {driver.pid}" in stopped.stdout
    assert process_start(driver.pid) != driver.begun
    assert "no driver runs" in study.call("stop", str(study.dir)).stdout
    check_resume(study, study.contents())


def test_a_complete_study_takes_more_trials(study):
    assert study.launch().wait(600) == 0, study.output
    before = study.contents()
    resumed = study.call("resume", str(study.dir), "--add-trials", "2")
    assert resumed.returncode == 0, resumed.stderr
    assert f"{TRIALS} trials finished (0 failed), 0 to retry, 2 new" in resumed.stderr
    rows = study.contents()
    assert len(rows) == TRIALS + 2
    assert {trial: rows[trial] for trial in before} == before
    assert [path.name for path in (study.dir / "results").iterdir()] == ["compacted.parquet"]
