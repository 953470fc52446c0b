"""A running average of a network's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


class WeightAverage:
    """a = d * a + (1 - d) * w after every step, with a smaller d in the first steps.

    At the t-th step, from 1, d = decay * (1 - decay^(t-1)) / (1 - decay^t): the shares of all w so far are in the
    proportions of their powers of the decay and sum to one, and the untrained weights have none. With `warmup`,
    d = min(decay, t / (9 + t)) instead, which until t = 9 * decay / (1 - decay) does not depend on the decay.

    Floating-point buffers, including batch norm's running statistics, are averaged like weights; counters are copied.

    Args:
        model: The average starts at its current weights.
        decay: Share of the average that a step retains, in [0, 1).
        warmup: Whether the decay grows with the steps.

    Attributes:
        model: A network with the averaged weights; gradients are not computed for them.

    Source: the correction is Adam's (Kingma and Ba 2015, section 3), the warm-up that of TensorFlow's
    ExponentialMovingAverage.
    """

    def __init__(self, model: nn.Module, /, *, decay: float, warmup: bool) -> None:
        self.model = copy.deepcopy(model).requires_grad_(requires_grad=False)
        self._decay, self._warmup = decay, warmup

    @torch.no_grad()
    def update(self, model: nn.Module, /, *, step: int) -> None:
        """Update the average with the weights of `model` after its training step `step`, counted from 0."""
        decay = self._decay
        if self._warmup:
            decay = min(decay, (1 + step) / (10 + step))
        else:
            decay *= (1 - decay**step) / (1 - decay ** (step + 1))
        for average, value in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if average.is_floating_point():
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)
