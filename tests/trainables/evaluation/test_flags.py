"""Flags: each is raised by a network or attack made for it, and a healthy network raises none."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.networks.linear_attacks import linear_problem
from helpers.networks.toy_problems import linear, tiny_spec
from helpers.networks.trained import trained_digits
from torch import nn

from trainables.attacks.autoattack import _FLAGS as AUTOATTACK_FLAGS
from trainables.attacks.base import input_gradient, is_correct
from trainables.attacks.losses import cross_entropy_against
from trainables.attacks.pgd import pgd
from trainables.attacks.threat import Ascent, ThreatModel
from trainables.evaluation.evaluate import Measures, evaluate
from trainables.evaluation.flags import FLAGS, differ, look_like_probabilities, noticeable
from trainables.evaluation.trial import measure as measure_trial
from trainables.spec import EvaluationSpec, LipschitzSpec

LINF = ThreatModel("linf", 0.05)


class Rewired(nn.Module):
    """A network with a forward pass or gradient changed by `wire`."""

    def __init__(self, net: nn.Module, wire) -> None:
        super().__init__()
        self.net, self.wire = net, wire

    def forward(self, x):
        return self.wire(self.net, x)


def measure(
    model, x, y, *, threat=LINF, steps=10, lipschitz_steps=10, lipschitz_examples=40, checks="cheap", attack="pgd"
) -> Measures:
    lipschitz = LipschitzSpec(steps=lipschitz_steps, restarts=2, examples=lipschitz_examples)
    ascent = Ascent(threat, steps, restarts=1)
    return evaluate(model, x, y, ascent=ascent, lipschitz=lipschitz, seed=0, checks=checks, attack=attack)


@pytest.fixture(scope="module")
def problem():
    """A linear model and images that it classifies correctly, most of them robust at 0.01 and few at 0.05."""
    model, x, y, _ = linear_problem(3, seed=0, n=200)
    return model, x, y


def wired(problem, wire) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    model, x, y = problem
    return Rewired(model, wire), x, y


def noisy(net, x):
    return net(x) + 0.01 * torch.randn(len(x), 3, generator=noisy.draws)


def drifting():
    """Correct in the attack's own clean pass, but wrong for every fourth image in the passes before."""
    calls = iter(range(10**6))

    def wire(net, x):
        logits = net(x)
        wrong = (torch.arange(len(x)) % 4 == 0) & (next(calls) < 3)
        return torch.where(wrong[:, None], -logits, logits)

    return wire


def flipped_gradient(net, x):
    """The gradient has the wrong sign, so every attack that follows it moves away from the boundary."""
    return net(2 * x.detach() - x)


def no_gradient_off_grid(net, x):
    """There is a gradient at multiples of 1/16 only: at the images, but not at random starts."""
    on_grid = (16 * x == (16 * x).round()).flatten(1).all(1).reshape(-1, 1, 1, 1)
    return net(torch.where(on_grid, x, x.detach()))


def no_gradient(net, x):
    return net(x.detach() + 0 * x)


def half_way(model, x, y, /, *, ascent, generator):
    """The attack covers half the radius in ten steps, and all of it in twenty."""
    gradient, _, _ = input_gradient(model, x, cross_entropy_against(y))
    threat = ascent.threat
    return threat.project(threat.ascend(x, gradient, step=threat.epsilon * ascent.steps / 20), x)


def wrong_ball(model, x, y, /, *, ascent, generator):
    wide = ThreatModel(ascent.threat.norm, 1.001 * ascent.threat.epsilon)
    return pgd(model, x, y, ascent=replace(ascent, threat=wide), generator=generator)


def wrong_box(model, x, y, /, *, ascent, generator):
    return torch.where(x > 0.5, x + ascent.threat.epsilon, x) + 0.4


@pytest.mark.long
@pytest.mark.parametrize(
    ("robust", "norm", "epsilon"),
    [(True, "linf", 0.1), (True, "l2", 0.5), (False, "linf", 0.03), (False, "l2", 0.15)],
)
def test_healthy_trained_network_raises_no_flag(robust, norm, epsilon):
    threat = ThreatModel(norm, epsilon)
    measures = measure(*trained_digits(robust=robust), threat=threat, checks="full", steps=20, lipschitz_steps=20)
    assert measures.flags == ()
    assert measures.clean_correct.mean() > 0.9


