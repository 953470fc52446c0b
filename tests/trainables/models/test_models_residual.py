"""The residual networks: parameter counts against the literature, places of dropout, stages and blocks."""

from __future__ import annotations

import pytest
import torch
from helpers.networks.networks import build_empty, images, num_parameters
from torch import nn

from trainables.models import MODELS
from trainables.seeding import seeded


def wide_count(depth: int, factor: int) -> int:
    """Count a Wide ResNet's weights for 10 classes: 3x3 convolutions, 1x1 shortcuts, two per normalised channel."""
    blocks, count, before = (depth - 4) // 6, 9 * 3 * 16, 16
    for width in (16 * factor, 32 * factor, 64 * factor):
        count += 9 * before * width + (2 * blocks - 1) * 9 * width * width + before * width
        count += 2 * before + (2 * blocks - 1) * 2 * width
        before = width
    return count + 2 * before + 10 * before + 10


@pytest.mark.parametrize(
    ("name", "image_shape", "count", "literature"),
    [
        ("wrn_28_10", (3, 32, 32), wide_count(28, 10), 36.5),
        ("wrn_40_10", (3, 32, 32), wide_count(40, 10), 55.8),
        # Stem 1,728; stages 147,968, 525,184, 2,098,944 and 8,392,192; last batch norm 1,024; linear 5,130.
        ("preact_resnet18", (3, 32, 32), 11_172_170, 11.17),
        # torchvision's 25,557,032 minus its linear layer of 2,049,000, plus 20,490; the 3x3 stem has 7,680 fewer.
        ("resnet50", (3, 64, 64), 25_557_032 - 2_049_000 + 20_490, 23.5),
        ("resnet50", (3, 32, 32), 25_557_032 - 2_049_000 + 20_490 - 7_680, 23.5),
    ],
)
def test_parameter_counts_are_those_of_the_literature(
    name: str, image_shape: tuple[int, int, int], count: int, literature: float
) -> None:
    """The papers give millions; networks are built on the meta device, where weights take no memory."""
    parameters = num_parameters(build_empty(name, image_shape, dropout=0.3))
    assert parameters == count
    assert parameters / 1e6 == pytest.approx(literature, abs=0.05)


@pytest.mark.parametrize(("name", "count"), [("wrn_28_10", 12), ("wrn_40_10", 18), ("preact_resnet18", 8)])
def test_dropout_is_in_every_residual_block(name: str, count: int) -> None:
    network = build_empty(name, (3, 32, 32), dropout=0.3)
    assert [module.p for module in network.modules() if isinstance(module, nn.Dropout)] == [0.3] * count


def test_resnet50_has_dropout_in_all_blocks_except_the_first_of_each_stage() -> None:
    network = build_empty("resnet50", (3, 64, 64), dropout=0.2)
    with_dropout = {name for name, module in network.named_modules() if isinstance(module, nn.Dropout)}
    blocks = {"layer1": 3, "layer2": 4, "layer3": 6, "layer4": 3}
    assert with_dropout == {
        f"network.{stage}.{n}.conv3.dropout" for stage, count in blocks.items() for n in range(1, count)
    }


def test_resnet50_without_dropout_matches_torchvision() -> None:
    from trainables.data.torchvision_import import torchvision

    reference = torchvision().models.resnet50(weights=None, num_classes=10).eval()
    network = MODELS.load("resnet50")(image_shape=(3, 64, 64), num_classes=10, dropout=0.5).eval()
    network.load_state_dict(reference.state_dict())
    x = images((3, 64, 64), count=2)
    torch.testing.assert_close(network(x), reference(x))


@pytest.mark.parametrize(
    ("name", "side", "resolutions"),
    [
        ("wrn_28_10", 32, [32, 16, 8]),
        ("preact_resnet18", 32, [32, 16, 8, 4]),
        ("resnet50", 32, [32, 16, 8, 4]),
        ("resnet50", 63, [63, 32, 16, 8]),
        ("resnet50", 64, [16, 8, 4, 2]),
    ],
)
def test_resolutions_of_the_stages(name: str, side: int, resolutions: list[int]) -> None:
    network = build_empty(name, (3, side, side), dropout=0.0)
    seen: list[int] = []
    for module in network.modules():
        if type(module).__name__ in ("PreactBlock", "Bottleneck"):
            module.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[-1]))
    network(torch.empty(1, 3, side, side, device="meta"))
    assert list(dict.fromkeys(seen)) == resolutions


@pytest.mark.parametrize(("channels_in", "channels_out", "stride"), [(4, 4, 1), (4, 6, 1), (4, 6, 2)])
def test_a_preact_block_computes_the_stated_formula(channels_in: int, channels_out: int, stride: int) -> None:
    from trainables.models.preact import PreactBlock

    with seeded(0):
        block = PreactBlock(channels_in, channels_out, stride=stride, dropout=0.5)
    x = images((channels_in, 6, 6))
    block(x)
    block.eval()
    original = x.clone()

    def normalised(h: torch.Tensor, norm: nn.BatchNorm2d) -> torch.Tensor:
        return (h - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + norm.eps).sqrt()

    active = normalised(x, block.bn1).clamp(min=0)
    inner = nn.functional.conv2d(active, block.conv1.weight, stride=stride, padding=1)
    branch = nn.functional.conv2d(normalised(inner, block.bn2).clamp(min=0), block.conv2.weight, padding=1)
    if (channels_in, stride) == (channels_out, 1):
        assert block.shortcut is None
        skip = x
    else:
        skip = nn.functional.conv2d(active, block.shortcut.weight, stride=stride)
    torch.testing.assert_close(block(x), skip + branch, rtol=1e-4, atol=1e-5)
    assert torch.equal(x, original), "in-place activation must not change the block's input"
