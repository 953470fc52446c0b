"""A trial saved within an epoch resumes exactly, and a damaged checkpoint never fails the trial."""

from __future__ import annotations

import errno

import pytest
import torch
from helpers.networks.toy_problems import blobs, deterministic, tiny_spec

from trainables.checkpoints import files
from trainables.checkpoints.files import PAUSES, StoreDownError
from trainables.checkpoints.format import CheckpointError, read_checkpoint
from trainables.training import tune_trainable
from trainables.training.loop import LAST, PARTIAL, Trainer
from trainables.training.tune_trainable import TrialTrainable

SPEC = tiny_spec("trades", train_epsilon=0.1, epochs=3, every=2, ema=0.9, augment="crop")


def trainer():
    return Trainer(SPEC, data=blobs(), device="cpu")


def finish(trainer):
    while not trainer.done:
        trainer.run_epoch()
    return trainer


class KilledError(Exception):
    pass


def kill_within(trainer, path, *, batch):
    """Run an epoch that is saved after `batch` batches and killed after one more."""
    calls = []

    def between():
        calls.append(1)
        if len(calls) == batch:
            trainer.save(path)
        if len(calls) == batch + 1:
            raise KilledError

    try:
        trainer.run_epoch(between=between)
    except KilledError:
        return
    raise AssertionError("the epoch has too few batches")


@pytest.mark.long
def test_resuming_within_an_epoch_changes_no_bit(tmp_path):
    uninterrupted = finish(trainer())
    for epoch, batch in ((0, 1), (1, 3), (2, 4)):
        first = trainer()
        for _ in range(epoch):
            first.run_epoch()
        kill_within(first, tmp_path / PARTIAL, batch=batch)
        second = trainer()
        second.load(tmp_path / PARTIAL)
        assert second.epoch == epoch
        finish(second)
        ours, theirs = uninterrupted.outcome(), second.outcome()
        assert deterministic(ours.row) == deterministic(theirs.row)
        assert [deterministic(row) for row in ours.epochs] == [deterministic(row) for row in theirs.epochs]
        for name, value in uninterrupted.model.state_dict().items():
            assert torch.equal(value, second.model.state_dict()[name])


class WithoutRay(TrialTrainable):
    """Runs without Ray, which is needed for measured epochs only."""

    def setup(self, config):
        super().setup(config, data=blobs())


UNMEASURED = tiny_spec("trades", train_epsilon=0.1, epochs=3, every=3).to_dict()


def actor(folder, **changes):
    return WithoutRay({"spec": UNMEASURED, "checkpoint_dir": str(folder), **changes})


def test_long_epochs_are_saved_within_and_the_file_is_deleted_at_their_end(tmp_path, monkeypatch):
    states = []
    save = Trainer.save
    monkeypatch.setattr(Trainer, "save", lambda self, path: states.append((path.name, self._batch)) or save(self, path))
    actor(tmp_path, checkpoint_minutes=1e-9).step()
    assert states == [(PARTIAL, batch) for batch in (1, 2, 3, 4, 5)] + [(LAST, 0)]
    assert not (tmp_path / PARTIAL).exists()


def test_a_damaged_checkpoint_falls_back_to_the_one_before_with_a_note(tmp_path):
    worker = actor(tmp_path)
    worker.step()
    (tmp_path / PARTIAL).write_bytes((tmp_path / LAST).read_bytes()[:1000])
    result = actor(tmp_path).step()
    assert result["epoch"] == 2
    assert "partial.pt cannot be read" in result["note"]
    assert "resumes from epoch 1" in result["note"]
    (tmp_path / LAST).write_bytes(b"")
    result = actor(tmp_path).step()
    assert result["epoch"] == 1
    assert "last.pt cannot be read" in result["note"]


def test_a_trial_that_is_not_retried_reports_once_and_keeps_its_process(tmp_path):
    worker = actor(tmp_path, given_up=True)
    assert worker.step() == {"epoch": 0, "status": "failed", "done": True}
    assert worker.reset_config({"spec": UNMEASURED})
    assert worker.step()["epoch"] == 1