def test_probabilities(problem):
    measures = measure(*wired(problem, lambda net, x: torch.softmax(net(x), 1)))
    assert "probabilities" in measures.flags
    assert not look_like_probabilities(torch.tensor([[0.5, 0.5], [1.5, -0.5]]))
    assert not look_like_probabilities(torch.tensor([[0.5, 0.4]]))
    assert not look_like_probabilities(torch.tensor([[torch.nan, 0.5]]))


def test_nondeterministic(problem):
    noisy.draws = torch.Generator().manual_seed(0)
    assert "nondeterministic" in measure(*wired(problem, noisy)).flags


def test_differ_is_relative_and_treats_nans_as_equal():
    logits = torch.tensor([[1000.0, 1.0], [torch.nan, 1.0]])
    assert not differ(logits, logits.clone())
    assert not differ(logits, logits + torch.tensor([[1e-2], [1e-5]]))
    assert differ(logits, logits + torch.tensor([[0.0], [1e-2]]))
    assert differ(torch.zeros(1, 2), torch.full((1, 2), 1e-3))


def test_robust_above_clean(problem):
    measures = measure(*wired(problem, drifting()), threat=ThreatModel("linf", 0.001))
    assert "robust_above_clean" in measures.flags
    # The reported robust accuracy is nevertheless at most the clean accuracy.
    assert not (measures.robust_correct & ~measures.clean_correct).any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("attack", [wrong_ball, wrong_box], ids=lambda attack: attack.__name__)
def test_radius_exceeded(problem, attack, norm, monkeypatch):
    measures = measure(*problem, threat=ThreatModel(norm, 0.05), attack=f"{__name__}:{attack.__name__}")
    assert "radius_exceeded" in measures.flags


def test_noise_stronger_and_large_radius_survived(problem):
    """Gradient masking: attacks that follow the gradient find nothing, at any radius."""
    measures = measure(*wired(problem, flipped_gradient), checks="full")
    assert measures.robust_correct.mean() > 0.8
    assert {"noise_stronger", "large_radius_survived"} <= set(measures.flags)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_large_radius_survived_in_both_norms(norm):
    """Grey is on the boundary, so no network can be robust at that radius; one with a false gradient seems to be."""
    x = torch.cat([torch.full((20, 1, 3, 4), 0.2), torch.full((20, 1, 3, 4), 0.8)])
    y = torch.arange(40) // 20
    net = linear(torch.stack([-torch.ones(12), torch.ones(12)]), torch.tensor([6.0, -6.0]))
    threat = ThreatModel(norm, 0.05)
    assert is_correct(net(x), y).all()
    assert "large_radius_survived" not in measure(net, x, y, threat=threat, checks="full").flags
    assert "large_radius_survived" in measure(Rewired(net, flipped_gradient), x, y, threat=threat, checks="full").flags


@pytest.mark.parametrize("checks", ["cheap", "full"])
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_margin_stronger(scale, checks):
    """Cross-entropy of logits of such a size attacks many classes at once, or saturates."""
    model, images, labels = trained_digits(robust=False)
    scaled = Rewired(model, lambda net, x: scale * net(x))
    measures = measure(scaled, images[:200], labels[:200], threat=ThreatModel("linf", 0.1), checks=checks)
    assert "margin_stronger" in measures.flags
    fair = measure(scaled, images[:200], labels[:200], threat=ThreatModel("linf", 0.1), attack="reachable_targets")
    assert "margin_stronger" not in fair.flags
    assert fair.robust_correct.mean() < measures.robust_correct.mean() - 0.02


@pytest.mark.parametrize(("steps", "flagged"), [(1, True), (10, False)])
def test_a_margin_attack_of_few_steps_is_checked_by_more(steps, flagged):
    """One random start and a step of twice the radius reach a corner of the ball, seldom the best one."""
    model, images, labels = trained_digits(robust=False)
    ball = ThreatModel("linf", 0.15)
    found = measure(model, images[:200], labels[:200], threat=ball, attack="margin", steps=steps)
    assert ("margin_stronger" in found.flags) == flagged


