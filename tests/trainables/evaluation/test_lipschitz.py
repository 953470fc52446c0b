"""The Lipschitz estimate: closed forms and invariances."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from helpers.networks.toy_problems import linear
from torch import nn

from trainables.attacks.threat import Ascent, ThreatModel
from trainables.evaluation import lipschitz
from trainables.evaluation.lipschitz import MIN_DISTANCE, local_lipschitz
from trainables.models.modes import mode

SHAPE = (1, 3, 4)
LINF, L2 = ThreatModel("linf", 0.1), ThreatModel("l2", 0.2)


def images(n: int = 20, seed: int = 0) -> torch.Tensor:
    return 0.3 + 0.4 * torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed))


def weights(classes: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(classes, 12, generator=torch.Generator().manual_seed(seed))


def exact(matrix: torch.Tensor, norm: str) -> float:
    """Return the Lipschitz constant of x -> W x: linf to l1 by brute force over signs, l2 to l2 by singular values."""
    matrix = matrix.double()
    if norm == "l2":
        return torch.linalg.matrix_norm(matrix, 2).item()
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=len(matrix))), dtype=torch.float64)
    return (signs @ matrix).abs().sum(1).max().item()


def smooth_net(seed: int = 0, classes: int = 3) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, classes))


def estimate(model, x=None, *, threat=LINF, steps=20, restarts=2, seed=0, labels=None):
    x = images() if x is None else x
    labels = torch.arange(len(x)) % 2 if labels is None else labels
    return local_lipschitz(model, x, labels, ascent=Ascent(threat, steps, restarts), seed=seed)


@pytest.mark.parametrize("threat", [LINF, L2], ids=lambda t: t.norm)
@pytest.mark.parametrize("classes", [2, 3, 6, 12, 14])
@pytest.mark.parametrize("seed", range(2))
def test_linear_closed_form_is_reached_and_never_exceeded(threat, classes, seed):
    matrix = weights(classes, seed)
    constant = exact(matrix, threat.norm)
    found = estimate(linear(matrix), images(8), threat=threat, steps=5, restarts=1)
    # Values at the fp32 witnesses are computed in float64, so the closed form holds up to its round-off.
    assert (found.raw <= constant * (1 + 1e-12)).all()
    assert (found.raw >= constant * (1 - 1e-3)).all()


def curved_net(seed: int) -> nn.Module:
    """Return a ReLU network of two pixels with many kinks."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, (2, 3, 5, 10)[seed % 4])]
        for layer, scale in zip(layers[::2], (4.5, 1.5, 1.5), strict=True):
            nn.init.normal_(layer.weight, std=scale / layer.in_features**0.5)
            nn.init.normal_(layer.bias, std=0.5)
    return nn.Sequential(nn.Flatten(), *layers)


def test_far_points_find_most_of_what_the_linearisation_misses(monkeypatch):
    """In two dimensions the largest ratio is known from a fine grid of the ball; few estimates are below 0.9 of it."""
    axis = torch.linspace(-1, 1, 41, dtype=torch.float64)
    moves = LINF.epsilon * torch.cartesian_prod(axis, axis)
    moves = moves[moves.abs().amax(1) >= MIN_DISTANCE]
    shares = {0: [], lipschitz.FAR_POINTS: []}
    for seed in range(8):
        model, x = curved_net(seed), torch.rand(40, 1, 1, 2, generator=torch.Generator().manual_seed(seed))
        exact_model, centres = copy.deepcopy(model).double(), x.double().flatten(1)[:, None]
        near = (centres + moves).clamp(0, 1)
        with torch.no_grad():
            changes = (exact_model(near.flatten(0, 1)).unflatten(0, (40, -1)) - exact_model(centres)[:, None]).abs()
        truth = (changes.sum(2) / (near - centres).abs().amax(2).clamp_min(MIN_DISTANCE)).amax(1)
        for far_points, values in shares.items():
            monkeypatch.setattr(lipschitz, "FAR_POINTS", far_points)
            values.append(estimate(model, x, seed=seed).raw / truth)
    without, few = (torch.cat(values) for values in shares.values())
    assert (few < 0.9).double().mean() < 0.8 * (without < 0.9).double().mean()
    assert few.mean() > without.mean() > 0.9


@pytest.mark.parametrize("threat", [LINF, L2], ids=lambda t: t.norm)
def test_scale_free_form_of_a_linear_model(threat):
    matrix, x = weights(4), images()
    labels = torch.arange(len(x)) % 4
    logits = linear(matrix).double()(x.double()).detach()
    wrong = [k != y for y in labels for k in range(4)]
    margins = (logits.gather(1, labels[:, None]) - logits).abs().flatten()[torch.tensor(wrong)]
    expected = exact(matrix.double() - matrix.double().mean(0), threat.norm) / margins.mean().item()
    found = estimate(linear(matrix), x, threat=threat, steps=5, restarts=1, labels=labels)
    assert found.mean_margin == pytest.approx(margins.mean().item())
    assert (found.scale_free <= expected * (1 + 1e-12)).all()
    assert (found.scale_free >= expected * (1 - 1e-3)).all()


