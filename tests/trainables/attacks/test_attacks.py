"""The contract of every registered attack, and closed forms and orderings of the attacks other than PGD."""

from __future__ import annotations

import importlib.util
import logging
import sys

import pytest
import torch
from helpers.networks.linear_attacks import exact_margin, linear_problem
from helpers.networks.toy_problems import linear
from helpers.networks.trained import trained_digits
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from trainables.attacks import ATTACKS, MissingExtraError
from trainables.attacks.autoattack import autoattack
from trainables.attacks.base import FlaggedPoints, input_gradient, is_correct, run_attack
from trainables.attacks.fgsm import fgsm
from trainables.attacks.losses import cross_entropy_against
from trainables.attacks.multi_targeted import multi_targeted
from trainables.attacks.threat import Ascent, ThreatModel

# Cheap enough for many random cases; thousands of queries are not.
CHEAP = ("fgsm", "pgd", "margin", "reachable_targets", "multi_targeted")
PACKAGED = ("apgd_t", "autoattack")

# Large enough for AutoAttack.
SHAPE = (1, 5, 5)

has_autoattack = importlib.util.find_spec("pyautoattack") is not None
needs_autoattack = pytest.mark.skipif(not has_autoattack, reason="the extra `autoattack` is not installed")
EXPENSIVE = ["square", *(pytest.param(name, marks=needs_autoattack) for name in PACKAGED)]
ALL = [*CHEAP, *EXPENSIVE]


def test_every_attack_is_under_contract():
    assert set(ATTACKS) == {*CHEAP, "square", *PACKAGED}


@pytest.fixture
def few_queries(monkeypatch):
    """Reduce the thousands of queries and hundreds of steps; the code that runs is the same."""
    monkeypatch.setattr("trainables.attacks.square.QUERIES", 100)
    monkeypatch.setattr("trainables.attacks.autoattack.SQUARE_QUERIES", 100)
    if importlib.util.find_spec("pyautoattack") is None:
        return
    from pyautoattack import AutoAttack

    run = AutoAttack.run_standard_evaluation

    def shorter(self, *args, **options):
        self.apgd.n_iter = self.apgd_targeted.n_iter = self.fab.n_iter = 20
        return run(self, *args, **options)

    monkeypatch.setattr(AutoAttack, "run_standard_evaluation", shorter)


def assert_legal(name, norm, epsilon, seed, steps, *, wild=False):
    x = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(seed))
    model = linear(torch.randn(4, 25, generator=torch.Generator().manual_seed(seed)) * (1e6 if wild else 1))
    y = model(x).argmax(1)
    threat, flags = ThreatModel(norm, epsilon), set()
    _, points = run_attack(
        ATTACKS.load(name), model, x, y, ascent=Ascent(threat, steps=steps, restarts=2), seed=seed, flags=flags
    )
    assert (threat.distance(points.double(), x.double()) <= epsilon + 6e-7).all()
    assert points.min() >= 0
    assert points.max() <= 1
    assert "radius_exceeded" not in flags


@pytest.mark.long
@pytest.mark.parametrize("name", CHEAP)
@pytest.mark.parametrize("norm", ["linf", "l2"])
@given(epsilon=st.floats(0, 1), seed=st.integers(0, 99), steps=st.integers(1, 3), wild=st.booleans())
@settings(max_examples=50)
def test_no_attack_leaves_ball_or_box(name, norm, epsilon, seed, steps, wild):
    assert_legal(name, norm, epsilon, seed, steps, wild=wild)


@pytest.mark.parametrize("name", EXPENSIVE)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_expensive_attacks_stay_in_ball_and_box(name, norm, few_queries):
    assert_legal(name, norm, 0.05, seed=0, steps=1)


@pytest.mark.parametrize("name", ALL)
def test_attack_changes_no_state_and_is_repeatable(name, few_queries):
    draws = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 2), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 4))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draws))
    # The memory layout of convolutional networks.
    model = model.train().to(memory_format=torch.channels_last)
    x = torch.rand(6, 3, 5, 5, generator=draws).to(memory_format=torch.channels_last)
    y = model.eval()(x).argmax(1)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    original, state = x.clone(), torch.get_rng_state()
    options = {"ascent": Ascent(ThreatModel("linf", 0.02), steps=2, restarts=1)}
    first = run_attack(ATTACKS.load(name), model, x, y, seed=0, **options)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    second = run_attack(ATTACKS.load(name), model, x, y, seed=0, **options)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(x, original)


