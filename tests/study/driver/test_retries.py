"""Which failures count against a trial."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError

from study.driver import retries
from study.driver.callbacks import TrialCallback
from study.driver.retries import MAX_FAILURES, MAX_LOSSES, RetryCounter, is_node_loss
from study.search.searcher import StillOpenError
from trainables.checkpoints.files import StoreDownError


def test_a_trial_fails_for_good_after_max_failures():
    counter = RetryCounter()
    ends = []
    for _ in range(MAX_FAILURES):
        counter.attempt_started()
        ends.append(counter.attempt_failed(node_lost=False))
    assert ends == [False] * (MAX_FAILURES - 1) + [True]
    assert counter.count == MAX_FAILURES


def test_lost_nodes_do_not_count_as_failures():
    counter = RetryCounter(earlier=2)
    for _ in range(MAX_FAILURES - 1):
        assert not counter.attempt_failed(node_lost=False)
        for _ in range(MAX_LOSSES):
            assert not counter.attempt_failed(node_lost=True)
        counter.epoch_reported()
    assert counter.failures == MAX_FAILURES - 1


def test_a_trial_that_brings_down_node_after_node_fails_for_good():
    counter = RetryCounter()
    assert [counter.attempt_failed(node_lost=True) for _ in range(MAX_LOSSES + 1)] == [False] * MAX_LOSSES + [True]


@pytest.mark.parametrize(
    ("error", "text", "lost", "expected"),
    [
        (None, "ValueError: bad", 5, False),
        (ActorDiedError(), "The actor died because its node has died. Node Id: 1f", 0, True),
        (ActorDiedError(), "the worker process was killed by SIGKILL", 0, False),
        (ActorDiedError(), "connection error code 2", 1, True),
        (ActorUnavailableError("rpc", None), "ActorUnavailableError: rpc", 0, False),
        (ActorUnavailableError("rpc", None), "ActorUnavailableError: rpc", 1, True),
    ],
)
def test_node_losses_are_distinguished_from_failures(error, text, lost, expected, monkeypatch):
    monkeypatch.setattr(retries, "lost_nodes", lambda: lost)
    monkeypatch.setattr(retries, "DETECTION_SECONDS", 0.3)
    assert is_node_loss(error, text, lost_at_start=0) is expected


def test_the_late_detection_of_a_lost_node_is_waited_for(monkeypatch):
    counts = iter([0, 0, 1])
    monkeypatch.setattr(retries, "lost_nodes", lambda: next(counts))
    error = ActorUnavailableError("rpc", None)
    assert is_node_loss(error, "", lost_at_start=0)


@pytest.fixture
def callback():
    printed = []
    progress = SimpleNamespace(print=printed.append)
    return TrialCallback(result_writer=None, tracker=None, progress=progress, final_saves=None), printed


def attempt(folder, text):
    (folder / "error.txt").write_text(text)
    return SimpleNamespace(
        trial_id="tune-a",
        config={"trial_id": "00003"},
        error_file=str(folder / "error.txt"),
        get_pickled_error=lambda: None,
    )


def test_checkpoint_storage_that_is_down_ends_the_run_and_counts_against_no_trial(callback, tmp_path):
    callback, printed = callback
    down = "Traceback ...\nfiles.StoreDownError: checkpoints could not be written or read: no answer\n"
    trial = attempt(tmp_path, down)
    with pytest.raises(StoreDownError, match=r"^checkpoints could not be written or read: no answer$"):
        callback.on_trial_recover(0, [trial], trial)
    assert callback._retry_counter(trial).failures == 0
    assert "given_up" not in trial.config
    trial = attempt(tmp_path, "Traceback ...\nValueError: the net broke\n")
    for _ in range(3):
        callback.on_trial_recover(0, [trial], trial)
    assert trial.config["given_up"]
    assert len(printed) == 2


def test_a_worker_that_dies_while_saving_does_not_end_its_trial(callback, tmp_path, monkeypatch):
    """Tune reports both unanswered calls as failures, the second one for a trial that is queued again."""
    callback, printed = callback
    failed = []
    callback._result_writer = SimpleNamespace(
        has=lambda trial_id: False, spec_columns_of=lambda config: config, rows={}
    )
    callback._tracker = SimpleNamespace(trial_started=lambda *words: None)
    monkeypatch.setattr(callback, "_fail", lambda trial: failed.append(trial))
    monkeypatch.setattr("study.driver.callbacks.lost_nodes", lambda: 0)
    trial = attempt(tmp_path, "ray.exceptions.ActorDiedError: its worker process has died\n")
    trial.config["number"] = 3
    callback.on_trial_start(0, [trial], trial)
    callback.on_trial_recover(0, [trial], trial)
    with pytest.raises(StillOpenError):
        callback.before_tell("tune-a", error=True)
    assert failed == []
    assert printed[-1] == "trial 00003: worker process died while saving; it continues after the others"


def test_a_worker_that_dies_before_the_first_step_leaves_its_trial_open(callback):
    """Optuna cannot change a trial that it has marked as failed, and the trial is run again."""
    with pytest.raises(StillOpenError):
        callback[0].before_tell("tune-never-started", error=True)


def test_a_trial_without_attempts_left_ends_all_the_same(callback, tmp_path, monkeypatch):
    callback, _ = callback
    failed = []
    callback._result_writer = SimpleNamespace(
        has=lambda trial_id: False, spec_columns_of=lambda config: config, rows={3: {"status": "failed"}}
    )
    callback._tracker = SimpleNamespace(trial_started=lambda *words: None)
    monkeypatch.setattr(callback, "_fail", lambda trial: failed.append(trial.trial_id))
    monkeypatch.setattr("study.driver.callbacks.lost_nodes", lambda: 0)
    trial = attempt(tmp_path, "ray.exceptions.ActorDiedError: its worker process has died\n")
    trial.config |= {"number": 3, "attempts": MAX_FAILURES - 1}
    callback.on_trial_start(0, [trial], trial)
    callback.on_trial_recover(0, [trial], trial)
    callback.before_tell("tune-a", error=True)
    assert failed == ["tune-a"]
