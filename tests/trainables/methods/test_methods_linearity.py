"""Gradient and local linearity regularisation on losses that are linear or quadratic in x, and under dropout."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers.networks.steps import make_step, network, run
from torch import Tensor, nn

from trainables.attacks.losses import cross_entropy
from trainables.attacks.threat import ThreatModel
from trainables.methods.base import build_method
from trainables.models.modes import frozen_statistics
from trainables.seeding import generator, seeded

EPSILON = 0.1
SLOPE = torch.randn(64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class ExactLoss(nn.Module):
    """Logits (0, log(exp(q) - 1)): cross-entropy of label 0 is q = 20 + slope.(m*x) + bend/2 |x|^2 with a mask m."""

    def __init__(self, *, bend: float = 0.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.slope = nn.Parameter(SLOPE.clone())
        self.bend = nn.Parameter(torch.tensor(bend, dtype=torch.float64))
        self.dropout = nn.Dropout(dropout)

    def q(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return 20 + self.dropout(flat) @ self.slope + self.bend / 2 * flat.square().sum(1)

    def forward(self, x: Tensor) -> Tensor:
        q = self.q(x)
        return torch.stack([torch.zeros_like(q), q + torch.log(-torch.expm1(-q))], dim=1)


def images(count: int = 6) -> Tensor:
    """Return images away from the box's faces, so that only the ball constrains."""
    draws = torch.Generator().manual_seed(3)
    return 0.2 + 0.6 * torch.rand(count, 1, 8, 8, generator=draws, dtype=torch.float64)


def exact_step(model: nn.Module, method, **changes):
    x = images()
    return make_step(model, method, x=x, y=torch.zeros(len(x), dtype=torch.int64), **changes)


def test_the_loss_is_the_stated_quadratic():
    x = images()
    for model in (ExactLoss(), ExactLoss(bend=0.7)):
        expected = 20 + x.flatten(1) @ SLOPE + float(model.bend.detach()) / 2 * x.flatten(1).square().sum(1)
        assert torch.allclose(cross_entropy(model(x), torch.zeros(6, dtype=torch.int64)), expected, rtol=1e-12)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("bend", [0.0, 0.7])
def test_gradient_regularization_by_hand(norm, bend):
    """Along d the loss rises by h*g.d + h^2/2 bend |d|^2; on a linear loss the penalty is g's dual norm, squared."""
    method = build_method("gradient_regularization", {"lambda": 0.8, "h": 0.05})
    terms = method(exact_step(ExactLoss(bend=bend), method, norm=norm))
    gradient = SLOPE + bend * images().flatten(1)
    direction = gradient.sign() if norm == "linf" else gradient / gradient.norm(dim=1, keepdim=True)
    rise = (gradient * direction).sum(1) + 0.05 / 2 * bend * direction.square().sum(1)
    assert torch.allclose(terms.parts["squared_gradient"], rise**2, rtol=1e-9)
    assert torch.allclose(terms.total, terms.parts["clean"] + 0.4 * rise**2, rtol=1e-9)
    if bend == 0:
        dual = SLOPE.abs().sum() if norm == "linf" else SLOPE.norm()
        assert torch.allclose(terms.parts["squared_gradient"], (dual**2).expand(6), rtol=1e-9)


def test_gradient_regularization_does_not_differentiate_its_direction():
    """The derivative of the penalty by bend, with d fixed, by hand; in l2 d depends on bend."""
    method, model = build_method("gradient_regularization", {"lambda": 2.0, "h": 0.05}), ExactLoss(bend=0.7)
    step = exact_step(model, method, norm="l2")
    (derivative,) = torch.autograd.grad(method(step).parts["squared_gradient"].sum(), model.bend)
    x = step.x.flatten(1)
    gradient = SLOPE + 0.7 * x
    direction = gradient / gradient.norm(dim=1, keepdim=True)
    rise = (gradient * direction).sum(1) + 0.05 / 2 * 0.7
    assert torch.allclose(derivative, (2 * rise * ((x * direction).sum(1) + 0.05 / 2)).sum(), rtol=1e-8)


