"""The methods that train what is certified, against their formulas written out, and where their bounds come from."""

from __future__ import annotations

import pytest
import torch
from helpers.networks.certified import random_images, random_net
from helpers.networks.networks import build
from helpers.networks.steps import make_step, network, run
from helpers.networks.toy_problems import run as train
from helpers.networks.toy_problems import tiny_spec
from torch import nn
from torch.nn.functional import cross_entropy

from trainables.attacks.threat import ThreatModel
from trainables.certified.certificate import certify
from trainables.methods.base import build_method
from trainables.methods.extensions.mtl_ibp import RAMP
from trainables.spec import TrainingSpec
from trainables.training.batch_loss import loss_terms
from trainables.training.compiling import Compiled

NORMS = pytest.mark.parametrize("norm", ["linf", "l2"])
Y = torch.tensor([0, 1, 2, 0, 1, 2])


def two_layers() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3)).double()


def worst_by_hand(model: nn.Sequential, x: torch.Tensor, epsilon: float, norm: str) -> torch.Tensor:
    """Return z_k - z_y at the worst corner of the hidden units' intervals, one image and class at a time."""
    first, last = model[1], model[3]
    rows = []
    for image, label in zip(x.flatten(1), Y, strict=True):
        low, high = (image - epsilon).clamp_min(0), (image + epsilon).clamp_max(1)
        bounds = []
        for weights, bias in zip(first.weight, first.bias, strict=True):
            ends = [(weights * torch.where(weights * sign > 0, high, low)).sum() + bias for sign in (-1, 1)]
            if norm == "l2":
                centre, reach = (weights * image).sum() + bias, epsilon * weights.norm()
                ends = [torch.maximum(ends[0], centre - reach), torch.minimum(ends[1], centre + reach)]
            bounds.append([end.clamp_min(0) for end in ends])
        row = []
        for k in range(3):
            difference = last.weight[k] - last.weight[label]
            worst = sum(d * (ends[1] if d > 0 else ends[0]) for d, ends in zip(difference, bounds, strict=True))
            row.append(worst + last.bias[k] - last.bias[label])
        rows.append(torch.stack(row))
    return torch.stack(rows)


@NORMS
def test_mtl_ibp_is_its_formula(norm):
    model, alpha, epsilon, progress = two_layers(), 0.3, 0.1, 0.42
    x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    changes = {"norm": norm, "epsilon": epsilon, "x": x, "progress": progress}
    method = build_method("mtl_ibp", {"alpha": alpha})
    terms = run(method, model, **changes)
    plain = run(build_method("adversarial_training", {}), model, **changes)
    worst = worst_by_hand(model, x, epsilon * (progress / RAMP) ** 4, norm)
    expected = (1 - alpha) * plain.total + alpha * cross_entropy(worst, Y, reduction="none")
    torch.testing.assert_close(terms.total, expected)
    ours, theirs = (torch.autograd.grad(loss.mean(), list(model.parameters())) for loss in (terms.total, expected))
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("strength", [0.01, 0.5, 1.0])
def test_the_ramp_of_the_weights_leaves_the_loss_a_convex_combination(strength):
    """The ramp raises the radius and does not scale the whole loss."""
    model, spec = two_layers(), tiny_spec("mtl_ibp", train_epsilon=0.1)
    x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    given = {"spec": spec, "place": (0, 0), "strength": strength, "progress": 0.3}
    terms, plain = (
        loss_terms(build_method(*method), model, x, Y, **given)
        for method in (("mtl_ibp", {"alpha": 0.4}), ("adversarial_training", {}))
    )
    worst = cross_entropy(worst_by_hand(model, x, strength * 0.1 * 0.5**4, "linf"), Y, reduction="none")
    torch.testing.assert_close(terms.total, 0.6 * plain.total + 0.4 * worst)


