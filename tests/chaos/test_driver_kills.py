"""A study whose driver is killed ten times, at chosen moments of its progress, and resumed each time."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from typing import Any

import pytest
from helpers.studies.small_study import SmallStudy

from study.lifecycle.train_trial import retrain
from trainables.checkpoints.format import CheckpointError, read_checkpoint

pytestmark = pytest.mark.chaos

SEED = 7
KILLS = 10
TRIALS = 30
REPRODUCED = 6
MOMENTS = ("a row was just written", "a trial is half trained", "an upload is running", "Optuna is being updated")


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Return the complete study, the rows on disk after each kill, and the moments of the kills."""
    study = SmallStudy(tmp_path_factory.mktemp("kills"), {"search": {"num_trials": TRIALS}})
    draw = random.Random(SEED)
    moments = [*MOMENTS, *draw.choices(MOMENTS, k=KILLS - len(MOMENTS))]
    draw.shuffle(moments)
    after_kills: list[dict[str, Any]] = []
    for kill, moment in enumerate(moments):
        driver = study.resume() if kill else study.launch()
        rows = len(study.written())
        study.wait_until(lambda: len(study.written()) > rows, driver)  # noqa: B023 - called in this iteration
        wait_for(moment, study, driver, epoch=draw.randrange(2, study.epochs - 2))
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        after_kills.append(study.contents())
    assert len(after_kills[-1]) < TRIALS, "the study ended before the last kill: give it more trials"
    last = study.resume()
    assert last.wait(600) == 0, study.output
    return study, after_kills, Counter(moments)


def wait_for(moment, study, driver, *, epoch):
    """Wait for a moment; some last milliseconds and may be missed, and then occur again with the next trial."""
    if moment == "a row was just written":
        rows = len(study.written())
        study.wait_until(lambda: len(study.written()) > rows, driver)
    elif moment == "a trial is half trained":
        study.wait_until(lambda: any(epochs_of(study, trial) >= epoch for trial in study.running()), driver)
    else:
        # SQLite's journal file exists while a transaction is being written
        name = study.folder / "mlflow.db-journal" if "upload" in moment else study.dir / "optuna.db-journal"
        deadline = time.monotonic() + 120
        while not name.exists():
            assert driver.poll() is None, study.output
            assert time.monotonic() < deadline, f"no {name.name} was seen"
            time.sleep(0.0005)


def epochs_of(study, trial):
    try:
        return read_checkpoint(study.dir / "checkpoints" / trial / "last.pt")["epoch"]
    except CheckpointError:
        return 0


def test_no_row_is_lost_and_none_is_written_twice(killed, note):
    study, after_kills, moments = killed
    last = study.contents()
    for rows in after_kills:
        assert {trial: last.get(trial) for trial in rows} == rows
    rows = study.rows()
    assert [row["number"] for row in rows] == list(range(TRIALS))
    assert {row["status"] for row in rows} == {"completed"}
    seen = ", ".join(f"{count} x while {moment}" for moment, count in moments.items())
    note(f"driver killed {KILLS} times", seen, f"{len(rows)} of {TRIALS} rows")


def test_optuna_has_exactly_these_trials_and_none_is_running(killed):
    study, _, _ = killed
    trials = study.optuna().trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * TRIALS
    for row, trial in zip(study.rows(), trials, strict=True):
        assert trial.values == [row["val_clean_accuracy"], row["val_robust_accuracy"]]


def test_no_spec_was_run_twice(killed):
    study, _, _ = killed
    specs = Counter(tuple(sorted(trial.params.items())) for trial in study.optuna().trials)
    assert max(specs.values()) == 1


def test_mlflow_has_one_finished_run_per_trial(killed):
    study, _, _ = killed
    runs = study.runs()
    assert set(runs) == {"study", *(row["trial_id"] for row in study.rows())}
    assert {tuple(states) for states in runs.values()} == {("FINISHED",)}


def test_rows_are_reproduced_by_single_trials(killed, capsys):
    study, _, _ = killed
    for row in study.rows()[:: TRIALS // REPRODUCED]:
        retrain(study.dir, trial=row["trial_id"], save=None, as_json=False)
    assert capsys.readouterr().out.count("agrees with trial") == REPRODUCED