@pytest.mark.parametrize("bend", [0.7, -0.7])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_locally_linear_by_hand(norm, bend):
    """On q the deviation at delta is bend/2 |delta|^2: ascent moves straight from the start to the ball's boundary."""
    method, model = build_method("locally_linear", {"lambda": 4.0, "mu": 3.0}), ExactLoss(bend=bend)
    step = exact_step(model, method, norm=norm, attack_steps=7)
    terms = method(step)
    start = ThreatModel(norm, EPSILON).random_start(step.x, generator=generator(0, "craft")) - step.x
    start = start.flatten(1)
    delta = EPSILON * (start.sign() if norm == "linf" else start / start.norm(dim=1, keepdim=True))
    x = step.x.flatten(1)
    gamma = abs(bend) / 2 * delta.square().sum(1)
    linear = (delta * (SLOPE + bend * x)).sum(1)
    assert torch.allclose(terms.parts["nonlinearity"], gamma, rtol=1e-6)
    assert torch.allclose(terms.parts["linear_change"], linear.abs(), rtol=1e-6)
    assert torch.allclose(terms.total, terms.parts["clean"] + 4 * gamma + 3 * linear.abs(), rtol=1e-6)
    # If g were fixed, the derivative of gamma would contain delta.x too.
    (derivative,) = torch.autograd.grad(terms.total.sum(), model.bend)
    curved = delta.square().sum(1) / 2 * (1 if bend > 0 else -1)
    expected = x.square().sum(1) / 2 + 4 * curved + 3 * linear.sign() * (delta * x).sum(1)
    assert torch.allclose(derivative, expected.sum(), rtol=1e-6)


def test_a_linear_loss_is_locally_linear():
    method = build_method("locally_linear", {})
    terms = method(exact_step(ExactLoss(), method))
    assert terms.parts["nonlinearity"].max() < 1e-12
    assert (terms.parts["linear_change"] <= EPSILON * SLOPE.abs().sum()).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_as_run_by_hand(norm):
    """The published code's loop, rewritten in NumPy."""
    method = build_method("locally_linear", {"variant": "as_run", "lambda": 4.0, "mu": 3.0})
    step = exact_step(ExactLoss(bend=0.7), method, norm=norm)
    terms = method(step)
    x, slope, order = step.x.flatten(1).numpy(), SLOPE.numpy(), np.inf if norm == "linf" else 2
    draws = generator(0, "craft")
    delta = 0.001 * torch.randn(step.x.shape, generator=draws, dtype=torch.float64).flatten(1).numpy()
    for _ in range(2):
        gradient = slope + 0.7 * (x + delta)
        delta = delta + EPSILON / 2 * gradient / np.linalg.norm(gradient, order, axis=1)[:, None]
        delta = np.clip(x + delta, 0, 1) - x
        delta *= np.minimum(1, EPSILON / np.linalg.norm(delta, order, axis=1))[:, None]
    moved = 20 + (x + delta) @ slope + 0.35 * np.square(x + delta).sum(1)
    assert np.allclose(terms.parts["adversarial"].detach().numpy(), moved)
    assert torch.allclose(terms.total, terms.parts["clean"] + 4 * terms.parts["adversarial"])


def test_as_run_and_published_differ_as_documented():
    def terms(**settings):
        method = build_method("locally_linear", {k: v for k, v in settings.items() if k != "attack_steps"})
        steps = {"attack_steps": settings["attack_steps"]} if "attack_steps" in settings else {}
        return run(method, network(), **steps)

    published, as_run = terms(variant="published"), terms(variant="as_run")
    assert torch.equal(published.parts["clean"], as_run.parts["clean"])
    assert set(published.parts) == {"clean", "nonlinearity", "linear_change"}
    assert set(as_run.parts) == {"clean", "adversarial"}
    # mu and the number of attack steps affect the published loss only.
    for change in ({"mu": 9.0}, {"attack_steps": 6}):
        assert torch.equal(terms(variant="as_run", **change).total, as_run.total)
        assert not torch.equal(terms(variant="published", **change).total, published.total)
    assert set(terms(variant="published", **{"lambda": 0.0}).parts) == {"clean", "linear_change"}
    assert set(terms(variant="as_run", **{"lambda": 0.0}).parts) == {"clean"}
    for variant in ("published", "as_run"):
        assert set(terms(variant=variant, **{"lambda": 0.0, "mu": 0.0}).parts) == {"clean"}


def test_as_run_replaces_a_zero_gradient_with_noise():
    method = build_method("locally_linear", {"variant": "as_run"})
    model = ExactLoss()
    with torch.no_grad():
        model.slope.zero_()
    terms = method(exact_step(model, method))
    assert terms.total.isfinite().all()


def masks(count: int, rate: float) -> Tensor:
    """Return the masks that `ExactLoss` draws first from the stream."""
    with seeded(0, "dropout"):
        return nn.functional.dropout(torch.ones(count, 64, dtype=torch.float64), rate)


def test_gradient_regularization_penalises_the_gradient_under_the_drawn_mask():
    """The loss is linear for each mask, so the penalty is the masked slope's squared norm and nothing else."""
    method = build_method("gradient_regularization", {"h": 0.001})
    with seeded(0, "dropout"):
        terms = method(exact_step(ExactLoss(dropout=0.4), method))
    expected = (masks(6, 0.4) * SLOPE).abs().sum(1) ** 2
    assert torch.allclose(terms.parts["squared_gradient"], expected, rtol=1e-6)
    assert expected.std() > 1


