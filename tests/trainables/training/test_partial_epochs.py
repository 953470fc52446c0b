"""A trial saved within an epoch goes on as if nothing had happened; a damaged checkpoint never costs the trial."""

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

SPEC = tiny_spec("trades", train_epsilon=0.1, epochs=3, ema=0.9, augment="crop")


def trainer():
    return Trainer(SPEC, data=blobs(), device="cpu")


def finished(made):
    while not made.done:
        made.run_epoch()
    return made


class KilledError(Exception):
    pass


def killed_within(made, path, *, batch):
    """Run an epoch that is saved and then dies after so many batches."""
    seen = []

    def between():
        seen.append(1)
        if len(seen) == batch:
            made.save(path)
        if len(seen) == batch + 1:
            raise KilledError

    try:
        made.run_epoch(between=between)
    except KilledError:
        return
    raise AssertionError("the epoch has too few batches")


def test_resuming_within_an_epoch_changes_no_bit(tmp_path):
    straight = finished(trainer())
    for epoch, batch in ((0, 1), (1, 3), (2, 4)):
        first = trainer()
        for _ in range(epoch):
            first.run_epoch()
        killed_within(first, tmp_path / PARTIAL, batch=batch)
        second = trainer()
        second.load(tmp_path / PARTIAL)
        assert second.epoch == epoch
        finished(second)
        ours, theirs = straight.outcome(), second.outcome()
        assert deterministic(ours.row) == deterministic(theirs.row)
        assert [deterministic(row) for row in ours.epochs] == [deterministic(row) for row in theirs.epochs]
        for name, value in straight.model.state_dict().items():
            assert torch.equal(value, second.model.state_dict()[name])


class Alone(TrialTrainable):
    """Without Ray, which is needed only where an epoch is measured."""

    def setup(self, config):
        super().setup(config, data=blobs())


UNMEASURED = tiny_spec("trades", train_epsilon=0.1, epochs=3, every=3).to_dict()


def actor(folder, **changes):
    return Alone({"spec": UNMEASURED, "checkpoint_dir": str(folder), **changes})


def test_long_epochs_are_saved_within_and_the_file_goes_when_the_epoch_ends(tmp_path, monkeypatch):
    states = []
    save = Trainer.save
    monkeypatch.setattr(Trainer, "save", lambda self, path: states.append((path.name, self._batch)) or save(self, path))
    actor(tmp_path, checkpoint_minutes=1e-9).step()
    assert states == [(PARTIAL, batch) for batch in (1, 2, 3, 4, 5)] + [(LAST, 0)]
    assert not (tmp_path / PARTIAL).exists()


def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(tmp_path):
    made = actor(tmp_path)
    made.step()
    (tmp_path / PARTIAL).write_bytes((tmp_path / LAST).read_bytes()[:1000])
    result = actor(tmp_path).step()
    assert result["epoch"] == 2
    assert "partial.pt cannot be read" in result["note"]
    assert "resumes from epoch 1" in result["note"]
    (tmp_path / LAST).write_bytes(b"")
    result = actor(tmp_path).step()
    assert result["epoch"] == 1
    assert "last.pt cannot be read" in result["note"]


def test_a_trial_that_was_given_up_reports_once_and_keeps_its_process(tmp_path):
    made = actor(tmp_path, given_up=True)
    assert made.step() == {"epoch": 0, "status": "failed", "done": True}
    assert made.reset_config({"spec": UNMEASURED})
    assert made.step()["epoch"] == 1


@pytest.fixture
def call(monkeypatch):
    """Stand in for the driver's call to save: what it asks, what it is told, and the clock between two questions."""

    class Call:
        def __init__(self):
            self.asked = False
            self.questions = 0
            self.told = []

        def is_asked(self):
            self.questions += 1
            return self.asked

    made = Call()
    monkeypatch.setattr(tune_trainable, "is_asked_to_save", made.is_asked)
    monkeypatch.setattr(tune_trainable, "report_saved", made.told.append)
    monkeypatch.setattr(tune_trainable, "POLL_SECONDS", 0.0)
    return made


def test_a_worker_saves_within_an_epoch_when_its_driver_asks_and_says_so_once(tmp_path, call, monkeypatch):
    saved = []
    save = Trainer.save

    def noted(self, path):
        saved.append((path.name, self._batch))
        save(self, path)

    monkeypatch.setattr(Trainer, "save", noted)
    made = actor(tmp_path)
    made.step()
    assert (call.questions, call.told, saved) == (5, [], [(LAST, 0)])
    call.asked = True
    made.step()
    assert call.told == [made.trial_id]
    assert saved[1:] == [(PARTIAL, 1), (LAST, 0)]


def test_a_trial_whose_worker_was_asked_and_killed_goes_on_without_a_bits_difference(tmp_path, call, monkeypatch):
    straight = actor(tmp_path / "straight")
    straight.step()
    second = straight.step()

    def killed(trial):
        raise KilledError

    made = actor(tmp_path / "stopped")
    made.step()
    call.asked = True
    monkeypatch.setattr(tune_trainable, "report_saved", killed)
    with pytest.raises(KilledError):
        made.step()
    state = read_checkpoint(tmp_path / "stopped" / PARTIAL)
    assert (state["epoch"], state["within"][0]) == (1, 1)
    call.asked = False
    again = actor(tmp_path / "stopped")
    assert deterministic(again.step()) == deterministic(second)
    for name, value in straight._trainer.model.state_dict().items():
        assert torch.equal(value, again._trainer.model.state_dict()[name])


def test_workers_ask_about_once_a_second(tmp_path, call, monkeypatch):
    monkeypatch.setattr(tune_trainable, "POLL_SECONDS", 1000.0)
    actor(tmp_path).step()
    assert call.questions == 1


@pytest.fixture
def outage(monkeypatch):
    """Let writes of checkpoints fail so many times; return the pauses that were made."""
    pauses = []
    monkeypatch.setattr(files.time, "sleep", pauses.append)
    keep = Trainer.keep

    def begin(failures, code=None):
        def fails(self, folder):
            if len(pauses) < failures:
                raise OSError(code, "no answer") if code else OSError("no answer")
            keep(self, folder)

        monkeypatch.setattr(Trainer, "keep", fails)
        return pauses

    return begin


def test_an_outage_of_the_store_is_waited_for(tmp_path, outage):
    pauses = outage(4)
    assert actor(tmp_path).step()["epoch"] == 1
    assert pauses == list(PAUSES[:4])
    assert read_checkpoint(tmp_path / LAST)["epoch"] == 1


def test_a_long_outage_and_a_full_disk_are_named_as_what_they_are(tmp_path, outage):
    pauses = outage(len(PAUSES) + 1)
    with pytest.raises(StoreDownError, match="could not be written or read for 5 minutes: OSError: no answer"):
        actor(tmp_path).step()
    assert pauses == list(PAUSES)
    pauses.clear()
    outage(1, errno.ENOSPC)
    with pytest.raises(StoreDownError, match="could not be written or read: OSError"):
        actor(tmp_path).step()
    assert pauses == []


def test_a_store_that_does_not_answer_at_the_start_costs_no_epoch(tmp_path, monkeypatch):
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
