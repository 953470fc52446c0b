"""A study that is asked to stop, in each way a user or a cluster asks, goes on from where it was."""

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
    # seconds a trial also on a fast machine: whoever is asked to stop must be in a trial's middle
    return SmallStudy(tmp_path, {"search": {"num_trials": TRIALS}, "training": {"epochs": 60}})


def in_the_middle(study, driver):
    """Wait until a row is written and another trial has run some epochs; return the rows."""
    study.wait_until(study.written, driver)
    study.wait_until(lambda: any(epoch_of(study, trial) >= 2 for trial in study.running()), driver)
    return study.contents()


def epoch_of(study, trial):
    return read_checkpoint(study.dir / "checkpoints" / trial / "last.pt")["epoch"]


def finishes(study, before):
    """Resume the study; every row is there once, those of before as they were."""
    epochs = {trial: epoch_of(study, trial) for trial in study.running()}
    assert epochs
    again = study.call("resume", str(study.dir))
    assert again.returncode == 0, again.stdout + again.stderr
    rows = study.contents()
    assert len(rows) == TRIALS
    assert {trial: rows[trial] for trial in before} == before
    assert all(rows[trial]["attempts"] == 2 for trial in epochs)
    assert f"{len(before)} trials finished (0 failed), {len(epochs)} to retry" in again.stderr
    assert {tuple(states) for states in study.runs().values()} == {("FINISHED",)}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_ends_it_in_order(study, number, code, note):
    driver = study.launch()
    in_the_middle(study, driver)
    begun = time.monotonic()
    os.kill(driver.pid, number)
    assert driver.wait(120) == code, study.said
    taken = time.monotonic() - begun
    before = study.contents()
    seen = f"stopped in {taken:.0f} s, exit code {code}, how to go on"
    note(f"{signal.Signals(number).name} to the driver", seen, f"{len(before)} of {TRIALS} rows, the rest resumed")
    assert 0 < len(before) < TRIALS
    assert "stopping: no new trials" in study.said
    assert f"{len(before)} of {TRIALS} trials are done; resume with: robust-study resume" in study.said
    assert (study.dir / "figures" / "pareto.png").exists()
    assert ("KILLED",) in {tuple(states) for states in study.runs().values()}
    assert running_driver(study.dir) is None
    finishes(study, before)


def test_an_epoch_much_longer_than_a_second_is_saved_within(tmp_path, note, capsys):
    slow = {"epochs": 1, "batch_size": 8, "attack_steps": 800}
    study = SmallStudy(tmp_path, {"search": {"num_trials": 1, "methods": ["adversarial_training"]}, "training": slow})
    driver = study.launch()
    study.wait_until(lambda: "1 running" in study.said, driver)
    time.sleep(4)
    begun = time.monotonic()
    os.kill(driver.pid, signal.SIGTERM)
    assert driver.wait(120) == 143, study.said
    taken = time.monotonic() - begun
    assert "trials to save: 00000" in study.said
    assert "not saved in time" not in study.said
    state = read_checkpoint(study.dir / "checkpoints" / "00000" / "partial.pt")
    done, batches = state["within"][0], 512 // slow["batch_size"]
    assert state["epoch"] == 0
    assert 0 < done < batches / 2
    again = study.call("resume", str(study.dir))
    assert again.returncode == 0, again.stderr
    (row,) = study.rows()
    assert row["attempts"] == 2
    # what was trained before the stop was not trained again, and nothing came out differently
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
        begun = time.monotonic()
        study.wait_until(lambda: "2 running" in study.said, driver)
        note("a node that joins late", f"runs a trial {time.monotonic() - begun:.0f} s later", "two at once")
        os.kill(driver.pid, signal.SIGTERM)
        assert driver.wait(120) == 143, study.said


def test_the_second_signal_ends_it_now(study):
    driver = study.launch()
    in_the_middle(study, driver)
    os.kill(driver.pid, signal.SIGINT)
    time.sleep(0.3)
    begun = time.monotonic()
    os.kill(driver.pid, signal.SIGINT)
    assert driver.wait(10) == 130
    assert time.monotonic() - begun < 5
    assert "stopped immediately" in study.said
    finishes(study, study.contents())


@pytest.mark.parametrize("words", [[], ["--now"]])
def test_in_the_background_until_it_is_stopped(study, words):
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
    finishes(study, study.contents())


def test_a_complete_study_takes_more_trials(study):
    assert study.launch().wait(600) == 0, study.said
    before = study.contents()
    again = study.call("resume", str(study.dir), "--add-trials", "2")
    assert again.returncode == 0, again.stderr
    assert f"{TRIALS} trials finished (0 failed), 0 to retry, 2 new" in again.stderr
    rows = study.contents()
    assert len(rows) == TRIALS + 2
    assert {trial: rows[trial] for trial in before} == before
    assert [path.name for path in (study.dir / "results").iterdir()] == ["compacted.parquet"]