@pytest.mark.parametrize("robust", [False, True])
@pytest.mark.parametrize("attack", ["margin", "reachable_targets"])
def test_the_scale_of_the_logits_changes_neither_accuracy_nor_flags(attack, robust):
    """In float32, by powers of two, which round nothing; cross-entropy's gradients underflow at the larger ones."""
    model, images, labels = trained_digits(robust=robust)
    evaluation = EvaluationSpec(epsilon=0.1, attack=attack, examples=150, lipschitz=LipschitzSpec(steps=2, examples=10))
    spec = replace(tiny_spec("adversarial_training", train_epsilon=0.05), evaluation=evaluation)
    found = {}
    for power in (0, -20, 10, 20):
        scaled = Rewired(model, lambda net, x, power=power: 2.0**power * net(x))
        found[power] = measure_trial(scaled, images[:150], labels[:150], spec=spec, split="val")
    for measures in found.values():
        assert (measures.robust_correct == found[0].robust_correct).all()
        assert measures.flags == found[0].flags == ()


def test_fgsm_stronger(problem):
    model, x, _ = problem
    x = (16 * x).round() / 16
    y = model(x).argmax(1)
    measures = measure(Rewired(model, no_gradient_off_grid), x, y)
    assert "fgsm_stronger" in measures.flags


def test_steps_not_converged(problem):
    attack = f"{__name__}:half_way"
    assert "steps_not_converged" in measure(*problem, checks="full", attack=attack).flags
    assert "steps_not_converged" not in measure(*problem, checks="full", attack=attack, steps=20).flags
    assert "steps_not_converged" not in measure(*problem, checks="cheap", attack=attack).flags


class Waves(nn.Module):
    """Logits that oscillate within the ball, so that their linearisation at the image is a poor guide."""

    def __init__(self) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(0)
        self.inner = nn.Parameter(6 / 8 * torch.randn(64, 32, generator=draws))
        self.outer = nn.Parameter(torch.randn(32, 10, generator=draws))

    def forward(self, x):
        return (x.flatten(1) @ self.inner).sin() @ self.outer


def test_lipschitz_not_converged():
    """One step misses slopes that twenty steps find."""
    x = torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    threat = ThreatModel("linf", 0.1)
    few, enough = (
        measure(Waves(), x, torch.arange(50) % 10, threat=threat, checks="full", lipschitz_steps=steps).flags
        for steps in (1, 20)
    )
    assert "lipschitz_not_converged" in few
    assert "lipschitz_not_converged" not in enough


def test_zero_gradient(problem):
    assert "zero_gradient" in measure(*wired(problem, no_gradient)).flags


def test_nan_logits(problem):
    assert "nan_logits" in measure(*wired(problem, lambda net, x: net(x) / 0 - net(x) / 0)).flags


def test_scale_free_undefined():
    assert "scale_free_undefined" in measure(linear(torch.zeros(3, 12)), *linear_problem(3, seed=0)[1:3]).flags


def test_noticeable_needs_the_share_and_more_than_one_image():
    assert not noticeable(1, 50, share=0.005)
    assert noticeable(2, 50, share=0.005)
    assert not noticeable(5, 1000, share=0.005)
    assert noticeable(6, 1000, share=0.005)


def test_every_flag_has_a_description_and_a_test():
    tested = {
        name.removeprefix("test_")
        for name in globals()
        if name.startswith("test_") and name.removeprefix("test_") in FLAGS
    } | {"noise_stronger", "large_radius_survived"}
    # The others are AutoAttack's own warnings: see test_attacks.
    autoattack = {flag for flag in FLAGS if flag.startswith("autoattack_")}
    assert tested | autoattack == set(FLAGS)
    assert set(AUTOATTACK_FLAGS.values()) <= set(FLAGS)
    for description in FLAGS.values():
        assert description[0].islower() or description.startswith(("FGSM", "AutoAttack"))
        assert not description.endswith(".")


def test_cheap_flags_cost_little(problem):
    """The cost is the number of images that pass through the network; a pass with a gradient counts three times."""
    model, x, y = trained_digits()
    cost = {"forward": 0}

    def count(module, inputs, output):
        cost["forward"] += len(output) * (3 if output.requires_grad else 1)

    hook = model.register_forward_hook(count)
    try:
        options = {"lipschitz_steps": 20, "lipschitz_examples": 180, "threat": ThreatModel("linf", 0.1)}
        measure(model, x, y, **options)
        total = cost["forward"]
    finally:
        hook.remove()
    # FGSM's point, a second pass over the first batch, and at most two draws of noise for each image.
    extra = len(x) + min(256, len(x)) + 2 * len(x)
    assert extra < 0.1 * (total - extra)