@pytest.mark.parametrize("threat", [LINF, L2], ids=lambda t: t.norm)
def test_value_is_the_ratio_at_a_witness_inside_ball_and_box(threat):
    torch.manual_seed(0)
    x = torch.rand(30, *SHAPE).round(decimals=1)
    model = smooth_net()
    found = estimate(model, x, threat=threat)
    order = 1 if threat.norm == "linf" else 2
    model.double()
    for points, values, centre in (
        (found.points, found.raw, False),
        (found.points_scale_free, found.scale_free * found.mean_margin, True),
    ):
        distance = threat.distance(points.double(), x.double())
        assert (distance <= threat.epsilon + 6e-7).all()
        assert (distance >= MIN_DISTANCE - 1e-6).all()
        assert points.min() >= 0
        assert points.max() <= 1
        change = model(points.double()) - model(x.double())
        change = change - change.mean(1, keepdim=True) if centre else change
        assert torch.allclose(change.norm(p=order, dim=1) / distance, values, rtol=1e-12)


@pytest.mark.parametrize("threat", [LINF, L2], ids=lambda t: t.norm)
def test_scale_free_form_ignores_scale_and_shifts_that_depend_on_x(threat):
    class Changed(nn.Module):
        def __init__(self, scale: float, shift: float) -> None:
            super().__init__()
            self.net, self.scale, self.shift = smooth_net(), scale, shift

        def forward(self, x):
            return self.scale * self.net(x) + self.shift * (x.flatten(1).sum(1, keepdim=True)) ** 2

    plain, changed = (estimate(Changed(*c), threat=threat, restarts=4) for c in ((1.0, 0.0), (8.0, 0.5)))
    # Not bit for bit, as fp32 rounding of shifted logits may change a few ascent steps.
    assert torch.allclose(plain.scale_free, changed.scale_free, rtol=5e-3)
    assert (changed.raw > 5 * plain.raw).all()


def test_power_of_two_scaling_changes_no_bit_of_the_scale_free_form():
    class Scaled(nn.Module):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.net, self.scale = smooth_net(), scale

        def forward(self, x):
            return self.scale * self.net(x)

    plain, scaled = estimate(Scaled(1.0)), estimate(Scaled(64.0))
    assert torch.equal(plain.scale_free, scaled.scale_free)
    assert torch.equal(64 * plain.raw, scaled.raw)


def test_constant_network_has_constant_zero_and_no_scale_free_form():
    found = estimate(linear(torch.zeros(3, 12)))
    assert torch.equal(found.raw, torch.zeros(20, dtype=torch.float64))
    assert found.scale_free is None


def test_constant_logits_with_a_margin_are_zero_in_both_forms():
    found = estimate(linear(torch.zeros(3, 12), torch.tensor([1.0, 2.0, 4.0])))
    assert torch.equal(found.scale_free, torch.zeros(20, dtype=torch.float64))


def test_more_restarts_never_lower_the_estimate():
    """The first restarts are the same for any number of them; the tolerance is for witnesses selected in fp32."""
    x = torch.rand(40, 1, 1, 2, generator=torch.Generator().manual_seed(0))
    few, many = (estimate(curved_net(0), x, threat=ThreatModel("linf", 0.3), restarts=restarts) for restarts in (2, 6))
    assert (many.raw >= few.raw * (1 - 1e-4)).all()
    assert (many.raw > few.raw).any()


def test_finds_the_largest_slope_at_a_small_distance():
    """The function is steep near x and flat further out: only a search at every scale finds the slope of 50."""

    class Bump(nn.Module):
        def forward(self, x):
            offset = (x - 0.5).flatten(1).sum(1, keepdim=True) / 12
            return torch.cat([torch.tanh(200 * offset) * 0.25, torch.zeros_like(offset)], 1)

    found = estimate(Bump(), torch.full((4, *SHAPE), 0.5))
    assert (found.raw > 45).all()
    assert (found.raw <= 50).all()


def test_estimate_does_not_change_the_model_or_depend_on_global_state():
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5), smooth_net()).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = estimate(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad and p.dtype == torch.float32 for p in model.parameters())
    torch.manual_seed(2)
    with mode(model):
        second = estimate(model)
    assert torch.equal(first.raw, second.raw)


def test_radius_zero_is_refused():
    with pytest.raises(ValueError, match="`epsilon` must be positive"):
        estimate(smooth_net(), threat=ThreatModel("linf", 0.0))
