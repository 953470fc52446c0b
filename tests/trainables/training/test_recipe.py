"""Warm-up, ramp and clipping: closed forms, bounds, exact resuming, and what training without them computes."""

from __future__ import annotations

import functools
import json
from dataclasses import replace

import pytest
import torch
from helpers.networks.toy_problems import (
    assert_equal,
    blobs,
    deterministic,
    killed_and_resumed,
    linear_helper,
    run,
    tiny_spec,
    trainer,
)

from trainables.attacks.threat import ThreatModel
from trainables.checkpoints.format import CheckpointError, read_checkpoint, write_checkpoint
from trainables.methods import METHODS
from trainables.methods.base import LossTerms, Step, build_method
from trainables.models.modes import batch_statistics
from trainables.runtime import computing
from trainables.settings import with_former_values
from trainables.spec import TrainingSpec, TrialSpec
from trainables.training import loop
from trainables.training.batch_loss import loss_terms
from trainables.training.loop import LAST, Trainer
from trainables.training.optimizers import learning_rate, rise

OFF = {"warmup": 0.0, "ramp": 0.0, "clip_norm": None, "give_up_after": None}
ON = {"warmup": 0.25, "ramp": 0.5, "clip_norm": 0.5, "give_up_after": 0.5}


class TestRise:
    def test_is_the_share_of_the_rising_steps(self):
        values = [rise(step, steps=8, share=0.5) for step in range(8)]
        assert values == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]
        values = [rise(step, steps=10, share=0.25) for step in range(10)]
        assert values == pytest.approx([0.4, 0.8, *[1.0] * 8])

    @pytest.mark.parametrize("steps", [1, 7, 1000])
    def test_of_no_share_is_exactly_one(self, steps):
        assert {rise(step, steps=steps, share=0.0) for step in range(steps)} == {1.0}

    @pytest.mark.parametrize("share", [0.01, 0.1, 0.99])
    @pytest.mark.parametrize("steps", [1, 2, 3, 100])
    def test_is_above_zero_never_falls_and_ends_at_one(self, steps, share):
        values = [rise(step, steps=steps, share=share) for step in range(steps)]
        assert values == sorted(values)
        assert values[0] > 0
        assert values[-1] == 1

    @pytest.mark.parametrize("setting", ["warmup", "ramp"])
    @pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
    def test_share_must_leave_steps_at_full_value(self, setting, share):
        with pytest.raises(ValueError, match=rf"`{setting}` must be in \[0, 0\.99\]"):
            TrainingSpec(**{setting: share})


def steps_of(monkeypatch, spec, **data):
    """Return learning rate, radius, weights and the gradient's norm of each step of a whole training."""
    taken = []

    class Recorded:
        """The trial's method, which also notes the radius and the images that it gets."""

        attacks = True

        def __init__(self, method) -> None:
            self.method = method

        def __call__(self, step: Step) -> LossTerms:
            taken.append({"radius": None if step.threat is None else step.threat.epsilon})
            return self.method(step)

    def recorded_terms(method, *args, **options):
        terms = loss_terms(Recorded(method), *args, **options)
        taken[-1]["weights"] = dict(terms.weights)
        return terms

    monkeypatch.setattr(loop, "loss_terms", recorded_terms)
    trained = trainer(spec, **data)
    take_step = trained.optimizer.step

    def step(lr):
        gradients = [parameter.grad for parameter in trained.model.parameters() if parameter.grad is not None]
        taken[-1] |= {"lr": lr, "norm": float(torch.stack([one.square().sum() for one in gradients]).sum().sqrt())}
        take_step(lr)

    monkeypatch.setattr(trained.optimizer, "step", step)
    while not trained.done:
        trained.run_epoch()
    return taken


