"""A multilayer perceptron for images of any size."""

from __future__ import annotations

import math

from torch import nn

_WIDTH = 256


def mlp(image_shape: tuple[int, int, int], num_classes: int, dropout: float) -> nn.Sequential:
    """Build two hidden layers of 256 units with ReLU, each followed by dropout.

    For images of any size; torch's default initialisation. See `MODELS` for the arguments.
    """
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(image_shape), _WIDTH),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(_WIDTH, _WIDTH),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(_WIDTH, num_classes),
    )
