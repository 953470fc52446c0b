"""A running average of a network's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


class WeightAverage:
    """a = d * a + (1 - d) * w after every step, with d = min(decay, (1 + t) / (10 + t)) at the t-th step from 0.

    The smaller decay of the first steps lets the untrained weights fade. Floating-point buffers, including batch
    norm's running statistics, are averaged like weights; counters are copied.

    Args:
        model: The average starts at its current weights.
        decay: Share of the average that a step retains, in [0, 1).

    Attributes:
        model: A network with the averaged weights; gradients are not computed for them.

    Source: the schedule of d is that of TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, model: nn.Module, /, *, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(requires_grad=False)
        self._decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, /, *, step: int) -> None:
        """Update the average with the weights of `model` after its training step `step`, counted from 0."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for average, value in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if average.is_floating_point():
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)