@pytest.mark.parametrize(("progress", "power", "share"), [
    (0.0, 4.0, 0.0), (0.3, 4.0, 0.0625), (0.3, 1.0, 0.5), (0.6, 4.0, 1.0), (0.99, 1.0, 1.0),
])  # fmt: skip
def test_the_bounds_radius_rises_over_the_first_steps(progress, power, share):
    model, method = two_layers(), build_method("mtl_ibp", {"alpha": 1.0})
    x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    terms = run(method, model, x=x, progress=progress, bounds_power=power)
    worst = worst_by_hand(model, x, share * 0.1, "linf")
    torch.testing.assert_close(terms.total, cross_entropy(worst, Y, reduction="none"))


@NORMS
def test_with_batch_norm_and_dropout_the_bounds_are_of_the_pass_of_the_attacked_images(norm):
    """By the statistics of that batch and without dropout; no attacked point is worse than the bounds."""
    model, method = network(), build_method("mtl_ibp", {"alpha": 0.5})
    model[4].p = 0.0
    terms = run(method, model, norm=norm, progress=0.9)
    assert (terms.parts["adversarial"] <= terms.parts["bounds"] + 1e-5).all()
    assert model[1].num_batches_tracked == 1
    with_dropout = network()
    other = run(method, with_dropout, norm=norm, progress=0.9)
    torch.testing.assert_close(other.parts["bounds"], terms.parts["bounds"])
    assert not torch.allclose(other.parts["adversarial"], terms.parts["adversarial"])
    terms.total.mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_compiled_network_is_read_through():
    model = network()
    plain = run(build_method("mtl_ibp", {}), model, progress=0.5).total
    wrapped = Compiled(network())
    wrapped.compiles = False
    torch.testing.assert_close(run(build_method("mtl_ibp", {}), wrapped, progress=0.5).total, plain)


def test_training_by_bounds_makes_them_certify():
    common = {
        "train_epsilon": 0.06,
        "epsilon": 0.06,
        "certify": "ibp",
        "epochs": 12,
        "every": 12,
        "name": "mlp",
        "lr": 0.02,
    }
    rows = [
        train(tiny_spec(method, params=params, **common)).outcome().row
        for method, params in (("adversarial_training", {}), ("mtl_ibp", {"alpha": 0.1}))
    ]
    assert (rows[0]["val_certified_accuracy"] or 0.0) < 0.2
    assert 0.4 < rows[1]["val_certified_accuracy"] <= rows[1]["val_robust_accuracy"]
    assert TrainingSpec().clip_norm is not None  # its gradients are clipped unless that is turned off


@pytest.mark.parametrize(("tau", "offset"), [(1.0, 0.0), (5.0, 0.7)])
def test_large_margin_is_its_formula(tau, offset):
    """In logits of a network whose constant is unknown, and in input units of one whose constant is known."""
    method = build_method("large_margin", {"sharpness": tau, "offset": offset})
    known = build("lipschitz_cnn", (1, 8, 8), num_classes=3, dropout=0.0)
    for model, constant in ((random_net(0).float(), 1.0), (known, 5.0)):
        x = random_images(6) if constant == 1.0 else torch.rand(6, 1, 8, 8)
        labels = Y % model(x).shape[1]
        loss = method(make_step(model, method, x=x, y=labels)).total
        shifted = model(x) / constant
        shifted[range(6), labels] -= offset
        torch.testing.assert_close(loss, cross_entropy(tau * shifted, labels, reduction="none") / tau)


def test_a_margin_of_large_margin_is_the_certified_radius():
    model = build("lipschitz_cnn", (1, 8, 8), num_classes=3, dropout=0.0).eval()
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        top = (model(x) / 5.0).topk(2).values
        labels = model(x).argmax(1)
    radius = float((top[:, 0] - top[:, 1]).max()) / 2**0.5
    for share, certain in ((0.5, True), (1.01, False)):  # rounding takes a part of so small a margin
        proved = certify(model, x, labels, threat=ThreatModel("l2", share * radius)).certified_correct
        assert bool(proved.any()) == certain
