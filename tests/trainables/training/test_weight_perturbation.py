"""Adversarial weight perturbation: its formula in float64, what it leaves alone, and exact resuming."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.networks.steps import make_step, network
from helpers.networks.toy_problems import assert_equal, killed_and_resumed, run, tiny_spec, trainer
from torch import nn

from trainables.attacks.losses import cross_entropy, cross_entropy_against, kl_divergence
from trainables.methods import METHODS
from trainables.methods.base import build_method
from trainables.models.moved import at_moved_weights, moves_up
from trainables.seeding import generator, seeded
from trainables.spec import CraftMode
from trainables.training.batch_loss import loss_terms
from trainables.training.compiling import Compiled

ATTACKING = sorted(name for name in METHODS if METHODS.load(name).attacks)
GAMMA = 0.05


def smooth() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def batch(dtype=torch.float64):
    x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(7), dtype=dtype)
    return x, torch.tensor([0, 1, 2, 0, 1, 2])


def gradients(model, loss):
    return torch.autograd.grad(loss, list(model.parameters()))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("method", ["adversarial_training", "trades"])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_the_gradient_is_that_at_the_moved_weights_and_the_points_those_of_the_weights(method, norm, strength):
    model, (x, y) = smooth(), batch()
    spec = tiny_spec(method, train_epsilon=0.1, awp=GAMMA, norm=norm)
    built = build_method(method, {})
    terms = loss_terms(built, model, x, y, spec=spec, place=(0, 0), strength=strength)
    step = make_step(
        model, built, norm=norm, epsilon=strength * 0.1, x=x, generator=generator(spec.seed, "craft", 0, 0)
    )
    fixed = model(x).detach()
    points = step.craft(
        cross_entropy_against(y) if method == "adversarial_training" else lambda z: kl_divergence(fixed, z)
    )

    def loss(net):
        if method == "adversarial_training":
            return cross_entropy(net(points), y)
        return cross_entropy(net(x), y) + strength * 6 * kl_divergence(net(x), net(points))

    moved, slopes = smooth(), gradients(model, loss(model).mean())
    with torch.no_grad():
        for weight, slope in zip(moved.parameters(), slopes, strict=True):
            if weight.ndim > 1:
                weight += strength * GAMMA * weight.norm() * slope / slope.norm()
    torch.testing.assert_close(terms.total, loss(moved), rtol=1e-9, atol=1e-12)
    assert terms.total.mean() > loss(model).mean()
    pairs = zip(gradients(model, terms.total.mean()), gradients(moved, loss(moved).mean()), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-12)
    assert_equal(model, smooth())


def test_biases_and_batch_norm_and_what_has_no_gradient_stay():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 3))
    model[1].unused = nn.Linear(2, 2)
    model[0].weight.requires_grad_(requires_grad=False)
    x, y = batch(torch.float32)
    moves = moves_up(model, cross_entropy(model(x), y).mean(), share=0.1)
    assert set(moves) == {"3.weight"}
    assert moves["3.weight"].norm() == pytest.approx(0.1 * float(model[3].weight.detach().norm()), rel=1e-5)
    zero = moves_up(model, (model(x) * 0).mean(), share=0.1)
    assert zero["3.weight"].abs().sum() == 0


def test_the_layers_are_read_at_the_moved_weights_and_are_back_after_an_error():
    model = smooth()
    weight, moves = model[1].weight, {"1.weight": torch.ones_like(model[1].weight)}
    assert torch.equal(at_moved_weights(model, moves, lambda: model[1].weight), weight + 1)
    with pytest.raises(ZeroDivisionError):
        at_moved_weights(model, moves, lambda: 1 / 0)
    assert model[1].weight is weight


@pytest.mark.parametrize("method", ATTACKING)
def test_every_search_of_a_method_is_made_once(method):
    """The repeated step draws nothing and finds the same points, so on the same network it has the same loss."""
    built, model = build_method(method, {}), network()
    step = make_step(model, built)
    with seeded(0, "dropout"):
        first = built(step)
    state = step.generator.get_state()
    again = step.repeated(model)
    with seeded(0, "dropout"):
        second = built(again)
    assert torch.equal(step.generator.get_state(), state)
    assert len(step.found) == len(again.found) > 0
    assert next(again.earlier, None) is None
    torch.testing.assert_close(second.total, first.total)


@pytest.mark.long
@pytest.mark.parametrize("method", ATTACKING)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_attacking_method_takes_it_with_batch_norm_and_dropout(method, norm):
    spec = tiny_spec(method, train_epsilon=0.1, norm=norm, every=9, batch_size=30)
    plain, moved = trainer(spec), trainer(replace(spec, training=replace(spec.training, awp=GAMMA)))
    plain.run_epoch()
    moved.run_epoch()
    assert moved.history[0]["loss"] is not None
    assert any(
        not torch.equal(one, other)
        for one, other in zip(plain.model.parameters(), moved.model.parameters(), strict=True)
    )


@pytest.mark.parametrize(
    ("method", "settings"), [("natural", {}), ("gradient_regularization", {}), ("trades", {"train_epsilon": 0.0})]
)
def test_without_an_attack_no_bit_changes(method, settings):
    spec = tiny_spec(method, every=2, **settings)
    assert_equal(run(spec).model, run(replace(spec, training=replace(spec.training, awp=GAMMA))).model)


@pytest.mark.parametrize("bn", ["eval", "train"])
def test_running_statistics_are_those_of_one_pass_at_the_moved_weights(bn):
    x, y = batch(torch.float32)
    spec = tiny_spec("adversarial_training", train_epsilon=0.1, awp=0.5, craft_mode=CraftMode(bn=bn))
    model = network()
    loss_terms(build_method("adversarial_training", {}), model, x, y, spec=spec, place=(0, 0))
    assert model[1].num_batches_tracked == 1
    alone = network()
    unmoved = replace(spec, training=replace(spec.training, awp=0.0, craft_mode=CraftMode()))
    loss_terms(build_method("adversarial_training", {}), alone, x, y, spec=unmoved, place=(0, 0))
    assert not torch.equal(model[1].running_var, alone[1].running_var)


def test_a_compiled_network_is_moved_without_its_compiler():
    (x, y), spec = batch(), tiny_spec("adversarial_training", train_epsilon=0.1, awp=GAMMA)
    model, method = smooth(), build_method("adversarial_training", {})
    wrapped = Compiled(model)
    wrapped.compiles = False
    plain, compiled = (loss_terms(method, net, x, y, spec=spec, place=(0, 0)) for net in (model, wrapped))
    assert torch.equal(plain.total, compiled.total)


@pytest.mark.parametrize("batch_number", [1, 4])
def test_resuming_within_an_epoch_changes_no_bit_of_it(batch_number, tmp_path):
    spec = tiny_spec("trades", train_epsilon=0.1, awp=GAMMA, ramp=0.5, every=2)
    whole, second = run(spec), killed_and_resumed(trainer(spec), trainer(spec), batch_number, tmp_path)
    assert_equal(whole.model, second.model)


def test_it_is_a_column_and_the_helper_does_not_depend_on_it():
    from trainables.training.pseudo_labels import teacher_spec

    spec = tiny_spec("hat", train_epsilon=0.1, awp=GAMMA)
    assert trainer(spec)._columns["param.awp"] == GAMMA
    assert trainer(tiny_spec())._columns["param.awp"] is None
    assert teacher_spec(spec) == teacher_spec(replace(spec, training=replace(spec.training, awp=0.0)))
