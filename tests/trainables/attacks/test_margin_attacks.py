"""Attacks on margins, and Square: closed forms, scale invariance, and how near cheap attacks come to strong ones."""

from __future__ import annotations

import functools

import pytest
import torch
from helpers.networks.linear_attacks import SHORT, exact_margin, linear_problem
from helpers.networks.toy_problems import linear
from helpers.networks.trained import trained_digits
from torch import nn

from trainables.attacks import ATTACKS
from trainables.attacks.base import is_correct, run_attack
from trainables.attacks.multi_targeted import multi_targeted, target_margin
from trainables.attacks.pgd import pgd
from trainables.attacks.threat import Ascent, ThreatModel

# Multi-targeted


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.01), ("linf", 0.03), ("l2", 0.03), ("l2", 0.1)])
@pytest.mark.parametrize("classes", [2, 3, 5, 10])
@pytest.mark.parametrize("attack", ["multi_targeted", "reachable_targets"])
def test_targeted_attacks_equal_exact_robust_accuracy_of_a_linear_model(norm, epsilon, classes, attack):
    threat = ThreatModel(norm, epsilon)
    model, x, y, weights = linear_problem(classes, seed=classes)
    margin, reach = exact_margin(model, x, y, weights, threat)
    ascent = Ascent(threat, steps=20, restarts=1)
    robust, points = run_attack(ATTACKS.load(attack), model, x, y, ascent=ascent, seed=0)
    clear = margin.abs() > 1e-5 + SHORT[norm] * reach
    assert clear.double().mean() > 0.97
    assert 0.02 < (margin > 0).double().mean() < 0.98
    missed = robust[clear] != (margin[clear] > 0)
    # a class whose weights lie very far from the label's gains more than the first class has shown to be possible
    assert missed.sum() <= (2 if attack == "reachable_targets" else 0)
    assert torch.equal(robust, is_correct(model(points), y))


def test_multi_targeted_is_exact_where_cross_entropy_saturates():
    """The logits are so large that cross-entropy's gradient is zero in float32; the margin's is not."""
    model, x, y, weights = linear_problem(4, seed=0)
    threat = ThreatModel("linf", 0.03)
    margin, _ = exact_margin(model, x, y, weights, threat)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1e5
    saturated, _ = run_attack(pgd, model, x, y, ascent=Ascent(threat, steps=20, restarts=1), seed=0)
    exact, _ = run_attack(multi_targeted, model, x, y, ascent=Ascent(threat, steps=20, restarts=1), seed=0)
    clear = margin.abs() > 1e-4
    assert torch.equal(exact[clear], margin[clear] > 0)
    assert saturated.sum() > exact.sum() + 20


def test_multi_targeted_returns_robust_images_at_the_worst_margin():
    model, x, y, weights = linear_problem(5, seed=3, n=50)
    threat = ThreatModel("linf", 0.01)
    margin, _ = exact_margin(model, x, y, weights, threat)
    robust, points = run_attack(multi_targeted, model, x, y, ascent=Ascent(threat, steps=10, restarts=2), seed=0)
    logits = model(points).detach()
    runner_up = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    left = (logits.gather(1, y[:, None]).squeeze(1) - runner_up)[robust]
    assert robust.any()
    assert torch.allclose(left.double(), margin[robust], atol=1e-5)


def test_target_margin():
    logits = torch.tensor([[1.0, 4.0], [2.0, -1.0]])
    labels, targets, which = torch.tensor([0, 1, 0]), torch.tensor([1, 0, 1]), torch.tensor([0, 2])
    assert target_margin(labels, targets, which, logits).tolist() == [3.0, -3.0]


# Attacks that climb margins


@functools.cache
def outcome(attack, scale, shift, norm="linf", steps=10):
    """Return which of the digits stay correct for a natural network whose logits are scaled and shifted."""
    model, images, labels = trained_digits(robust=False)

    class Rescaled(nn.Module):
        def forward(self, x):
            return scale * model(x) + shift

    threat = ThreatModel(norm, {"linf": 0.1, "l2": 0.6}[norm])
    ascent, x = Ascent(threat, steps=steps, restarts=1), images[:100].double()
    try:
        model.double()  # of shifted logits, float32 loses the digits that margins need
        return run_attack(ATTACKS.load(attack), Rescaled(), x, labels[:100], ascent=ascent, seed=0)[0]
    finally:
        model.float()


