"""Certified bounds in cases with a known answer: linear models, radius 0, and networks that must be refused."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from helpers.networks.certified import BUDGETS, SHAPE, logit_bounds, random_images, random_net, randomised
from helpers.networks.toy_problems import linear
from torch import nn

from trainables.attacks.threat import ThreatModel
from trainables.certified.certificate import certify
from trainables.certified.translation import UnsupportedModuleError
from trainables.models import build_model
from trainables.models.normalize import Normalize
from trainables.seeding import generator, seeded

LINF = ThreatModel("linf", 0.1)


def matrix(classes: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(classes, 25, generator=torch.Generator().manual_seed(seed))


def signs(classes: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product([-1.0, 1.0], repeat=classes)), dtype=torch.float64)


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("inside", [True, False])
def test_linear_model_is_exact_in_linf(classes, budget, inside):
    """The margin's worst point moves every pixel against its weight as far as ball and box allow."""
    weights, images, epsilon = matrix(classes), random_images(6), 0.1
    images = 0.3 + 0.4 * images if inside else images
    model, labels = linear(weights), torch.arange(6) % classes
    proved = certify(model, images, labels, threat=ThreatModel("linf", epsilon), budget=budget)
    constant = (signs(classes) @ weights.double()).abs().sum(1).max().expand(6)
    assert torch.allclose(proved.lipschitz_upper, constant, rtol=1e-8)
    assert (proved.lipschitz_upper >= constant).all()
    x, weights = images.double().flatten(1), weights.double()
    rows = weights[labels][:, None] - weights
    down, up = x - (x - epsilon).clamp_min(0), (x + epsilon).clamp_max(1) - x
    at_worst = torch.where(rows > 0, down[:, None], up[:, None]) * rows.abs()
    margins = (rows * x[:, None] - at_worst).sum(2)
    margins[torch.arange(6), labels] = torch.inf
    # Room for float32: 27 terms of round-off on sums of magnitude 20, and points rounded out of the ball.
    assert torch.allclose(proved.margin, margins.amin(1), atol=2e-4)
    assert (proved.margin <= margins.amin(1)).all()
    assert torch.equal(proved.certified_correct, margins.amin(1) > 0) or (margins.amin(1).abs() < 2e-4).any()


@pytest.mark.parametrize("budget", BUDGETS)
def test_linear_model_is_exact_in_l2(budget):
    weights, images = matrix(4), 0.3 + 0.4 * random_images(6)
    model, labels = linear(weights), torch.arange(6) % 4
    proved = certify(model, images, labels, threat=ThreatModel("l2", 0.2), budget=budget)
    constant = torch.linalg.matrix_norm(weights.double(), 2).expand(6)
    assert torch.allclose(proved.lipschitz_upper, constant, rtol=1e-8)
    assert (proved.lipschitz_upper >= constant).all()
    rows = weights.double()[labels][:, None] - weights.double()
    margins = (rows * images.double().flatten(1)[:, None]).sum(2) - 0.2 * rows.norm(dim=2)
    margins[torch.arange(6), labels] = torch.inf
    assert torch.allclose(proved.margin, margins.amin(1), atol=3e-4)


