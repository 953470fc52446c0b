"""Networks that mask their gradients, and so pass for more robust than they are, as factories for `model.name`.

They are masked while `MASK.set(True)`, so that they can be trained as what they are.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from trainables.models.cnn import cnn_small
from trainables.models.mlp import mlp

MASK = ContextVar("mask", default=False)


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return -gradient


class _Leaky(torch.autograd.Function):
    """Rounds to 8 levels; a hundredth of the gradient leaks through."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return (8 * x).round() / 8

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return 0.01 * gradient


def reversed_gradients(**arguments: Any) -> nn.Module:
    """Return an MLP whose input gradient has the wrong sign."""
    return _before(mlp(**arguments), _Reversed.apply)


def clamped_logits(**arguments: Any) -> nn.Module:
    """Return an MLP whose logits, cut at plus and minus 5, have a zero gradient beyond."""
    model = mlp(**arguments)
    model.register_forward_hook(lambda _, __, logits: logits.clamp(-5, 5) if MASK.get() else logits)
    return model


def leaky_quantisation(**arguments: Any) -> nn.Module:
    """Return a small convolutional network on images of 8 levels."""
    return _before(cnn_small(**arguments), _Leaky.apply)


def shattered_gradients(**arguments: Any) -> nn.Module:
    """Return an MLP on images with a fine ripple, which changes them little and turns the gradient's sign at random."""
    return _before(mlp(**arguments), lambda x: x + 0.002 * (2000 * x).sin())


def _before(model: nn.Module, change: Callable[[Tensor], Tensor]) -> nn.Module:
    model.register_forward_pre_hook(lambda _, given: change(*given) if MASK.get() else given)
    return model