@pytest.mark.parametrize("name", ALL)
def test_attack_at_radius_zero_is_the_clean_pass(name):
    model, x, y = classifier(4, n=10)
    robust, points = run_attack(
        ATTACKS.load(name), model, x, y, ascent=Ascent(ThreatModel("linf", 0.0), steps=2, restarts=1), seed=0
    )
    assert robust.all()
    assert torch.equal(points, x)


@pytest.mark.parametrize("name", ALL)
def test_attack_accepts_a_network_that_ignores_its_input(name, few_queries):
    class Constant(nn.Module):
        def forward(self, x):
            return torch.tensor([[2.0, 1.0, 0.5, 0.0]]).repeat(len(x), 1)

    x, y = torch.rand(3, *SHAPE), torch.zeros(3, dtype=torch.int64)
    robust, _ = run_attack(
        ATTACKS.load(name), Constant(), x, y, ascent=Ascent(ThreatModel("linf", 0.1), steps=1, restarts=1), seed=0
    )
    assert robust.all()


# FGSM


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fgsm_is_exact_on_two_classes(norm):
    threat = ThreatModel(norm, 0.05)
    model, x, y, weights = linear_problem(2, seed=1)
    margin, reach = exact_margin(model, x, y, weights, threat)
    robust, points = run_attack(fgsm, model, x, y, ascent=Ascent(threat, steps=1, restarts=1), seed=0)
    clear = margin.abs() > 1e-5 * reach
    assert torch.equal(robust[clear], margin[clear] > 0)
    assert 0.05 < robust.double().mean() < 0.95
    assert torch.allclose(threat.distance(points, x), torch.full((len(x),), 0.05), atol=1e-6)


def test_fgsm_is_one_signed_step_for_any_budget():
    model, x, y, _ = linear_problem(3, seed=1, n=20)
    gradient, _, _ = input_gradient(model, x, cross_entropy_against(y))
    threat = ThreatModel("linf", 0.05)
    for steps in (1, 50):
        points = fgsm(model, x, y, ascent=Ascent(threat, steps=steps, restarts=9), generator=None)
        assert torch.allclose(points, x + 0.05 * gradient.sign(), atol=1e-6)


# AutoAttack


@needs_autoattack
def test_apgd_t_is_exact_on_a_linear_model_and_needs_four_classes():
    threat = ThreatModel("linf", 0.03)
    model, x, y = classifier(5)
    margin, _ = exact_margin(model, x, y, model[1].weight.detach().double(), threat)
    ascent = Ascent(threat, steps=20, restarts=1)
    robust, _ = run_attack(ATTACKS.load("apgd_t"), model, x, y, ascent=ascent, seed=0)
    clear = margin.abs() > 1e-3
    assert torch.equal(robust[clear], margin[clear] > 0)
    model, x, y = classifier(3)
    with pytest.raises(ValueError, match="attack apgd_t needs at least 4 classes, got 3: use multi_targeted"):
        run_attack(ATTACKS.load("apgd_t"), model, x, y, ascent=ascent, seed=0)


@pytest.mark.long
@needs_autoattack
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_autoattack_pgd_and_clean_are_nested_and_autoattack_finds_more(norm, few_queries):
    model, images, labels = trained_digits()
    x, y = images[:30], labels[:30]
    threat = ThreatModel(norm, {"linf": 0.12, "l2": 0.6}[norm])
    clean = is_correct(model(x), y)
    # PGD of one step is weak, so that it leaves images for AutoAttack to fool.
    outcomes = {
        attack: run_attack(ATTACKS.load(attack), model, x, y, ascent=Ascent(threat, steps=1, restarts=1), seed=4)[0]
        for attack in ("pgd", "autoattack")
    }
    assert not (outcomes["pgd"] & ~clean).any()
    assert not (outcomes["autoattack"] & ~outcomes["pgd"]).any()
    assert outcomes["autoattack"].sum() < outcomes["pgd"].sum()
    strong, _ = run_attack(multi_targeted, model, x, y, ascent=Ascent(threat, steps=50, restarts=2), seed=4)
    assert outcomes["autoattack"].sum() <= strong.sum() + 1
    assert outcomes["autoattack"].any()


