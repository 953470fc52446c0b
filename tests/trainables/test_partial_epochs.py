"""A trial saved within an epoch goes on as if nothing had happened; a damaged checkpoint never costs the trial."""

from __future__ import annotations

import torch
from helpers.science import blobs, deterministic, tiny_spec

from trainables.training import LAST, PARTIAL, Trainer
from trainables.tune import TrialTrainable

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
    assert "goes on from epoch 1" in result["note"]
    (tmp_path / LAST).write_bytes(b"")
    result = actor(tmp_path).step()
    assert result["epoch"] == 1
    assert "last.pt cannot be read" in result["note"]


def test_a_trial_that_was_given_up_reports_once_and_keeps_its_process(tmp_path):
    made = actor(tmp_path, given_up=True)
    assert made.step() == {"epoch": 0, "status": "failed", "done": True}
    assert made.reset_config({"spec": UNMEASURED})
    assert made.step()["epoch"] == 1
