"""Residual networks with activation before convolution: Wide ResNets and PreActResNet-18."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from trainables.models.sizes import require_side


class PreactBlock(nn.Module):
    """x + conv(dropout(relu(bn(conv(relu(bn(x))))))); a 1x1 convolution of relu(bn(x)) replaces x where shapes change.

    Args:
        channels_in: Channels of the input.
        channels_out: Channels of the output.
        stride: Stride of the first convolution, 1 or 2.
        dropout: Rate between the two convolutions.
    """

    def __init__(self, channels_in: int, channels_out: int, *, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        changes = stride != 1 or channels_in != channels_out
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels_in, h, w) to (n, channels_out, h / stride, w / stride)."""
        active = F.relu(self.bn1(x), inplace=True)
        out: Tensor = self.conv1(active)
        out = self.conv2(self.dropout(F.relu(self.bn2(out), inplace=True)))
        skip: Tensor = x if self.shortcut is None else self.shortcut(active)
        return out + skip


class PreactResNet(nn.Module):
    """A 3x3 convolution, stages of blocks (each after the first halves the resolution), the mean and a linear layer.

    Convolutions start from Kaiming's normal distribution (fan out), the last layer's bias from zero.

    Args:
        image_shape: (c, h, w).
        num_classes: Number of logits K.
        stem: Channels of the first convolution.
        widths: Channels of each stage.
        blocks: Blocks per stage.
        dropout: Rate in every block.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        *,
        stem: int,
        widths: Sequence[int],
        blocks: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(image_shape[0], stem, 3, padding=1, bias=False)
        layers: list[nn.Module] = []
        before = stem
        for stage, width in enumerate(widths):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(PreactBlock(before, width, stride=stride, dropout=dropout))
                before = width
        self.blocks = nn.Sequential(*layers)
        self.bn = nn.BatchNorm2d(before)
        self.fc = nn.Linear(before, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, c, h, w) to logits (n, K)."""
        out = F.relu(self.bn(self.blocks(self.stem(x))), inplace=True)
        logits: Tensor = self.fc(out.mean(dim=(2, 3)))
        return logits


def wrn_40_10(image_shape: tuple[int, int, int], num_classes: int, dropout: float) -> nn.Module:
    """Build the Wide ResNet of depth 40 and width 10, the paper's network for CIFAR-10 and SVHN.

    Dropout acts between the two convolutions of every block. Images are at least 8x8. See `MODELS` for the arguments.

    Raises:
        ValueError: The images are too small.

    Source: Zagoruyko & Komodakis 2016; Yang et al. 2020, WRN_40_10.
    """
    require_side("wrn_40_10", image_shape, 8)
    return PreactResNet(image_shape, num_classes, stem=16, widths=(160, 320, 640), blocks=6, dropout=dropout)


def wrn_28_10(image_shape: tuple[int, int, int], num_classes: int, dropout: float) -> nn.Module:
    """Build the Wide ResNet of depth 28 and width 10; see `wrn_40_10`.

    Raises:
        ValueError: The images are too small.

    Source: Zagoruyko & Komodakis 2016.
    """
    require_side("wrn_28_10", image_shape, 8)
    return PreactResNet(image_shape, num_classes, stem=16, widths=(160, 320, 640), blocks=4, dropout=dropout)


def preact_resnet18(image_shape: tuple[int, int, int], num_classes: int, dropout: float) -> nn.Module:
    """Build the PreActResNet-18 for small images, a common benchmark network of robust training.

    Its source has no dropout; here it acts as in Wide ResNets, between the two convolutions of every block. Images are
    at least 8x8. See `MODELS` for the arguments.

    Raises:
        ValueError: The images are too small.

    Source: He et al. 2016, Identity Mappings in Deep Residual Networks; final batch norm as in Rice et al. 2020.
    """
    require_side("preact_resnet18", image_shape, 8)
    return PreactResNet(image_shape, num_classes, stem=64, widths=(64, 128, 256, 512), blocks=2, dropout=dropout)
