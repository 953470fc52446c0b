"""PGD against closed forms, and the guarantees of the wrapper for any attack."""

from __future__ import annotations

import itertools

import pytest
import torch
from helpers.networks.linear_attacks import LINEAR_SHAPE, SHORT, exact_margin, linear_problem
from torch import nn

from trainables.attacks.base import input_gradient, is_correct, run_attack
from trainables.attacks.losses import cross_entropy_against
from trainables.attacks.pgd import craft, pgd
from trainables.attacks.threat import Ascent, ThreatModel
from trainables.training.optimizers import build_optimizer

SHAPE = LINEAR_SHAPE


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.01), ("linf", 0.03), ("l2", 0.03), ("l2", 0.1)])
@pytest.mark.parametrize("classes", [2, 5])
def test_pgd_agrees_with_the_closed_form_of_a_linear_model(norm, epsilon, classes):
    threat = ThreatModel(norm, epsilon)
    model, x, y, weights = linear_problem(classes, seed=classes)
    margin, reach = exact_margin(model, x, y, weights, threat)
    robust, points = run_attack(pgd, model, x, y, ascent=Ascent(threat, steps=20, restarts=1), seed=0)
    clear = margin.abs() > 1e-4 + SHORT[norm] * reach
    assert clear.float().mean() > 0.95
    assert 0.05 < (margin > 0).double().mean() < 0.95
    # No attack can succeed where the closed form is robust. With two classes the gradient points to the nearest vertex.
    assert robust[clear & (margin > 0)].all()
    if classes == 2:
        assert torch.equal(robust[clear], margin[clear] > 0)
    else:
        assert robust.double().mean() >= (margin > 1e-4).double().mean()
        assert (robust[clear] != (margin[clear] > 0)).double().mean() < 0.1
    assert torch.equal(robust, is_correct(model(points), y))


@pytest.fixture(scope="module")
def trained():
    """A small network trained on three noisy pictures, and images of them."""
    draws = torch.Generator().manual_seed(0)
    pictures = torch.rand(3, *SHAPE, generator=draws)
    y = torch.arange(300) % 3
    x = (pictures[y] + 0.15 * torch.randn(300, *SHAPE, generator=draws)).clamp(0, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 3))
    optimizer = build_optimizer(model, name="adam", momentum=0.0, weight_decay=0.0)
    for _ in range(60):
        optimizer.zero_grad()
        cross_entropy_against(y)(model(x)).mean().backward()
        optimizer.step(0.02)
    return model, x, y


def accuracy(trained, **settings) -> float:
    settings = {"norm": "linf", "epsilon": 0.1, "steps": 10, "restarts": 1} | settings
    threat = ThreatModel(settings.pop("norm"), settings.pop("epsilon"))
    return run_attack(pgd, *trained, ascent=Ascent(threat, **settings), seed=0)[0].double().mean().item()


def test_robust_accuracy_at_the_extreme_radii(trained):
    model, x, y = trained
    clean = is_correct(model(x), y)
    robust, points = run_attack(pgd, *trained, ascent=Ascent(ThreatModel("linf", 0.0), steps=5, restarts=2), seed=0)
    assert torch.equal(robust, clean)
    assert torch.equal(points, x)
    assert clean.double().mean() > 0.95
    assert accuracy(trained, epsilon=1.0) < 0.02


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_more_radius_steps_or_restarts_never_help_the_network(trained, norm):
    scale = {"linf": 1.0, "l2": 4.0}[norm]
    by_radius = [accuracy(trained, norm=norm, epsilon=scale * e) for e in (0.0, 0.05, 0.1, 0.2, 0.4)]
    by_steps = [accuracy(trained, norm=norm, epsilon=scale * 0.15, steps=k) for k in (1, 5, 20)]
    by_restarts = [accuracy(trained, norm=norm, epsilon=scale * 0.15, restarts=k) for k in (1, 2, 5)]
    for series in (by_radius, by_steps):
        assert all(later <= earlier + 0.01 for earlier, later in itertools.pairwise(series)), series
    assert by_radius[-1] < by_radius[0] - 0.5
    # The first restarts are the same for any number of restarts, so there is no noise here.
    assert by_restarts == sorted(by_restarts, reverse=True)


def test_wrapper_projects_illegal_points_and_classifies_again(trained):
    def cheat(model, x, y, /, *, ascent, generator):
        return torch.where(torch.arange(len(x))[:, None, None, None] % 2 == 0, 5 + x, torch.nan)

    model, x, y = trained
    threat = ThreatModel("linf", 0.01)
    robust, points = run_attack(cheat, model, x, y, ascent=Ascent(threat, steps=1, restarts=1), seed=0)
    assert (points - x).abs().max() <= 0.01 + 1e-7
    assert torch.equal(robust, is_correct(model(points), y) & is_correct(model(x), y))


