"""Which ends of a trial count against it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError

from study.driver.callbacks import TrialCallback
from study.driver.retries import MAX_FAILURES, MAX_LOSSES, RetryCounter, is_node_loss
from study.search.searcher import StillOpenError
from trainables.checkpoints.files import StoreDownError


def test_so_many_failures_of_its_own_end_a_trial():
    tries = RetryCounter()
    ends = []
    for _ in range(MAX_FAILURES):
        tries.begun()
        ends.append(tries.ended(node_lost=False))
    assert ends == [False] * (MAX_FAILURES - 1) + [True]
    assert tries.count == MAX_FAILURES


def test_lost_nodes_do_not_count_between_failures():
    tries = RetryCounter(before=2)
    for _ in range(MAX_FAILURES - 1):
        assert not tries.ended(node_lost=False)
        for _ in range(MAX_LOSSES):
            assert not tries.ended(node_lost=True)
        tries.progressed()
    assert tries.failures == MAX_FAILURES - 1


def test_a_trial_that_brings_down_node_after_node_is_given_up():
    tries = RetryCounter()
    assert [tries.ended(node_lost=True) for _ in range(MAX_LOSSES + 1)] == [False] * MAX_LOSSES + [True]


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
def test_node_losses_are_told_from_failures(error, text, lost, expected):
    assert is_node_loss(error, text, lost_at_start=0, lost=lambda: lost, patience=0.3) is expected


def test_a_node_that_is_noticed_late_is_waited_for():
    counts = iter([0, 0, 1])
    error = ActorUnavailableError("rpc", None)
    assert is_node_loss(error, "", lost_at_start=0, lost=lambda: next(counts), patience=5)


@pytest.fixture
def books():
    said = []
    made = TrialCallback(ledger=None, tracker=None, progress=SimpleNamespace(say=said.append), last_saves=None)
    return made, said


def attempt(folder, text):
    (folder / "error.txt").write_text(text)
    return SimpleNamespace(
        trial_id="tune-a",
        config={"trial_id": "00003"},
        error_file=str(folder / "error.txt"),
        get_pickled_error=lambda: None,
    )


def test_a_place_of_checkpoints_that_is_down_ends_the_run_and_counts_against_no_trial(books, tmp_path):
    keeper, said = books
    down = "Traceback ...\ntrainables.storage.StoreDownError: checkpoints could not be written or read: no answer\n"
    trial = attempt(tmp_path, down)
    with pytest.raises(StoreDownError, match=r"^checkpoints could not be written or read: no answer$"):
        keeper.on_trial_recover(0, [trial], trial)
    assert keeper._tries(trial).failures == 0
    assert "given_up" not in trial.config
    trial = attempt(tmp_path, "Traceback ...\nValueError: the net broke\n")
    for _ in range(3):
        keeper.on_trial_recover(0, [trial], trial)
    assert trial.config["given_up"]
    assert len(said) == 2


def test_a_worker_that_dies_while_it_saves_does_not_end_its_trial(books, tmp_path, monkeypatch):
    """Tune hands both unanswered calls over as failures, the second of a trial that waits again."""
    keeper, said = books
    failed = []
    keeper._ledger = SimpleNamespace(has=lambda trial_id: False, spec_columns_of=lambda config: config, rows={})
    keeper._tracker = SimpleNamespace(trial_started=lambda *words: None)
    monkeypatch.setattr(keeper, "_fail", lambda trial: failed.append(trial))
    monkeypatch.setattr("study.driver.callbacks.lost_nodes", lambda: 0)
    trial = attempt(tmp_path, "ray.exceptions.ActorDiedError: its worker process has died\n")
    trial.config["number"] = 3
    keeper.on_trial_start(0, [trial], trial)
    keeper.on_trial_recover(0, [trial], trial)
    with pytest.raises(StillOpenError):
        keeper.before_tell("tune-a", error=True)
    assert failed == []
    assert said[-1] == "trial 00003: its worker died while it saved; it is run again"


def test_a_trial_begun_too_often_ends_all_the_same(books, tmp_path, monkeypatch):
    keeper, _ = books
    failed = []
    keeper._ledger = SimpleNamespace(has=lambda trial_id: False, spec_columns_of=lambda config: config, rows={})
    keeper._tracker = SimpleNamespace(trial_started=lambda *words: None)
    monkeypatch.setattr(keeper, "_fail", lambda trial: failed.append(trial.trial_id))
    monkeypatch.setattr("study.driver.callbacks.lost_nodes", lambda: 0)
    trial = attempt(tmp_path, "ray.exceptions.ActorDiedError: its worker process has died\n")
    trial.config |= {"number": 3, "attempts": MAX_FAILURES - 1}
    keeper.on_trial_start(0, [trial], trial)
    keeper.on_trial_recover(0, [trial], trial)
    keeper.before_tell("tune-a", error=True)
    assert failed == ["tune-a"]
