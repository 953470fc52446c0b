"""A run that is to stop waits for its trials to be saved, and not longer; how many run at once follows the nodes."""

from __future__ import annotations

import signal

import pytest
from helpers.studies.searching import Driver, study_config
from ray.tune.search import ConcurrencyLimiter

from study.driver import callbacks, final_saves
from study.driver.callbacks import HeartbeatCallback
from study.driver.final_saves import FinalSaves
from study.driver.signals import GRACE_SECONDS, StopSignals

RUNNING = [("tune-a", "00003"), ("tune-b", "00004")]


@pytest.fixture
def run(monkeypatch):
    """A run whose workers answer as `told` says, and whose clock goes on by two seconds a look."""

    class Run:
        def __init__(self):
            self.interrupts = StopSignals()
            self.said, self.told, self.asked, self.forgot, self.now = [], set(), 0, 0, 1000.0
            self.last = FinalSaves(self.interrupts, say=self.said.append)

        def ask(self):
            self.asked += 1

        def forget(self):
            self.forgot += 1

        def clock(self):
            self.now += 2
            return self.now

    made = Run()
    monkeypatch.setattr(final_saves, "ask_to_save", made.ask)
    monkeypatch.setattr(final_saves, "saved_since_asked", lambda: made.told)
    monkeypatch.setattr(final_saves, "forget", made.forget)
    monkeypatch.setattr("time.monotonic", made.clock)
    monkeypatch.setattr("study.driver.signals._say", lambda text: None)
    return made


def stop(run):
    run.interrupts._handle(signal.SIGTERM, None)


def test_without_a_stop_nobody_is_asked(run):
    assert not run.last.are_done(RUNNING)
    run.last.close()
    assert (run.asked, run.forgot, run.said) == (0, 0, [])


def test_the_run_ends_once_every_trial_reported_or_was_saved(run):
    run.last.reported("tune-b")  # before the stop: that epoch is not the one it is in now
    stop(run)
    assert not run.last.are_done(RUNNING)
    assert run.said == [f"waiting up to {GRACE_SECONDS:.0f} s for trials to save: 00003, 00004"]
    run.last.reported("tune-a")
    assert not run.last.are_done(RUNNING)
    run.told = {"tune-b"}
    assert run.last.are_done(RUNNING)
    assert (run.asked, len(run.said)) == (1, 1)
    run.last.close()
    assert run.forgot == 1


def test_a_trial_that_ended_meanwhile_is_not_waited_for(run):
    stop(run)
    assert not run.last.are_done(RUNNING)
    assert run.last.are_done([])


def test_patience_ends_and_who_was_not_saved_is_named(run):
    stop(run)
    run.told = {"tune-a"}
    looks = 1
    while not run.last.are_done(RUNNING):
        looks += 1
    assert GRACE_SECONDS / 2 / 2 < looks <= GRACE_SECONDS / 2
    assert run.said[1:] == ["not saved in time, so they go on from checkpoints before: 00004"]


def test_as_many_trials_run_as_the_nodes_of_now_hold(monkeypatch):
    room, beats, now = [1], [], [0.0]
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: now[0])
    driver = Driver(study_config())
    driver.numbers["a"] = 0
    limiter = ConcurrencyLimiter(driver.searcher, max_concurrent=1)
    following = HeartbeatCallback(limiter, beat=lambda: beats.append(now[0]), room=lambda: room[0])

    def later():
        now[0] += callbacks.BEAT_SECONDS + 1
        following.on_step_end(0, [])

    def asked(names):
        return [name for name in names if limiter.suggest(name) is not None]

    assert asked("ab") == ["a"]
    room[0] = 3  # two nodes joined
    following.on_step_end(0, [])
    assert asked("b") == []  # not looked at yet: it is done every few seconds only
    later()
    assert asked("bcd") == ["b", "c"]
    room[0] = 0  # all are gone: one trial waits, which makes an autoscaler add a node
    later()
    assert limiter.max_concurrent == 1
    limiter.on_trial_complete("a")
    assert asked("d") == []
    assert len(beats) == 2


def test_a_figure_of_the_config_stays(monkeypatch):
    limiter = ConcurrencyLimiter(Driver(study_config()).searcher, max_concurrent=8)
    fixed = HeartbeatCallback(limiter, beat=lambda: None)
    fixed._last -= callbacks.BEAT_SECONDS + 1
    fixed.on_step_end(0, [])
    assert limiter.max_concurrent == 8