def test_consecutive_linear_layers_are_one_linear_map():
    """Convolution, batch norm and averages without ReLU: the constant is that of the composed matrix."""
    with seeded(3):
        stack = randomised(
            nn.Sequential(
                Normalize([0.4], [0.3]), nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.AvgPool2d(2), nn.Flatten(),
                nn.Linear(12, 3),
            )
        ).double()  # fmt: skip
    images, labels = random_images(4), torch.zeros(4, dtype=torch.int64)
    jacobian = torch.autograd.functional.jacobian(lambda x: stack(x[None])[0], images[0].double()).flatten(1)
    proved = certify(stack.float(), images, labels, threat=ThreatModel("linf", 0.1))
    constant = (signs(3) @ jacobian).abs().sum(1).max().item()
    assert proved.lipschitz_upper.tolist() == pytest.approx([constant] * 4, rel=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("seed", range(8))
def test_radius_zero_gives_the_logits_and_the_norm_of_the_jacobian(seed, norm):
    # Strictly inside the box, as equal pixels tie in a pooling window, and a tie has more than one Jacobian.
    model, images = random_net(seed).double(), 0.25 + 0.5 * torch.rand(4, *SHAPE, generator=generator(seed))
    labels = model(images.double()).argmax(1)
    jacobians = [torch.autograd.functional.jacobian(lambda x: model(x[None])[0], x).flatten(1) for x in images.double()]
    if norm == "linf":
        expected = [(signs(len(j)) @ j).abs().sum(1).max().item() for j in jacobians]
    else:
        expected = [torch.linalg.matrix_norm(j, 2).item() for j in jacobians]
    threat = ThreatModel(norm, 0.0)
    proved = certify(model, images, labels, threat=threat)
    assert proved.lipschitz_upper.tolist() == pytest.approx(expected, rel=1e-8)
    lower, upper = logit_bounds(model, images, threat)
    logits = model(images.double())
    assert ((lower <= logits) & (logits <= upper)).all()
    assert torch.allclose(lower, upper, atol=1e-3)
    assert proved.certified_correct.all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("seed", range(8))
def test_bounds_grow_with_the_radius(seed, norm):
    model, images = random_net(seed), random_images(4, seed)
    labels = model(images).argmax(1)
    proved = [
        certify(model, images, labels, threat=ThreatModel(norm, epsilon), budget=0.0)
        for epsilon in (0.0, 0.01, 0.03, 0.1, 0.3)
    ]
    for smaller, larger in itertools.pairwise(proved):
        # Rows go through the middle of each slope's range. As these are not nested, the bound is only roughly monotone.
        assert (smaller.lipschitz_upper <= 1.05 * larger.lipschitz_upper).all()
    bounds = [logit_bounds(model, images, ThreatModel(norm, e), budget=0.0) for e in (0.0, 0.01, 0.03, 0.1, 0.3)]
    for (lower, upper), (wider_lower, wider_upper) in itertools.pairwise(bounds):
        assert (wider_lower <= lower).all()
        assert (upper <= wider_upper).all()


def test_a_contested_maximum_is_bounded_by_its_highest_candidate():
    """Sums of pixel pairs: 1 +- 0.1 where the box cuts (1, 0), 1 +- 0.2 for (0.5, 0.5). The maximum is at most 1.2."""
    pairs, last = nn.Conv2d(1, 1, (1, 2), stride=(1, 2), bias=False), nn.Linear(1, 2)
    for layer, values in ((pairs, [1.0, 1.0]), (last, [-1.0, 0.0])):
        layer.weight.data = torch.tensor(values).reshape(layer.weight.shape)
    last.bias.data.zero_()
    model = nn.Sequential(pairs, nn.MaxPool2d((1, 2)), nn.Flatten(), last)
    images = torch.tensor([1.0, 0.0, 0.5, 0.5]).reshape(1, 1, 1, 4)
    proved = certify(model, images, torch.tensor([0]), threat=LINF)
    assert proved.margin.item() == pytest.approx(-1.2, abs=1e-5)
    # One pair moves by 2 per unit of distance, whichever wins.
    assert proved.lipschitz_upper.item() == pytest.approx(2.0, rel=1e-8)


def test_relaxations_tighten():
    model, images = random_net(7), random_images(8)
    labels = model(images).argmax(1)
    plain, tight = (certify(model, images, labels, threat=ThreatModel("linf", 0.1), budget=b) for b in BUDGETS)
    assert tight.lipschitz_upper.mean() < 0.95 * plain.lipschitz_upper.mean()
    assert tight.margin.mean() > plain.margin.mean()


def test_examples_are_bounded_independently_of_their_batch():
    model, images = random_net(3), random_images(70)
    labels = model(images).argmax(1)
    threat = ThreatModel("linf", 0.05)
    together = certify(model, images, labels, threat=threat)
    alone = [certify(model, images[i : i + 1], labels[i : i + 1], threat=threat) for i in (0, 31, 32, 69)]
    for name in ("margin", "lipschitz_upper"):
        expected = torch.cat([getattr(proved, name) for proved in alone])
        assert torch.allclose(getattr(together, name)[[0, 31, 32, 69]], expected, rtol=1e-12)


def test_bounds_for_more_than_the_most_sign_classes_are_sound():
    weights, images = matrix(14), random_images(3)
    proved = certify(linear(weights), images, torch.zeros(3, dtype=torch.int64), threat=ThreatModel("linf", 0.1))
    constant = (signs(14) @ weights.double()).abs().sum(1).max()
    assert (proved.lipschitz_upper >= constant).all()
    assert (proved.lipschitz_upper <= weights.double().abs().sum() * (1 + 1e-8)).all()


def test_no_images_give_an_empty_certificate():
    proved = certify(random_net(0), random_images(0), torch.empty(0, dtype=torch.int64), threat=LINF)
    assert [len(getattr(proved, f.name)) for f in dataclasses.fields(proved)] == [0, 0, 0]


def test_nan_weights_certify_nothing():
    model = linear(torch.full((3, 25), torch.nan))
    proved = certify(model, random_images(2), torch.zeros(2, dtype=torch.int64), threat=ThreatModel("linf", 0.1))
    assert not proved.certified_correct.any()
    assert proved.lipschitz_upper.isinf().all()


def test_model_is_unchanged():
    model = random_net(3).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    certify(model, random_images(2), torch.zeros(2, dtype=torch.int64), threat=ThreatModel("linf", 0.1))
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def hooked() -> nn.Module:
    layer = nn.Linear(25, 3)
    layer.register_forward_hook(lambda module, args, output: 2 * output)
    return layer


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Tanh(), "got Tanh at `1`"),
        (nn.Sequential(nn.Flatten(), nn.Sequential(Doubled(25, 3))), r"got Doubled at `1.1.0`"),
        (nn.Sequential(nn.Flatten(), hooked()), r"got Linear at `1.1`, which has hooks"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(5, 3)), "ParametrizedLinear"),
        (nn.Conv2d(1, 2, 3, padding_mode="circular", padding=1), "pads in mode 'circular'"),
        (nn.MaxPool2d(2, ceil_mode=True), "ceil_mode"),
        (nn.AvgPool2d(3, padding=1, count_include_pad=False), "padding out of its averages"),
        (nn.BatchNorm2d(1, track_running_stats=False), "no running statistics"),
        (nn.Flatten(start_dim=2), "keeps some dimensions"),
        (nn.ReLU(), "not one vector of logits"),
    ],
)
def test_unsupported_modules_are_named(module, message):
    with pytest.raises(UnsupportedModuleError, match=message):
        certify(nn.Sequential(Normalize([0.5], [0.5]), module), random_images(1), torch.tensor([0]), threat=LINF)


def test_residual_network_is_refused():
    model = build_model(
        "preact_resnet18", image_shape=(3, 32, 32), num_classes=10, dropout=0.0, mean=[0.5] * 3, std=[0.2] * 3
    )
    with pytest.raises(UnsupportedModuleError, match="at `network"):
        certify(model, torch.rand(1, 3, 32, 32), torch.tensor([0]), threat=ThreatModel("linf", 0.01))
