"""A run that is asked to stop waits until its trials are saved; the number of running trials follows the nodes."""

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
    """A run whose saved trials are in `saved`, and whose clock advances by two seconds at each reading."""

    class Run:
        def __init__(self):
            self.interrupts = StopSignals()
            self.printed, self.saved, self.asked, self.forgot, self.now = [], set(), 0, 0, 1000.0
            self.final_saves = FinalSaves(self.interrupts, print_line=self.printed.append)

        def ask(self):
            self.asked += 1

        def forget(self):
            self.forgot += 1

        def clock(self):
            self.now += 2
            return self.now

    run = Run()
    monkeypatch.setattr(final_saves, "ask_to_save", run.ask)
    monkeypatch.setattr(final_saves, "saved_since_asked", lambda: run.saved)
    monkeypatch.setattr(final_saves, "forget", run.forget)
    monkeypatch.setattr("time.monotonic", run.clock)
    monkeypatch.setattr("study.driver.signals._print", lambda text: None)
    return run


def stop(run):
    run.interrupts._handle(signal.SIGTERM, None)


def test_without_a_stop_no_worker_is_asked_to_save(run):
    assert not run.final_saves.are_done(RUNNING)
    run.final_saves.close()
    assert (run.asked, run.forgot, run.printed) == (0, 0, [])


def test_the_run_ends_once_every_trial_has_reported_or_is_saved(run):
    run.final_saves.reported("tune-b")  # before the stop: the trial is in a later epoch now
    stop(run)
    assert not run.final_saves.are_done(RUNNING)
    assert run.printed == [f"waiting up to {GRACE_SECONDS:.0f} s for trials to save: 00003, 00004"]
    run.final_saves.reported("tune-a")
    assert not run.final_saves.are_done(RUNNING)
    run.saved = {"tune-b"}
    assert run.final_saves.are_done(RUNNING)
    assert (run.asked, len(run.printed)) == (1, 1)
    run.final_saves.close()
    assert run.forgot == 1


def test_a_trial_that_ended_meanwhile_is_not_waited_for(run):
    stop(run)
    assert not run.final_saves.are_done(RUNNING)
    assert run.final_saves.are_done([])


def test_the_wait_ends_and_unsaved_trials_are_named(run):
    stop(run)
    run.saved = {"tune-a"}
    looks = 1
    while not run.final_saves.are_done(RUNNING):
        looks += 1
    assert GRACE_SECONDS / 2 / 2 < looks <= GRACE_SECONDS / 2
    assert run.printed[1:] == ["not saved in time, so these will resume from earlier checkpoints: 00004"]


def test_as_many_trials_run_as_the_current_nodes_can_hold(monkeypatch):
    room, beats, now = [1], [], [0.0]
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: now[0])
    driver = Driver(study_config())
    driver.numbers["a"] = 0
    limiter = ConcurrencyLimiter(driver.searcher, max_concurrent=1)
    heartbeat = HeartbeatCallback(limiter, beat=lambda: beats.append(now[0]), room=lambda: room[0])

    def later():
        now[0] += callbacks.BEAT_SECONDS + 1
        heartbeat.on_step_end(0, [])

    def proposed(names):
        return [name for name in names if limiter.suggest(name) is not None]

    assert proposed("ab") == ["a"]
    room[0] = 3  # two nodes joined
    heartbeat.on_step_end(0, [])
    assert proposed("b") == []  # the room is read only every few seconds
    later()
    assert proposed("bcd") == ["b", "c"]
    room[0] = 0  # all nodes are gone: one trial waits, which makes an autoscaler add a node
    later()
    assert limiter.max_concurrent == 1
    limiter.on_trial_complete("a")
    assert proposed("d") == []
    assert len(beats) == 2


def test_a_limit_set_in_the_config_is_fixed(monkeypatch):
    limiter = ConcurrencyLimiter(Driver(study_config()).searcher, max_concurrent=8)
    fixed = HeartbeatCallback(limiter, beat=lambda: None)
    fixed._last -= callbacks.BEAT_SECONDS + 1
    fixed.on_step_end(0, [])
    assert limiter.max_concurrent == 8
