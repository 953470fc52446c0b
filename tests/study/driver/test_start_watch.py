"""A run in which no trial gets going says so once, and names what to look at."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from study.driver.callbacks import TrialCallback
from study.driver.start_watch import StartWatch


@pytest.fixture
def run():
    """A run on a cluster: `at(seconds, statuses)` is a step of Tune's loop, and returns what was printed."""
    now, printed = [0.0], []
    watch = StartWatch("10.0.0.1:6379", print_line=printed.append, clock=lambda: now[0])
    callback = TrialCallback(
        result_writer=None,
        tracker=None,
        progress=SimpleNamespace(tick=lambda running: None),
        final_saves=SimpleNamespace(are_done=lambda running: False),
        start_watch=watch,
    )
    trials = {}

    def at(seconds: float, *statuses: str) -> int:
        now[0] = seconds
        for number, status in enumerate(statuses):
            trial = trials.setdefault(number, SimpleNamespace(trial_id=str(number), config={"trial_id": str(number)}))
            trial.status = status
        callback.on_step_end(0, list(trials.values()))
        return len(printed)

    return SimpleNamespace(at=at, printed=printed)


def test_trials_that_start_for_a_minute_are_told_once(run):
    assert [run.at(seconds, "PENDING", "PENDING") for seconds in (1, 60, 61, 62, 600)] == [0, 0, 1, 1, 1]
    (line,) = run.printed
    assert line.startswith("trials have been starting for 60 s and none is running: perhaps nodes cannot reach")
    assert "(robust-study doctor --address 10.0.0.1:6379)" in line


def test_a_long_epoch_is_not_a_start(run):
    assert [run.at(seconds, "RUNNING", "PENDING") for seconds in (1, 100, 1000)] == [0, 0, 0]


def test_a_cluster_that_is_cut_off_later_is_told_too(run):
    steps = [(1, "PENDING"), (20, "RUNNING"), (500, "PENDING"), (559, "PENDING"), (561, "PENDING"), (562, "RUNNING")]
    assert [run.at(*step) for step in steps] == [0, 0, 0, 0, 1, 1]
    assert [run.at(seconds, "PENDING") for seconds in (600, 661)] == [1, 2]


def test_a_run_without_trials_and_one_on_this_machine(run):
    assert [run.at(seconds) for seconds in (1, 100)] == [0, 0]
    printed = []
    watch = StartWatch(None, print_line=printed.append, clock=iter([0.0, 60.0]).__next__)
    for _ in range(2):
        watch.observe(running=0, starting=1)
    assert "session_latest/logs" in printed[0]
    assert "--address" not in printed[0]