def test_locally_linear_sees_no_nonlinearity_in_dropout_noise():
    method = build_method("locally_linear", {})
    for dropout in ("eval", "train"):
        with seeded(0, "dropout"):
            terms = method(exact_step(ExactLoss(dropout=0.4), method, dropout=dropout))
        assert terms.parts["nonlinearity"].max() < 1e-12
    start = ThreatModel("linf", EPSILON).random_start(images(), generator=generator(0, "craft")) - images()
    assert terms.parts["linear_change"].max() <= (EPSILON * (masks(6, 0.4) * SLOPE).abs().sum(1)).max()
    assert start.abs().max() <= EPSILON


@pytest.mark.parametrize("method", ["gradient_regularization", "locally_linear"])
def test_variance_over_masks_equals_that_of_the_masked_networks(method):
    """At fixed weights, over 60 masks, the penalty has the same variance as that quantity of each masked network."""
    values, expected, delta = [], [], None
    built = build_method(method, {"h": 0.01} if method == "gradient_regularization" else {"lambda": 0.0})
    for number in range(60):
        with seeded(number, "dropout"):
            terms = built(exact_step(ExactLoss(dropout=0.4), built))
        with seeded(number, "dropout"):
            mask = nn.functional.dropout(torch.ones(6, 64, dtype=torch.float64), 0.4)
        if method == "gradient_regularization":
            values.append(terms.parts["squared_gradient"].detach())
            expected.append((mask * SLOPE).abs().sum(1) ** 2)
        else:
            delta = crafted_delta(built) if delta is None else delta
            values.append(terms.parts["linear_change"].detach())
            expected.append((delta * mask * SLOPE).sum(1).abs())
    values, expected = torch.stack(values).var(0), torch.stack(expected).var(0)
    assert torch.allclose(values, expected, rtol=1e-6)
    assert (expected > 0).all()


def crafted_delta(method) -> Tensor:
    """Return the delta crafted in eval mode, where no mask is drawn."""
    from trainables.methods.locally_linear import _least_linear

    step = exact_step(ExactLoss(dropout=0.4), method)
    return _least_linear(step, step.threat).flatten(1)


@pytest.mark.parametrize("bn", ["eval", "train"])
@pytest.mark.parametrize("dropout", ["eval", "train"])
def test_both_passes_share_mask_and_batch_statistics(bn, dropout):
    """With x' close to x the two passes agree only if they share mask and batch statistics."""
    near = run(build_method("locally_linear", {}), network(), epsilon=1e-6, bn=bn, dropout=dropout)
    assert near.parts["nonlinearity"].max() < 1e-5
    model, method = network(), build_method("gradient_regularization", {"h": 1e-3})
    step = make_step(model, method)
    with seeded(0, "dropout"):
        terms = method(step)
    x = step.x.clone().requires_grad_()
    with seeded(0, "dropout"), frozen_statistics(model):
        (gradient,) = torch.autograd.grad(cross_entropy(model(x), step.y).sum(), x)
    # The finite difference moves the whole batch, and batch norm couples its images: the sums agree to first order.
    norms = terms.parts["squared_gradient"].detach().sqrt().sum()
    assert float(norms) == pytest.approx(float(gradient.abs().sum()), rel=0.1)


@pytest.mark.parametrize("method", ["trades", "robust_self_training"])
def test_trades_and_self_training_draw_a_mask_for_each_pass(method):
    """As in the authors' code: even with x' at x the passes differ, but only by dropout."""

    def difference(rate: float) -> float:
        model = network()
        model[4].p = rate
        parts = run(build_method(method, {}), model, epsilon=1e-7).parts
        gap = parts["divergence"] if method == "trades" else parts["adversarial"] - parts["clean"]
        return float(gap.abs().max().detach())

    assert difference(0.0) < 1e-5
    assert difference(0.4) > 0.01


def test_robust_self_training_by_hand():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    method = build_method("robust_self_training", {"lambda": 0.5})
    step = make_step(model, method)
    terms = method(step)
    point = make_step(model, method).craft(lambda logits: cross_entropy(logits, step.y))
    expected = cross_entropy(model(step.x), step.y) + 0.5 * cross_entropy(model(point), step.y)
    assert torch.allclose(terms.total, expected)
    assert (terms.parts["adversarial"] > terms.parts["clean"]).all()
    assert math.isclose(float(terms.weights["adversarial"]), 0.5)
