"""Trials whose network has collapsed to one class end early, with the reason, and no other trial does."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from helpers.networks.toy_problems import linear, run, tiny_spec, trainer
from torch import nn

from trainables.spec import drops
from trainables.training.collapse import CollapseWatch
from trainables.training.loop import LAST

# a rate of zero keeps what the network starts as
SPEC = tiny_spec(name="mlp", dropout=0.0, epochs=10, lr=0.0, give_up_after=0.5, ramp=0.3, every=10)


def constant(model: nn.Module) -> None:
    """Set a network's last layer to zero, so that it gives all classes one probability."""
    with torch.no_grad():
        for parameter in list(model.parameters())[-2:]:
            parameter.zero_()


def run_constant(spec=SPEC, **data):
    trained = trainer(spec, **data)
    constant(trained.model)
    while not trained.done:
        trained.run_epoch()
    return trained


def test_a_collapsed_network_ends_the_trial_with_the_reason():
    trained = run_constant()
    outcome = trained.outcome()
    assert (outcome.status, trained.epoch) == ("failed", 5)
    assert outcome.reason == outcome.row["reason"] == "predicts one class for all 30 images after epoch 5 of 10"
    assert outcome.row["val_robust_accuracy"] is None
    assert outcome.row["epochs"] == len(outcome.epochs) == 5


@pytest.mark.parametrize(("share", "ramp", "warmup", "epoch"), [
    (0.0, 0.0, 0.0, 3), (0.5, 0.6, 0.0, 8), (0.9, 0.0, 0.0, 9), (0.0, 0.95, 0.0, 10), (0.5, 0.0, 0.55, 8),
    (0.5, 0.3, 0.9, 10),
])  # fmt: skip
def test_none_is_ended_before_the_share_and_no_epoch_of_ramp_or_warm_up_counts(share, ramp, warmup, epoch):
    training = replace(SPEC.training, give_up_after=share, ramp=ramp, warmup=warmup)
    trained = run_constant(replace(SPEC, training=training))
    assert trained.epoch == epoch
    assert (trained.reason is None) == (epoch == 10)


@pytest.mark.parametrize("schedule", ["piecewise", "milestones"])
def test_no_epoch_counts_before_the_learning_rate_has_dropped(schedule):
    assert drops(schedule, epochs=20)[0] == 0.5
    training = replace(SPEC.training, schedule=schedule, epochs=20)
    assert run_constant(replace(SPEC, training=training)).epoch == 13


def test_an_average_that_lags_behind_its_network_does_not_end_the_trial(monkeypatch):
    trained = trainer(replace(SPEC, training=replace(SPEC.training, ema=0.999)))
    constant(trained.measured)
    constant(trained.model)  # so that the loss is that of guessing
    assert trained.measured is not trained.model
    average = trained.measured
    monkeypatch.setattr("trainables.training.collapse.predicts_one_class", lambda network, _: network is average)
    while not trained.done:
        trained.run_epoch()
    assert (trained.reason, trained.epoch) == (None, 10)


@pytest.mark.parametrize("changes", [{"give_up_after": None}, {"give_up_after": 1.0}, {"epochs": 2}])
def test_other_trials_run_to_their_end(changes):
    trained = run_constant(replace(SPEC, training=replace(SPEC.training, **changes)))
    assert (trained.outcome().status, trained.epoch) == ("completed", trained.spec.training.epochs)


def test_one_epoch_with_two_classes_starts_the_count_again(monkeypatch):
    seen = iter([True, True, False, True, True, True])
    monkeypatch.setattr("trainables.training.collapse.predicts_one_class", lambda *_: next(seen))
    assert run_constant().epoch == 8


def watched(*, of: int, frequent: int, informed: float = 0.0, steps: int = 9) -> list[str | None]:
    """Return the verdicts on a network that predicts class 0 alone, by the classes' shares; `informed` adds to the
    logit of class 1 where that is right."""
    labels = torch.tensor([0] * frequent + [1] * (of - frequent))
    images = labels.float().reshape(-1, 1, 1, 1)
    model = linear(torch.tensor([[0.0], [informed]]), torch.tensor([frequent, of - frequent + 1e-6]).log())
    watch = CollapseWatch(replace(SPEC.training, ramp=0.0), images, labels, classes=2)
    loss = float(nn.functional.cross_entropy(model(images), labels).detach())
    return [watch.reason([model], epoch=epoch, loss=loss) for epoch in range(1, steps + 1)]


def test_guessing_unequal_classes_by_their_shares_is_a_collapse():
    assert watched(of=100, frequent=90)[-1] == "predicts one class for all 100 images after epoch 9 of 10"


def test_one_class_at_a_loss_below_guessing_is_no_collapse():
    assert set(watched(of=100, frequent=90, informed=1.0)) == {None}


def test_one_class_at_a_far_larger_loss_is_no_collapse():
    """Such outputs exploded: `cnn_small` came back from a loss of 6 to 0.99 clean, on the digits at a rate of 1."""
    labels = torch.arange(100) % 10
    model = linear(torch.zeros(10, 1), torch.tensor([6.0] + [0.0] * 9))
    watch = CollapseWatch(replace(SPEC.training, ramp=0.0), labels.float().reshape(-1, 1, 1, 1), labels, classes=10)
    loss = float(nn.functional.cross_entropy(model(torch.zeros(100, 1, 1, 1)), labels).detach())
    assert loss > 5
    assert {watch.reason([model], epoch=epoch, loss=loss) for epoch in range(1, 10)} == {None}
    assert watch.reason([model], epoch=9, loss=2.4) is None
    assert watch.collapsed == 1


def test_equal_chances_of_many_classes_on_few_images_are_a_collapse():
    """Not all classes are among the images, so their shares give a lower loss: here by 0.37 nats."""
    labels = torch.randint(0, 100, (200,), generator=torch.Generator().manual_seed(0))
    watch = CollapseWatch(replace(SPEC.training, ramp=0.0), torch.zeros(200, 1, 1, 1), labels, classes=100)
    model = linear(torch.zeros(100, 1), torch.zeros(100))
    assert [watch.reason([model], epoch=epoch, loss=math.log(100)) for epoch in range(1, 10)][-1] is not None


@pytest.mark.parametrize(("of", "frequent"), [(19, 12), (100, 100), (1, 1)])
def test_few_images_or_those_of_one_class_show_none(of, frequent):
    assert set(watched(of=of, frequent=frequent)) == {None}


def test_training_that_works_is_not_ended():
    assert run(tiny_spec(epochs=6, every=6)).reason is None


def test_resuming_counts_on(tmp_path):
    trained = trainer(SPEC)
    constant(trained.model)
    for _ in range(4):
        trained.run_epoch()
    trained.save(tmp_path / LAST)
    resumed = trainer(SPEC)
    resumed.load(tmp_path / LAST)
    resumed.run_epoch()
    assert (resumed.done, resumed.epoch) == (True, 5)