def test_attack_of_the_former_signature_gets_the_three_parts_of_the_ascent(trained):
    def former(model, x, y, /, *, threat, steps, restarts, generator):
        return pgd(model, x, y, ascent=Ascent(threat, steps=steps, restarts=restarts), generator=generator)

    class Rest:
        def __call__(self, model, x, y, /, *, threat, generator, **rest):
            return former(model, x, y, threat=threat, generator=generator, **rest)

    ascent = Ascent(ThreatModel("linf", 0.1), steps=3, restarts=2)
    _, expected = run_attack(pgd, *trained, ascent=ascent, seed=0)
    for attack in (former, Rest()):
        assert torch.equal(run_attack(attack, *trained, ascent=ascent, seed=0)[1], expected)


def test_misclassified_images_are_not_attacked(trained):
    model, x, _ = trained
    wrong = (model(x).argmax(1) + 1) % 3
    robust, points = run_attack(
        None, model, x, wrong, ascent=Ascent(ThreatModel("linf", 0.1), steps=1, restarts=1), seed=0
    )
    assert not robust.any()
    assert torch.equal(points, x)


def test_attack_changes_no_modes_buffers_gradients_or_inputs():
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Flatten(), nn.Linear(12, 3)).train()
    x, y = torch.rand(6, *SHAPE), torch.tensor([0, 1, 2, 0, 1, 2])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    original, random_state = x.clone(), torch.get_rng_state()
    run_attack(pgd, model, x, y, ascent=Ascent(ThreatModel("linf", 0.1), steps=2, restarts=1), seed=0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(x, original)
    assert torch.equal(torch.get_rng_state(), random_state)


def test_nan_logits_count_as_misclassified():
    logits = torch.tensor([[torch.nan, 1.0], [2.0, 1.0], [torch.nan, torch.nan]])
    assert is_correct(logits, torch.tensor([0, 0, 0])).tolist() == [False, True, False]


def test_attack_depends_on_its_seed_and_no_global_state(trained):
    """Points depend on the generator of their batch, not on global state or earlier calls."""
    torch.manual_seed(1)
    first = run_attack(pgd, *trained, ascent=Ascent(ThreatModel("linf", 0.15), steps=3, restarts=1), seed=3)
    torch.manual_seed(2)
    torch.rand(7)
    second = run_attack(pgd, *trained, ascent=Ascent(ThreatModel("linf", 0.15), steps=3, restarts=1), seed=3)
    other = run_attack(pgd, *trained, ascent=Ascent(ThreatModel("linf", 0.15), steps=3, restarts=1), seed=4)
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[1], other[1])


def test_worst_point_over_steps_and_restarts_is_returned(trained):
    """On robust images the returned point has the highest loss of all: never less than a restart's last iterate."""
    model, x, y = trained
    x, y = x[:60], y[:60]
    threat = ThreatModel("linf", 0.05)
    draws = torch.Generator().manual_seed(0)
    worst = pgd(model, x, y, ascent=Ascent(threat, steps=5, restarts=3), generator=draws)
    loss = cross_entropy_against(y)
    robust = is_correct(model(worst), y)
    assert robust.any()
    draws.manual_seed(0)
    for _ in range(3):
        last = craft(model, x, loss, threat=threat, steps=5, generator=draws)
        assert (loss(model(worst))[robust] >= loss(model(last))[robust] - 1e-6).all()


def test_craft_reaches_the_vertex_of_a_linear_model():
    model, x, y, weights = linear_problem(2, seed=0, n=20)
    crafted = craft(
        model, x, cross_entropy_against(y), threat=ThreatModel("linf", 0.1), steps=4,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    towards = (weights[1 - y] - weights[y]).sign().float().reshape(x.shape)
    assert torch.allclose(crafted, x + 0.1 * towards, atol=1e-6)
    assert not crafted.requires_grad


def test_craft_at_radius_zero_draws_nothing():
    x = torch.rand(2, *SHAPE)
    assert craft(None, x, None, threat=ThreatModel("l2", 0.0), steps=3, generator=None) is x


def test_input_gradient_of_a_constant_network_is_zero():
    x = torch.rand(2, 3)
    for model in (lambda x: torch.ones(len(x), 2), lambda x: nn.Parameter(torch.ones(2, 2)) + 0):
        gradient, values, logits = input_gradient(model, x, lambda z: z.sum(1))
        assert torch.equal(gradient, torch.zeros_like(x))
        assert values.tolist() == [2, 2]
        assert not logits.requires_grad


def test_craft_without_a_generator_starts_at_the_image():
    model, x, y, _ = linear_problem(3, seed=0, n=20)
    threat, loss = ThreatModel("l2", 0.1), cross_entropy_against(y)
    gradient, _, _ = input_gradient(model, x, loss)
    step = craft(model, x, loss, threat=threat, steps=8, generator=None)
    first = threat.ascend(x, gradient, step=4 * 0.1 / 8)
    one = craft(model, x, loss, threat=ThreatModel("l2", 0.1 / 4), steps=1, generator=None)
    assert torch.allclose(one, threat.ascend(x, gradient, step=0.1 / 4), atol=1e-6)
    assert not torch.allclose(step, first, atol=1e-3)
    assert torch.equal(step, craft(model, x, loss, threat=threat, steps=8, generator=None))