def test_every_step_has_its_share_of_rate_radius_and_strength(monkeypatch):
    spec = tiny_spec("trades", train_epsilon=0.2, params={"beta": 6.0}, epochs=2, every=2, **ON)
    taken = steps_of(monkeypatch, spec)
    assert len(taken) == 12
    for t, step in enumerate(taken):
        cosine = learning_rate(t / 12, schedule="cosine", initial=0.05, epochs=2)
        assert step["lr"] == pytest.approx(cosine * min(1, (t + 1) / 3))
        assert step["radius"] == pytest.approx(0.2 * min(1, (t + 1) / 6))
        assert step["weights"] == {"divergence": pytest.approx(6 * min(1, (t + 1) / 6))}


@pytest.mark.parametrize(
    ("method", "params", "final"),
    [
        ("gradient_regularization", {"lambda": 0.4}, {"squared_gradient": 0.2}),
        ("locally_linear", {"lambda": 4.0, "mu": 3.0}, {"nonlinearity": 4.0, "linear_change": 3.0}),
        ("robust_self_training", {"lambda": 2.0}, {"adversarial": 2.0}),
        ("adversarial_training", {}, {}),
        ("natural", {}, {}),
    ],
)
def test_methods_rise_to_their_own_strength(method, params, final, monkeypatch):
    """A method that does not attack has no radius, and the loss that it is named after has its full weight at once."""
    radius = 0.2 if METHODS.load(method).attacks else None
    taken = steps_of(monkeypatch, tiny_spec(method, train_epsilon=radius, params=params, epochs=1, **ON))
    for t, step in enumerate(taken):
        share = min(1, (t + 1) / 3)
        assert step["radius"] == (None if radius is None else pytest.approx(share * radius))
        assert step["weights"] == {name: pytest.approx(share * weight) for name, weight in final.items()}


class TestClipping:
    def test_no_step_exceeds_the_norm_and_smaller_ones_are_unchanged(self, monkeypatch):
        bound = 0.5
        free = steps_of(monkeypatch, tiny_spec(epochs=1, **OFF))
        clipped = steps_of(monkeypatch, tiny_spec(epochs=1, **OFF | {"clip_norm": bound}))
        assert max(step["norm"] for step in free) > bound
        assert max(step["norm"] for step in clipped) <= bound * (1 + 1e-5)
        loose = steps_of(monkeypatch, tiny_spec(epochs=1, **OFF | {"clip_norm": 1e6}))
        assert [step["norm"] for step in loose] == [step["norm"] for step in free]

    def test_a_gradient_that_is_not_finite_ends_the_trial(self):
        trained = trainer(tiny_spec(name="mlp", clip_norm=1.0))
        with torch.no_grad():
            next(trained.model.parameters()).fill_(float("inf"))
        trained.run_epoch()
        assert trained.reason == "diverged"

    @pytest.mark.parametrize("norm", [0.0, -1.0, float("inf")])
    def test_norm_must_be_positive_or_null(self, norm):
        with pytest.raises(ValueError, match="`clip_norm` must be at least 1e-06"):
            TrainingSpec(clip_norm=norm)
        assert TrainingSpec(clip_norm=None).clip_norm is None


def test_training_of_a_single_step_is_at_full_rate_and_radius(monkeypatch):
    spec = tiny_spec("trades", train_epsilon=0.2, epochs=1, batch_size=90, **ON | {"clip_norm": None})
    (step,) = steps_of(monkeypatch, spec)
    assert (step["lr"], step["radius"], step["weights"]) == (0.05, 0.2, {"divergence": 6.0})


@pytest.mark.long
@pytest.mark.parametrize("method", sorted(METHODS))
def test_without_the_recipe_no_bit_of_training_changes(method):
    """Compared with a loop that only takes the loss's gradient and the optimiser's step at the schedule's rate."""
    radius = 0.1 if METHODS.load(method).attacks else None
    spec = tiny_spec(method, train_epsilon=radius, epochs=3, every=9, batch_size=30, **OFF)
    ours, plain = trainer(spec), trainer(spec)
    for epoch in range(2):
        ours.run_epoch()
        with computing(threads=1):
            plain.model.train()
            for batch, (x, y) in enumerate(plain._batches.epoch(epoch)):
                plain.optimizer.zero_grad()
                plain_terms(plain, x, y, (epoch, batch)).total.mean().backward()
                rate = learning_rate((epoch + batch / 3) / 3, schedule="cosine", initial=0.05, epochs=3)
                plain.optimizer.step(rate)
    assert_equal(ours.model, plain.model)
    assert len(batch_statistics(plain.model)) > 0


