"""The network's Lipschitz constant is 1 for any weights, padding, pooling and size, and its certificates hold."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from helpers.networks.networks import build, images
from torch import nn

from trainables.attacks import square
from trainables.attacks.base import load_attack, run_attack
from trainables.attacks.threat import Ascent, ThreatModel
from trainables.certified.certificate import certified_correct, certify
from trainables.certified.global_margins import global_constant
from trainables.models.lipschitz_cnn import LipschitzLinear, NormPool2d, SllConv2d, SllLinear, Widen, rescaling
from trainables.models.normalize import Normalize
from trainables.seeding import seeded

L2 = ThreatModel("l2", 0.3)


def randomised(module: nn.Module, seed: int = 0, scale: float = 3.0) -> nn.Module:
    with seeded(seed):
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=scale)
    return module.double().eval()


def spectral_norms(module: nn.Module, shape: tuple[int, ...], points: int = 6) -> list[float]:
    """Return the largest singular value of the Jacobian at random points, by brute force."""
    draws = torch.Generator().manual_seed(1)
    norms = []
    for _ in range(points):
        x = 2 * torch.randn(1, *shape, generator=draws, dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(module, x)
        norms.append(torch.linalg.matrix_norm(jacobian.reshape(-1, x.numel()), 2).item())
    return norms


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: SllLinear(7, 12), (7,)),
        (lambda: SllLinear(12, 5), (12,)),
        (lambda: SllConv2d(2, 3), (2, 5, 4)),
        (lambda: SllConv2d(3, 2, kernel=5), (3, 4, 4)),
        (lambda: SllConv2d(1, 4, kernel=1), (1, 3, 3)),
        (lambda: SllConv2d(2, 3), (2, 1, 2)),
        (lambda: LipschitzLinear(9, 4), (9,)),
        (lambda: LipschitzLinear(3, 8), (3,)),
        (lambda: NormPool2d((2, 3)), (2, 5, 7)),
        (lambda: Widen(4), (2, 3, 3)),
    ],
)
def test_every_layer_is_1_lipschitz_for_random_weights(layer, shape, seed):
    norms = spectral_norms(randomised(layer(), seed), shape)
    assert max(norms) <= 1 + 1e-9
    assert max(norms) > 0.3  # not by being constant


def test_a_layer_is_what_the_paper_says():
    """x - 2 W diag(t) relu(W'x + b) with t_i = 1 / sum_j |W'W|_ij q_j / q_i, from an explicit W."""
    layer, shape = randomised(SllConv2d(2, 3), scale=0.5), (2, 4, 4)
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    transposed = torch.autograd.functional.jacobian(lambda v: layer.inner(v, layer.weight), x).reshape(48, 32)
    q = layer.log_q.exp()
    t = q / (nn.functional.conv2d(layer.weight, layer.weight, padding=2).abs().sum((2, 3)) @ q)
    t, bias = t.repeat_interleave(16), layer.bias.repeat_interleave(16)
    by_hand = x.flatten() - 2 * transposed.T @ (t * (transposed @ x.flatten() + bias).clamp_min(0))
    torch.testing.assert_close(layer(x).flatten(), by_hand)
    assert torch.linalg.eigvalsh(torch.diag(1 / t) - transposed @ transposed.T).min() >= -1e-9


def test_a_rescaling_without_weights_is_zero():
    gram, log_q = torch.tensor([[0.0, 0.0], [0.0, 4.0]]), torch.tensor([1.0, 2.0])
    assert rescaling(gram, log_q).tolist() == pytest.approx([0.0, 0.25])


def test_eval_mode_keeps_the_rescaling_only_while_the_weights_are_the_same():
    layer, x = SllConv2d(2, 3).eval(), images((2, 4, 4))
    for change in (0.0, 0.5):
        layer.weight.data += change  # which no version counter sees
        first, again, fresh = layer(x), layer(x), copy.deepcopy(layer).train()(x)
        assert torch.equal(first, again)
        assert torch.equal(first, fresh)
    layer.log_q.data[0] = 1
    assert torch.equal(layer(x), copy.deepcopy(layer).train()(x))
    assert layer.double()(x.double()).dtype == torch.float64
    assert set(layer.state_dict()) == {"weight", "bias", "log_q"}


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 9, 11)])
def test_the_whole_network_has_the_constant_of_its_normalisation(shape):
    model = build("lipschitz_cnn", shape, num_classes=4, dropout=0.5).double().eval()
    with seeded(1):
        for parameter in model.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
    constant = global_constant(model)
    assert constant == pytest.approx(1 / 0.2)
    assert max(spectral_norms(model, shape, points=2)) <= constant * (1 + 1e-9)
    model.network[5] = nn.AvgPool2d(2)
    assert global_constant(model) is None


def test_hooks_and_other_layers_have_no_known_constant():
    assert global_constant(nn.Sequential(Normalize([0.5, 0.5], [0.5, 0.25]), nn.Flatten())) == 4
    assert global_constant(nn.Sequential(nn.Flatten(), nn.Linear(4, 2))) is None
    layer = SllLinear(4, 4)
    layer.register_forward_hook(lambda *_: None)
    assert global_constant(nn.Sequential(layer)) is None


@pytest.fixture(scope="module")
def trained():
    """A network that a few steps have given margins, and images that it classifies."""
    model, x = build("lipschitz_cnn", (1, 8, 8), num_classes=3, dropout=0.3), images((1, 8, 8), count=48)
    with seeded(2):
        pictures = torch.rand(3, 1, 8, 8)
        labels = torch.arange(48) % 3
        x = (0.75 * pictures[labels] + 0.25 * x).clamp(0, 1)
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        for _ in range(15):
            loss = nn.functional.cross_entropy(model.train()(x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval(), x, labels


@pytest.mark.parametrize("epsilon", [0.1, 0.4])
def test_no_attack_fools_what_is_certified(trained, epsilon, monkeypatch):
    monkeypatch.setattr(square, "QUERIES", 200)  # images of 64 pixels: more would be spent on single ones
    model, x, labels = trained
    threat = ThreatModel("l2", epsilon)
    proved = certify(model, x, labels, threat=threat)
    with torch.no_grad():
        logits = model.double()(x.double())
    model.float()
    own = logits.gather(1, labels[:, None])
    margin = (own - logits).scatter(1, labels[:, None], torch.inf).amin(1)
    needed = math.sqrt(2) * epsilon / 0.2
    assert torch.allclose(proved.margin, margin - needed, atol=0.1)  # the rest is for rounding
    assert (proved.margin < margin - needed).all()
    assert proved.lipschitz_upper.tolist() == pytest.approx([5.0] * 48)
    for name in ("pgd", "margin", "multi_targeted", "square"):
        few = slice({"square": 2, "pgd": 16}.get(name, 8))
        robust, _ = run_attack(load_attack(name), model, x[few], labels[few], ascent=Ascent(threat, 10, 1), seed=0)
        assert not (proved.certified_correct[few] & ~robust).any(), name
    quick = certified_correct(model, x, labels, threat=threat, effort="ibp")
    assert torch.equal(quick, proved.certified_correct)
    if epsilon == 0.1:
        assert proved.certified_correct.sum() > 24


def test_rounding_of_float32_is_within_what_is_taken_off(trained):
    model, x, labels = trained
    threat = ThreatModel("l2", 0.0)
    exact = certify(model, x, labels, threat=threat).margin
    with torch.no_grad():
        logits = model(x.to(memory_format=torch.channels_last)).double()
    own = logits.gather(1, labels[:, None])
    assert (exact <= (own - logits).scatter(1, labels[:, None], torch.inf).amin(1)).all()
