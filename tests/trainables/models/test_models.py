"""The contract of every registered network, parameter counts, and normalisation inside the model."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import pytest
import torch
from helpers.networks.networks import build, build_empty, images, num_parameters
from torch import nn

from trainables.models import MODELS, build_model
from trainables.models.cnn import cnn1, cnn2, cnn_small
from trainables.models.normalize import Normalize
from trainables.registry import UnknownNameError
from trainables.seeding import seeded

# The image shapes that each registered network is tested on; for large networks the smallest they take.
SHAPES: dict[str, list[tuple[int, int, int]]] = {
    "mlp": [(1, 8, 8), (3, 7, 5)],
    "cnn_small": [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 11, 15)],
    "cnn1": [(1, 28, 28), (3, 28, 28)],
    "cnn2": [(1, 28, 28), (3, 28, 28)],
    "lipschitz_cnn": [(1, 8, 8), (3, 11, 17)],
    "preact_resnet18": [(3, 8, 8), (1, 9, 15)],
    "resnet50": [(1, 8, 8)],
    "wrn_28_10": [(3, 8, 8)],
    "wrn_40_10": [(3, 8, 8)],
}
CASES = [(name, shape) for name, shapes in SHAPES.items() for shape in shapes]
DROPOUT = (nn.Dropout, nn.Dropout2d)


@dataclass(frozen=True)
class Case:
    name: str
    shape: tuple[int, int, int]
    untrained: nn.Module

    @property
    def x(self) -> torch.Tensor:
        return images(self.shape, count=2)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{'x'.join(map(str, case[1]))}")
def case(request: pytest.FixtureRequest) -> Case:
    """One network, initialised once for all tests of the contract."""
    name, shape = request.param
    return Case(name, shape, build(name, shape))


@pytest.fixture
def model(case: Case) -> nn.Module:
    """A copy with random weights in the last layer, which some networks initialise to zero."""
    model = copy.deepcopy(case.untrained)
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    with seeded(1):
        nn.init.normal_(last.weight, std=0.1)
    return model


def test_every_model_is_under_contract() -> None:
    assert set(SHAPES) == set(MODELS)


def test_logits_and_gradients(case: Case, model: nn.Module) -> None:
    x = images(case.shape).requires_grad_()
    logits = model(x)
    assert logits.shape == (4, 10)
    assert logits.dtype == torch.float32
    logits.logsumexp(dim=1).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad.abs().flatten(1).amax(dim=1).min() > 0
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_one_seed_gives_one_network_for_any_dropout_rate(case: Case) -> None:
    state, rebuilt = case.untrained.state_dict(), build(case.name, case.shape, dropout=0.0).state_dict()
    assert state.keys() == rebuilt.keys()
    assert all(torch.equal(state[key], rebuilt[key]) for key in state)


@torch.no_grad()
def test_dropout_modules_can_be_switched_separately(case: Case, model: nn.Module) -> None:
    model.eval()
    undropped = model(case.x)
    drops = [module for module in model.modules() if isinstance(module, DROPOUT)]
    assert drops
    for module in drops:
        module.train()
    outputs = []
    for seed in (0, 1, 0):
        with seeded(seed):
            outputs.append(model(case.x))
    assert not torch.equal(outputs[0], undropped)
    assert not torch.equal(outputs[0], outputs[1])
    torch.testing.assert_close(outputs[2], outputs[0], rtol=0, atol=0)


def test_rate_zero_is_no_dropout(case: Case) -> None:
    network = build_empty(case.name, case.shape, dropout=0.0)
    assert {module.p for module in network.modules() if isinstance(module, DROPOUT)} == {0}


@torch.no_grad()
def test_examples_are_independent_in_eval_mode(case: Case, model: nn.Module) -> None:
    model.eval()
    alone = torch.cat([model(image[None]) for image in case.x])
    torch.testing.assert_close(model(case.x), alone, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_channels_last_changes_no_logits(case: Case, model: nn.Module) -> None:
    expected = model.eval()(case.x)
    model = model.to(memory_format=torch.channels_last)
    logits = model(case.x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_state_dict_is_complete(case: Case, model: nn.Module) -> None:
    other = build_empty(case.name, case.shape, dropout=0.2).to_empty(device="cpu").eval()
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(case.x), model.eval()(case.x), rtol=0, atol=0)


@pytest.mark.gpu
@torch.no_grad()
def test_the_gpu_agrees_with_the_cpu(case: Case, model: nn.Module) -> None:
    expected = model.eval()(case.x)
    model = model.to("cuda", memory_format=torch.channels_last)
    logits = model(case.x.to("cuda", memory_format=torch.channels_last))
    torch.testing.assert_close(logits.cpu(), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("name", "shape", "count"),
    [
        # 64*256 + 256, 256*256 + 256, 256*10 + 10
        ("mlp", (1, 8, 8), 16_640 + 65_792 + 2_570),
        # 9*16, 9*16*32, 9*32*64 without bias; batch norm 2*(16 + 32 + 64); 256*10 + 10
        ("cnn_small", (1, 8, 8), 144 + 4_608 + 18_432 + 224 + 2_570),
        ("cnn_small", (3, 32, 32), 3 * 144 + 4_608 + 18_432 + 224 + 2_570),
        # 9*32*32 and two values for each of 32 channels, 2048*64 + 2*64 twice, 2048*10 + 2*10
        ("lipschitz_cnn", (1, 8, 8), 4 * (9_216 + 64) + 2 * (131_072 + 128) + 20_500),
        # (9 + 1)*32, (9*32 + 1)*64, (64*12*12 + 1)*128, 129*10: 28 - 2 - 2 = 24, halved is 12
        ("cnn1", (1, 28, 28), 320 + 18_496 + 1_179_776 + 1_290),
        # (9 + 1)*32, (9*32 + 1)*32, (9*32 + 1)*64, (9*64 + 1)*64, (64*4*4 + 1)*200, 201*200, 201*10
        ("cnn2", (1, 28, 28), 320 + 9_248 + 18_496 + 36_928 + 205_000 + 40_200 + 2_010),
    ],
)
def test_parameter_counts(name: str, shape: tuple[int, int, int], count: int) -> None:
    assert num_parameters(build_empty(name, shape, dropout=0.3)) == count


@pytest.mark.parametrize(
    ("name", "shape", "required"),
    [
        ("cnn_small", (1, 7, 8), "at least 8x8, got 7x8"),
        ("cnn1", (1, 8, 8), "28x28, got 8x8"),
        ("cnn2", (3, 32, 32), "28x28, got 32x32"),
        ("lipschitz_cnn", (3, 7, 9), "at least 8x8, got 7x9"),
        ("preact_resnet18", (3, 4, 4), "at least 8x8, got 4x4"),
        ("resnet50", (3, 4, 4), "at least 8x8, got 4x4"),
        ("wrn_28_10", (3, 4, 4), "at least 8x8, got 4x4"),
        ("wrn_40_10", (3, 4, 4), "at least 8x8, got 4x4"),
    ],
)
def test_a_wrong_image_size_is_one_clear_error(name: str, shape: tuple[int, int, int], required: str) -> None:
    with pytest.raises(ValueError, match=rf"`model.name` {name} takes images of {required}"):
        build(name, shape)


def test_normalisation_is_the_first_layer() -> None:
    x = images((3, 8, 8))
    model = build_model(
        "mlp", image_shape=(3, 8, 8), num_classes=4, dropout=0.0, mean=[0.1, 0.2, 0.3], std=[0.5, 0.6, 0.7]
    )
    by_hand = torch.stack(
        [(x[:, 0] - 0.1) / 0.5, (x[:, 1] - 0.2) / 0.6, (x[:, 2] - 0.3) / 0.7],
        dim=1,
    )
    torch.testing.assert_close(model(x), model.network(by_hand))
    assert not any(name.startswith("normalize") for name, _ in model.named_parameters())


@pytest.mark.parametrize(("mean", "std"), [([0.5], [0.0]), ([0.5, 0.5], [1.0]), ([0.5], [-1.0])])
def test_constants_that_cannot_normalise_are_refused(mean: list[float], std: list[float]) -> None:
    with pytest.raises(ValueError, match="one value per channel and std be positive"):
        Normalize(mean, std)


def test_cnn_small_computes_the_stated_function() -> None:
    """It is recomputed from its weights with functional calls, with batch norm's running statistics."""
    net = cnn_small((1, 28, 28), 10, 0.0)
    x = images((1, 28, 28))
    net(x)
    net.eval()
    convs = [module for module in net if isinstance(module, nn.Conv2d)]
    norms = [module for module in net if isinstance(module, nn.BatchNorm2d)]
    h = x
    for number, (conv, norm) in enumerate(zip(convs, norms, strict=True)):
        h = nn.functional.conv2d(h, conv.weight, padding=1)
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        h = (h - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]
        h = h.relu()
        if number == 1:
            h = h.unflatten(2, (14, 2)).unflatten(4, (14, 2)).amax(dim=(3, 5))
    quarters = h.unflatten(2, (2, 7)).unflatten(4, (2, 7)).mean(dim=(3, 5))
    torch.testing.assert_close(net(x), quarters.flatten(1) @ net[-1].weight.T + net[-1].bias, rtol=1e-4, atol=1e-5)


def test_cnn1_splits_its_rate_as_the_paper_does() -> None:
    rates = [module.p for module in cnn1((1, 28, 28), 10, 0.5) if isinstance(module, (nn.Dropout, nn.Dropout2d))]
    assert rates == [0.25, 0.5]


def test_cnn2_is_initialised_as_its_source() -> None:
    with seeded(0):
        net = cnn2((1, 28, 28), 10, 0.5)
    assert torch.equal(net(images((1, 28, 28))), torch.zeros(4, 10))
    conv = net[7]
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.05)
    assert all(module.bias.abs().max() == 0 for module in net if isinstance(module, nn.Conv2d))


def linear(image_shape: tuple[int, int, int], num_classes: int, dropout: float) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(math.prod(image_shape), num_classes))


def test_a_users_own_network(monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "my_models", sys.modules[__name__])
    assert build("my_models:linear", (1, 4, 4), dropout=0.5, num_classes=3)(images((1, 4, 4))).shape == (4, 3)


def test_an_unknown_network_suggests_the_closest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown model 'cnn3' \(did you mean cnn"):
        build("cnn3", (1, 8, 8))