def plain_terms(trained, x, y, place):
    """Return the method's own terms at the spec's full radius."""
    from trainables.seeding import derive, generator, seeded

    spec = trained.spec
    step = Step(
        model=trained.model, x=x, y=y, norm="linf",
        threat=None if spec.train_epsilon is None else ThreatModel("linf", spec.train_epsilon),
        attack_steps=3, bn="eval", dropout="eval",
        generator=generator(spec.seed, "craft", *place), craft_seed=derive(spec.seed, "craft dropout", *place),
        progress=(place[0] + place[1] / 3) / 3, helper=linear_helper(spec=spec, data=blobs(), device=x.device),
    )  # fmt: skip
    with seeded(spec.seed, "dropout", *place, device=x.device):
        return build_method(spec.method, spec.params)(step)


@functools.cache
def uninterrupted_recipe(method: str) -> Trainer:
    """Return a trainer after two epochs with warm-up, ramp and clipping."""
    radius = 0.1 if METHODS.load(method).attacks else None
    return run(tiny_spec(method, train_epsilon=radius, epochs=2, every=2, augment="crop", **ON))


@pytest.mark.long
@pytest.mark.parametrize("method", ["trades", "locally_linear", "gradient_regularization"])
@pytest.mark.parametrize(("epoch", "batch"), [(0, 1), (0, 4), (1, 3)])
def test_resuming_within_an_epoch_changes_no_bit(method, epoch, batch, tmp_path):
    """In the middle of the warm-up, of the ramp, and after both."""
    uninterrupted = uninterrupted_recipe(method)
    first = trainer(uninterrupted.spec)
    for _ in range(epoch):
        first.run_epoch()
    second = killed_and_resumed(first, trainer(uninterrupted.spec), batch, tmp_path)
    assert_equal(uninterrupted.model, second.model)
    assert deterministic(uninterrupted.outcome().row) == deterministic(second.outcome().row)


def test_new_specs_train_by_the_recipe_and_recorded_ones_without():
    tree = {"dataset": {"name": "digits"}, "method": "natural"}
    new, old = TrialSpec.from_dict(tree), TrialSpec.from_dict(with_former_values(tree, TrialSpec))
    assert {name: getattr(old.training, name) for name in OFF} == OFF
    recipe = {"warmup": 0.1, "ramp": 0.3, "clip_norm": 3.0, "give_up_after": 0.5}
    assert {name: getattr(new.training, name) for name in OFF} == recipe


def test_a_checkpoint_from_before_the_recipe_goes_on_without_it(tmp_path):
    spec = tiny_spec("trades", train_epsilon=0.1, epochs=2, **OFF)
    spec = replace(spec, training=replace(spec.training, ema_warmup=True))
    spec = replace(spec, evaluation=replace(spec.evaluation, attack="pgd", margin_check=False))
    uninterrupted, first = run(spec), trainer(spec)
    first.run_epoch()
    first.save(tmp_path / LAST)
    state = read_checkpoint(tmp_path / LAST)
    tree = json.loads(state["spec"])
    for name in OFF:
        del tree["training"][name]
    del state["collapsed"]
    write_checkpoint(tmp_path / LAST, {**state, "spec": json.dumps(tree)})
    second = trainer(spec)
    second.load(tmp_path / LAST)
    second.run_epoch()
    assert_equal(uninterrupted.model, second.model)
    with pytest.raises(CheckpointError, match=r"belongs to another spec: `training\.ramp`"):
        trainer(replace(spec, training=replace(spec.training, ramp=0.3))).load(tmp_path / LAST)