def classifier(classes: int, *, n: int = 60, spread: float = 1.0):
    """Return a linear network, images large enough for AutoAttack, and the network's own labels for them."""
    draws = torch.Generator().manual_seed(classes)
    model = linear(spread * torch.randn(classes, 25, generator=draws))
    x = 0.25 + 0.5 * torch.rand(n, *SHAPE, generator=draws)
    return model, x, model(x).argmax(1)


@needs_autoattack
def test_autoattack_is_exact_on_a_linear_model(few_queries):
    threat = ThreatModel("linf", 0.03)
    model, x, y = classifier(5)
    margin, _ = exact_margin(model, x, y, model[1].weight.detach().double(), threat)
    robust, _ = run_attack(autoattack, model, x, y, ascent=Ascent(threat, steps=5, restarts=1), seed=0)
    clear = margin.abs() > 1e-3
    assert 0.05 < robust.double().mean() < 0.95
    assert torch.equal(robust[clear], margin[clear] > 0)


@needs_autoattack
@pytest.mark.parametrize(("classes", "flags"), [(2, {"autoattack_reduced"}), (3, {"autoattack_reduced"}), (4, set())])
def test_autoattack_flags_attacks_it_omits_for_few_classes(classes, flags, few_queries):
    model, x, y = classifier(classes, n=8)
    raised = set()
    run_attack(
        autoattack, model, x, y, ascent=Ascent(ThreatModel("linf", 0.001), steps=1, restarts=1), seed=0, flags=raised
    )
    assert raised == flags


class Odd(nn.Module):
    """Probabilities with a zero gradient, and optionally noise."""

    def __init__(self, *, noise: float) -> None:
        super().__init__()
        self.net, self.noise = classifier(4)[0], noise

    def forward(self, x):
        return torch.softmax(self.net(x.detach() + 0 * x), 1) + self.noise * torch.rand(len(x), 4)


@needs_autoattack
@pytest.mark.parametrize(
    ("noise", "flags"),
    [
        (0.0, {"probabilities", "autoattack_zero_gradient"}),
        (0.05, {"nondeterministic", "autoattack_zero_gradient"}),
    ],
)
def test_autoattack_warnings_become_flags_and_are_not_shown(noise, flags, few_queries, capfd, caplog):
    x, y = classifier(4, n=8)[1:]
    raised, before = set(), sys.gettrace()

    def tracer(frame, event, argument):
        return None

    with caplog.at_level(logging.DEBUG):
        try:
            sys.settrace(tracer)
            options = {"ascent": Ascent(ThreatModel("linf", 0.001), steps=1, restarts=1), "seed": 0}
            run_attack(autoattack, Odd(noise=noise), x, y, flags=raised, **options)
            assert sys.gettrace() is tracer
        finally:
            sys.settrace(before)
    assert flags <= raised
    assert not (raised - flags - {"autoattack_square_stronger"})
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_autoattack_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[autoattack\]'"):
        autoattack(None, torch.rand(1, 1, 2, 2), None, ascent=Ascent(None, steps=1, restarts=1), generator=None)


@needs_autoattack
@pytest.mark.parametrize("shape", [(2, 3), (1, 1, 4, 8)])
def test_autoattack_refuses_other_shapes_than_images(shape):
    with pytest.raises(ValueError, match=r"takes images \(n, c, h, w\) of 5x5 and up, got"):
        autoattack(None, torch.rand(shape), None, ascent=Ascent(None, steps=1, restarts=1), generator=None)


# The wrapper


def test_wrapper_collects_flags_and_reports_progress():
    def doubtful(model, x, y, /, *, ascent, generator):
        return FlaggedPoints(x, frozenset({"autoattack_warning"}))

    model, x, y, _ = linear_problem(3, seed=0, n=600)
    raised, done = set(), []
    run_attack(
        doubtful, model, x, y, ascent=Ascent(ThreatModel("linf", 0.1), steps=1, restarts=1), seed=0, flags=raised,
        progress=done.append,
    )  # fmt: skip
    assert raised == {"autoattack_warning"}
    assert done == [256, 512, 600]
