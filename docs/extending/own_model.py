"""A model: one hidden layer."""

import math

from torch import nn


def one_hidden_layer(*, image_shape: tuple[int, int, int], num_classes: int, dropout: float) -> nn.Module:
    """Return a network from images (n, c, h, w) to logits (n, num_classes)."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(image_shape), 32),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(32, num_classes),
    )
