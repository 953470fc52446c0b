"""A device that runs out of memory: half batches with the whole batch's gradient, or else a clear failure."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from trainables.methods.base import LossTerms
from trainables.spec import DatasetSpec, EvaluationSpec, LipschitzSpec, ModelSpec, TrainingSpec, TrialSpec
from trainables.training.batch_loss import MicroBatches, loss_terms
from trainables.training.loop import Trainer
from trainables.training.outcome import OUT_OF_MEMORY

SPEC = TrialSpec(
    dataset=DatasetSpec(name="digits", train_size=100),
    model=ModelSpec(name="mlp", dropout=0.0),  # no batch norm, so halves give exactly the same gradient
    training=TrainingSpec(epochs=2, batch_size=32, lr=0.05, schedule="constant"),
    evaluation=EvaluationSpec(steps=1, examples=16, every=1, lipschitz=LipschitzSpec(steps=1, restarts=1, examples=8)),
    method="natural",
    seed=3,
)


class Device:
    """A device on which a pass over more than `room` images runs out of memory."""

    def __init__(self, room: int) -> None:
        self.room, self.passes = room, []

    def __call__(self, method, model, x, y, /, *half, **options) -> LossTerms:
        terms = loss_terms(method, model, x, y, *half, **options)  # updates batch norm before memory runs out
        self.passes.append(len(y))
        if len(y) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory (simulated)")
        return terms


@pytest.fixture
def device(monkeypatch):
    def with_room(images: int) -> Device:
        device = Device(images)
        monkeypatch.setattr("trainables.training.loop.loss_terms", device)
        return device

    return with_room


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([value.detach().flatten() for value in trainer.model.parameters()])


def test_halves_give_the_whole_batchs_step_and_are_recorded(device):
    whole = Trainer(SPEC)
    whole.run_epoch()
    small = device(16)
    halved = Trainer(SPEC)
    row = halved.run_epoch()
    # 32 fails once, then 16 + 16; 100 = 3 * 32 + 4, and the last 4 fit without halving
    assert small.passes == [32, *[16, 16] * 3, 4]
    torch.testing.assert_close(weights(halved), weights(whole), rtol=1e-4, atol=1e-6)
    assert not torch.equal(weights(halved), weights(Trainer(SPEC)))
    assert row["loss"] == pytest.approx(whole.history[-1]["loss"], rel=1e-5)
    assert whole.outcome().row["micro_batch"] is None
    assert halved.outcome().row["micro_batch"] == 16


def test_halving_is_saved_in_a_checkpoint(device, tmp_path):
    device(16)
    trainer = Trainer(SPEC)
    trainer.run_epoch()
    trainer.save(tmp_path / "last.pt")
    trainer.run_epoch()
    resumed_on = device(16)
    resumed = Trainer(SPEC)
    resumed.load(tmp_path / "last.pt")
    resumed.run_epoch()
    assert max(resumed_on.passes) == 16
    assert torch.equal(weights(resumed), weights(trainer))


def test_without_memory_for_a_half_the_trial_fails_with_that_reason(device):
    device(7)
    trainer = Trainer(SPEC)
    row = trainer.run_epoch()
    assert trainer.done
    assert row["epoch"] == 1
    assert row["loss"] is None
    outcome = trainer.outcome()
    assert (outcome.status, outcome.reason) == ("failed", OUT_OF_MEMORY)
    assert outcome.row["micro_batch"] == 16
    assert outcome.row["val_clean_accuracy"] is None


def test_running_out_of_memory_while_measuring_fails_the_trial(monkeypatch):
    def measure(*args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory (simulated)")

    monkeypatch.setattr("trainables.training.loop.measure", measure)
    trainer = Trainer(SPEC)
    trainer.run_epoch()
    assert (trainer.done, trainer.reason, trainer.epoch) == (True, OUT_OF_MEMORY, 1)


def test_batch_statistics_are_updated_for_each_half_but_not_for_the_failed_pass():
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)).train()
    x, y = torch.randn(8, 3), torch.zeros(8, dtype=torch.long)

    def compute(room: int, x: torch.Tensor, y: torch.Tensor, *half: int) -> LossTerms:
        terms = LossTerms({"ce": nn.functional.cross_entropy(model(x), y, reduction="none")})
        if len(y) > room:
            raise torch.OutOfMemoryError("simulated")
        return terms

    micro = MicroBatches(model)
    terms = micro.run(partial(compute, 4), x, y, clear=model.zero_grad)
    assert model[0].num_batches_tracked == 2
    assert terms.total.shape == (8,)
    expected = torch.zeros(3)
    for half in (0, 1):
        expected = 0.9 * expected + 0.1 * x[half::2].mean(0)
    torch.testing.assert_close(model[0].running_mean, expected)


def test_a_batch_too_small_to_halve_is_not_halved():
    micro = MicroBatches(nn.Linear(1, 1))

    def compute(x, y, *half):
        raise torch.OutOfMemoryError("simulated")

    with pytest.raises(torch.OutOfMemoryError):
        micro.run(compute, torch.zeros(3, 1), torch.zeros(3), clear=lambda: None)
    assert micro.size is None


def test_adversarial_halves_draw_their_own_starts():
    spec = replace(SPEC, method="adversarial_training", train_epsilon=0.1)
    trainer = Trainer(spec)
    x, y = next(iter(trainer._batches.epoch(0)))
    first, repeated, second = (
        loss_terms(trainer.method, deepcopy(trainer.model), x, y, *half, spec=spec, place=(0, 0)).total
        for half in ((0,), (0,), (1,))
    )
    assert torch.equal(first, repeated)
    assert not torch.equal(first, second)