@pytest.mark.parametrize("attack", ["margin", "reachable_targets", "multi_targeted"])
@pytest.mark.parametrize(("scale", "shift"), [(1e-6, 0), (1e-3, 0), (1e3, 0), (1e6, 0), (1, 1000), (1, -1000)])
def test_scale_and_shift_of_the_logits_change_no_robust_accuracy(attack, scale, shift):
    assert torch.equal(outcome(attack, scale, shift), outcome(attack, 1, 0))


def test_cross_entropy_overstates_robust_accuracy_where_logits_are_small_or_large():
    own = outcome("pgd", 1, 0).sum()
    assert outcome("pgd", 1e-3, 0).sum() > own + 5
    assert outcome("pgd", 1e3, 0).sum() > own + 5


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_reachable_targets_come_close_to_all_targets(norm):
    strong = outcome("multi_targeted", 1, 0, norm=norm, steps=20)
    assert 10 < strong.sum() < 90
    assert outcome("reachable_targets", 1, 0, norm=norm).sum() <= strong.sum() + 2


def test_reachable_targets_leave_out_classes_out_of_reach():
    model, x, y, _ = linear_problem(10, seed=0)
    counts = {}

    class Counted(nn.Module):
        def forward(self, x):
            counts[name] = counts.get(name, 0) + len(x) * x.requires_grad
            return model(x)

    ascent = Ascent(ThreatModel("linf", 0.01), steps=10, restarts=1)
    outcomes = []
    for name in ("reachable_targets", "multi_targeted"):
        outcomes.append(run_attack(ATTACKS.load(name), Counted(), x, y, ascent=ascent, seed=0)[0])
    assert torch.equal(*outcomes)
    assert counts["reachable_targets"] < 0.4 * counts["multi_targeted"]


# Square


@pytest.mark.parametrize(("norm", "epsilon", "left"), [("linf", 0.1, 1), ("l2", 0.5, 12)])
def test_square_approaches_gradient_attacks_on_a_smooth_network(norm, epsilon, left):
    """The package's Square leaves 15 and 13 images more than ascents, at as many queries."""
    model, images, labels = trained_digits(robust=False)
    x, y, ascent = images[:60], labels[:60], Ascent(ThreatModel(norm, epsilon), steps=20, restarts=1)
    strong, _ = run_attack(multi_targeted, model, x, y, ascent=ascent, seed=0)
    found, points = run_attack(ATTACKS.load("square"), model, x, y, ascent=ascent, seed=0)
    assert strong.sum() <= found.sum() + 1
    assert found.sum() <= strong.sum() + left
    assert torch.equal(found, is_correct(model(points), y))


def test_square_fools_a_network_whose_gradients_point_the_wrong_way():
    model, images, labels = trained_digits(robust=False)

    class Reversed(nn.Module):
        def forward(self, x):
            return model(x.detach() - (x - x.detach()))

    x, y, ascent = images[:60], labels[:60], Ascent(ThreatModel("linf", 0.1), steps=10, restarts=1)
    misled, _ = run_attack(multi_targeted, Reversed(), x, y, ascent=ascent, seed=0)
    found, _ = run_attack(ATTACKS.load("square"), Reversed(), x, y, ascent=ascent, seed=0)
    assert misled.double().mean() > 0.9
    assert found.double().mean() < 0.7


def test_square_refuses_other_shapes_than_images():
    model = linear(torch.randn(3, 12))
    x = torch.rand(2, 12)
    ascent = Ascent(ThreatModel("linf", 0.1), steps=1, restarts=1)
    with pytest.raises(ValueError, match=r"attack square takes images \(n, c, h, w\), got \(2, 12\)"):
        run_attack(ATTACKS.load("square"), model, x, model(x).argmax(1), ascent=ascent, seed=0)