@pytest.fixture
def driver(monkeypatch):
    """Replace the driver that asks for saves and receives reports, and let workers poll it without delay."""

    class Driver:
        def __init__(self):
            self.asks = False
            self.polls = 0
            self.reports = []

        def poll(self):
            self.polls += 1
            return self.asks

    driver = Driver()
    monkeypatch.setattr(tune_trainable, "is_asked_to_save", driver.poll)
    monkeypatch.setattr(tune_trainable, "report_saved", driver.reports.append)
    monkeypatch.setattr(tune_trainable, "POLL_SECONDS", 0.0)
    return driver


def test_a_worker_saves_within_an_epoch_when_its_driver_asks_and_reports_once(tmp_path, driver, monkeypatch):
    saved = []
    save = Trainer.save

    def recorded(self, path):
        saved.append((path.name, self._batch))
        save(self, path)

    monkeypatch.setattr(Trainer, "save", recorded)
    worker = actor(tmp_path)
    worker.step()
    assert (driver.polls, driver.reports, saved) == (5, [], [(LAST, 0)])
    driver.asks = True
    worker.step()
    assert driver.reports == [worker.trial_id]
    assert saved[1:] == [(PARTIAL, 1), (LAST, 0)]


def test_a_trial_whose_worker_is_killed_after_a_requested_save_resumes_exactly(tmp_path, driver, monkeypatch):
    uninterrupted = actor(tmp_path / "uninterrupted")
    uninterrupted.step()
    second = uninterrupted.step()

    def kill(trial):
        raise KilledError

    worker = actor(tmp_path / "killed")
    worker.step()
    driver.asks = True
    monkeypatch.setattr(tune_trainable, "report_saved", kill)
    with pytest.raises(KilledError):
        worker.step()
    state = read_checkpoint(tmp_path / "killed" / PARTIAL)
    assert (state["epoch"], state["within"][0]) == (1, 1)
    driver.asks = False
    resumed = actor(tmp_path / "killed")
    assert deterministic(resumed.step()) == deterministic(second)
    for name, value in uninterrupted._trainer.model.state_dict().items():
        assert torch.equal(value, resumed._trainer.model.state_dict()[name])


def test_workers_poll_no_more_often_than_allowed(tmp_path, driver, monkeypatch):
    monkeypatch.setattr(tune_trainable, "POLL_SECONDS", 1000.0)
    actor(tmp_path).step()
    assert driver.polls == 1


@pytest.fixture
def outage(monkeypatch):
    """Return a function that makes the given number of checkpoint writes fail, and returns the list of pauses."""
    pauses = []
    monkeypatch.setattr(files.time, "sleep", pauses.append)
    save_checkpoints = Trainer.save_checkpoints

    def start(failures, code=None):
        def fail(self, folder):
            if len(pauses) < failures:
                raise OSError(code, "no answer") if code else OSError("no answer")
            save_checkpoints(self, folder)

        monkeypatch.setattr(Trainer, "save_checkpoints", fail)
        return pauses

    return start


def test_writes_are_retried_during_an_outage_of_the_store(tmp_path, outage):
    pauses = outage(4)
    assert actor(tmp_path).step()["epoch"] == 1
    assert pauses == list(PAUSES[:4])
    assert read_checkpoint(tmp_path / LAST)["epoch"] == 1


def test_a_long_outage_and_a_full_disk_are_named(tmp_path, outage):
    pauses = outage(len(PAUSES) + 1)
    with pytest.raises(StoreDownError, match="could not be written or read for 5 minutes: OSError: no answer"):
        actor(tmp_path).step()
    assert pauses == list(PAUSES)
    pauses.clear()
    outage(1, errno.ENOSPC)
    with pytest.raises(StoreDownError, match="could not be written or read: OSError"):
        actor(tmp_path).step()
    assert pauses == []


def test_a_store_that_is_unavailable_at_the_start_loses_no_epoch(tmp_path, monkeypatch):
    actor(tmp_path).step()
    load, failures = Trainer.load, [OSError("no answer"), OSError("no answer")]
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)

    def fails(self, path):
        if failures:
            raise CheckpointError("no answer") from failures.pop()
        load(self, path)

    monkeypatch.setattr(Trainer, "load", fails)
    assert actor(tmp_path).step()["epoch"] == 2
    assert not failures
