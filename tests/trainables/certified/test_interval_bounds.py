"""Interval bounds with gradients: never left, exact for one linear layer, and differentiated correctly."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.networks.certified import SHAPE, random_images, random_net
from helpers.networks.steps import network
from helpers.networks.toy_problems import linear
from torch import nn
from torch.nn.functional import cross_entropy

from trainables.attacks.threat import ThreatModel
from trainables.certified.certificate import certify
from trainables.certified.intervals import worst_case_logits
from trainables.certified.translation import UnsupportedModuleError, live_layers
from trainables.models.modes import recorded_statistics

NORMS = pytest.mark.parametrize("norm", ["linf", "l2"])


def worst(model, images, labels, threat, *, statistics=()):
    layers = live_layers(model, tuple(images.shape[1:]), statistics=dict(statistics))
    return worst_case_logits(layers, images, labels, threat=threat)


def differences(logits, labels):
    return logits - logits.gather(1, labels[:, None])


@NORMS
@pytest.mark.parametrize("seed", range(16))
def test_random_points_never_leave_the_bounds(seed, norm):
    model, images = random_net(seed).double(), random_images(3, seed).double()
    threat = ThreatModel(norm, (0.03, 0.2)[seed % 2] * (1 if norm == "linf" else 3))
    labels = model(images).argmax(1)
    bounds = worst(model, images, labels, threat)
    assert (bounds.gather(1, labels[:, None]) == 0).all()
    draws = torch.Generator().manual_seed(seed)
    reached = torch.full_like(bounds, -torch.inf)
    for _ in range(50):
        noise = torch.randn(images.shape, generator=draws, dtype=torch.float64)
        for move in (noise, 9 * noise.sign()):
            point = threat.project(images + move, images)
            reached = torch.maximum(reached, differences(model(point), labels))
    assert (reached <= bounds + 1e-12).all()


@NORMS
def test_one_linear_layer_is_bounded_exactly(norm):
    """In linf where the box cuts the ball too; in l2 inside the box, by the norm of the rows' differences."""
    weights = torch.randn(4, 25, generator=torch.Generator().manual_seed(0)).double()
    images = random_images(6).double() if norm == "linf" else 0.3 + 0.4 * random_images(6).double()
    labels, epsilon = torch.arange(6) % 4, 0.1
    model = linear(weights.float()).double()
    rows = weights - weights[labels][:, None]
    x = images.flatten(1)[:, None]
    if norm == "linf":
        corner = torch.where(rows > 0, (x + epsilon).clamp_max(1), (x - epsilon).clamp_min(0))
        exact = (rows * corner).sum(2)
    else:
        exact = (rows * x).sum(2) + epsilon * rows.norm(dim=2)
    found = worst(model, images, labels, ThreatModel(norm, epsilon))
    assert torch.allclose(found, exact, rtol=1e-6, atol=1e-6)


@NORMS
@pytest.mark.parametrize("seed", range(8))
def test_certificates_are_at_least_as_tight(seed, norm):
    model, images, threat = random_net(seed), random_images(4, seed), ThreatModel(norm, 0.05)
    labels = model(images).argmax(1)
    bounds = worst(copy.deepcopy(model).double(), images.double(), labels, threat)
    margin = -bounds.scatter(1, labels[:, None], -torch.inf).amax(1)
    proved = certify(model, images, labels, threat=threat, budget=0.0)
    assert (proved.margin >= margin - 1e-4 * (1 + margin.abs())).all()  # room for float32's rounding


@NORMS
@pytest.mark.parametrize("seed", [1, 3, 4, 6])
def test_gradients_agree_with_finite_differences(seed, norm):
    """In float64, batch norm's weights and batch statistics included, on networks of every kind of layer."""
    model, images = random_net(seed).double().train(), random_images(5, seed).double()
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.eval()
    labels = torch.arange(5) % model(images).shape[1]
    threat = ThreatModel(norm, 0.02)

    def loss():
        with recorded_statistics(model) as statistics:
            model(images)
        return cross_entropy(worst(model, images, labels, threat, statistics=statistics), labels)

    parameters = list(model.parameters())
    gradients = torch.autograd.grad(loss(), parameters, materialize_grads=True)
    draws = torch.Generator().manual_seed(seed)
    directions = [torch.randn(each.shape, generator=draws, dtype=torch.float64) for each in parameters]
    slope = sum((gradient * direction).sum() for gradient, direction in zip(gradients, directions, strict=True))
    step, values = 1e-6, []
    with torch.no_grad():
        for sign in (1, -2):
            for each, direction in zip(parameters, directions, strict=True):
                each += sign * step * direction
            values.append(loss())
    assert slope.item() == pytest.approx(((values[0] - values[1]) / (2 * step)).item(), rel=1e-4, abs=1e-7)


@NORMS
def test_gradients_of_one_linear_layer_are_finite(norm):
    """In l2 the row of the label itself is zero, where the length of a row has no gradient."""
    model, labels = linear(torch.randn(4, 25, generator=torch.Generator().manual_seed(0))), torch.arange(4)
    loss = cross_entropy(worst(model, random_images(4), labels, ThreatModel(norm, 0.1)), labels)
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(loss, list(model.parameters())))


@NORMS
def test_bounds_by_a_batchs_own_statistics_hold_for_the_pass_that_they_are_from(norm):
    """Without dropout; the running statistics, which the pass updates, give other bounds."""
    model, threat = network().double(), ThreatModel(norm, 0.05)
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(7)).double()
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    model[4].eval()
    point = threat.project(images + 0.05 * torch.randn(images.shape, dtype=torch.float64).sign(), images)
    with recorded_statistics(model) as statistics:
        logits = model(point)
    bounds = worst(model, images, labels, threat, statistics=statistics)
    assert (differences(logits, labels) <= bounds + 1e-12).all()
    assert not torch.allclose(bounds, worst(model, images, labels, threat))
    with recorded_statistics(model.eval()) as none:
        model(point)
    assert none == {}


def test_dropout_is_left_out_of_the_bounds():
    model, images = random_net(5).train(), random_images(2)
    labels, threat = torch.tensor([0, 1]), ThreatModel("linf", 0.1)
    first = worst(model, images, labels, threat)
    assert torch.equal(first, worst(model.eval(), images, labels, threat))


def test_a_network_that_cannot_be_read_is_named():
    with pytest.raises(UnsupportedModuleError, match="got Sigmoid at `1`"):
        live_layers(nn.Sequential(nn.Linear(2, 2), nn.Sigmoid()), SHAPE, statistics={})
