"""Small convolutional networks, as plain sequences of layers."""

from __future__ import annotations

from torch import nn

from trainables.models.sizes import require_side


def cnn_small(image_shape: tuple[int, int, int], num_classes: int, dropout: float) -> nn.Sequential:
    """Build three 3x3 convolutions (16, 32, 64) with batch normalisation, 2x2 averages and one linear layer.

    Dropout acts on the 256 averages. About 26,000 weights for any image size, at least 8x8; torch's default
    initialisation. See `MODELS` for the arguments.

    Raises:
        ValueError: The images are too small.
    """
    require_side("cnn_small", image_shape, 8)
    channels, height, width = image_shape
    return nn.Sequential(
        *_normalised_conv(channels, 16),
        *_normalised_conv(16, 32),
        nn.MaxPool2d(2),
        *_normalised_conv(32, 64),
        # Adaptive pooling would do the same, but its backward pass has no deterministic CUDA kernel.
        nn.AvgPool2d((height // 4, width // 4)),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(2 * 2 * 64, num_classes),
    )


def cnn1(image_shape: tuple[int, int, int], num_classes: int, dropout: float) -> nn.Sequential:
    """Build the paper's first MNIST network: two convolutions, max pooling, two linear layers.

    The paper's dropout is 0.25 after pooling, on whole feature maps, and 0.5 before the last layer. Here `dropout` is
    the rate before the last layer, and half of it acts on the feature maps, so 0.5 gives the paper's network and 0 no
    dropout. The paper's second dropout layer is two-dimensional, but acts on a flat vector and drops single units,
    which is ordinary dropout, as here. As in the paper no ReLU follows the second convolution. Images are 28x28;
    torch's default initialisation. See `MODELS` for the arguments.

    Raises:
        ValueError: The images are not 28x28.

    Source: Yang et al. 2020, CNN001 in the published code.
    """
    require_side("cnn1", image_shape, 28, exactly=True)
    return nn.Sequential(
        nn.Conv2d(image_shape[0], 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.MaxPool2d(2),
        nn.Dropout2d(dropout / 2),
        nn.Flatten(),
        nn.Linear(64 * 12 * 12, 128),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(128, num_classes),
    )


def cnn2(image_shape: tuple[int, int, int], num_classes: int, dropout: float) -> nn.Sequential:
    """Build the paper's second MNIST network, which is that of TRADES: four convolutions, three linear layers.

    Dropout (0.5 in the paper) acts once, after the first linear layer. As in the source, convolutions start from
    Kaiming's normal distribution and the last layer from zero, so an untrained network has the same logits for all
    images. Images are 28x28. See `MODELS` for the arguments.

    Raises:
        ValueError: The images are not 28x28.

    Source: Zhang et al. 2019 (TRADES), SmallCNN; Yang et al. 2020, CNN002.
    """
    require_side("cnn2", image_shape, 28, exactly=True)
    last = nn.Linear(200, num_classes)
    network = nn.Sequential(
        nn.Conv2d(image_shape[0], 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 200),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(200, 200),
        nn.ReLU(),
        last,
    )
    for module in network:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return network


def _normalised_conv(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )
