"""torchvision's ResNet-50 for small images, with dropout."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from trainables.data.torchvision_import import torchvision
from trainables.models.sizes import require_side

_IMAGENET_STEM_FROM = 64


class DropoutConv2d(nn.Conv2d):
    """A 1x1 convolution without bias that drops units of its input.

    As a subclass of the convolution it keeps the names of torchvision's state dict, which a sequence would not.

    Args:
        channels_in: Channels of the input.
        channels_out: Channels of the output.
        dropout: Rate.
    """

    def __init__(self, channels_in: int, channels_out: int, *, dropout: float) -> None:
        super().__init__(channels_in, channels_out, 1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels_in, h, w) to (n, channels_out, h, w)."""
        return super().forward(self.dropout(x))


def resnet50(image_shape: tuple[int, int, int], num_classes: int, dropout: float) -> nn.Module:
    """Build ResNet-50, the paper's network for Restricted ImageNet.

    For images of at least 64x64 the stem is torchvision's own (7x7 with stride 2, then max pooling), as in the paper's
    runs on 64x64 images. It would reduce smaller images, of at least 8x8, to almost no resolution, so they have a 3x3
    convolution with stride 1 and no pooling. Dropout acts before the last convolution of every block except the first
    of each stage: the paper's code passes its rate to those blocks only. Initialisation and the state dict's keys are
    torchvision's. See `MODELS` for the arguments.

    Raises:
        ValueError: The images are too small.

    Source: He et al. 2015; Yang et al. 2020, ResNet50 and its _drop20 and _drop50.
    """
    require_side("resnet50", image_shape, 8)
    network: Any = torchvision().models.resnet50(weights=None, num_classes=num_classes)
    if min(image_shape[1:]) < _IMAGENET_STEM_FROM:
        network.conv1 = nn.Conv2d(image_shape[0], 64, 3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    else:
        network.conv1 = nn.Conv2d(image_shape[0], 64, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        for block in stage[1:]:
            conv = block.conv3
            block.conv3 = DropoutConv2d(conv.in_channels, conv.out_channels, dropout=dropout)
            block.conv3.weight = conv.weight
    module: nn.Module = network
    return module
