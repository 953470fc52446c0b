"""A network of a user's own, which checks what it returns."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from trainables.registry import calling, must_return


class OwnNetwork(nn.Sequential):
    """A user's own network behind its normalisation; what it raises or returns wrongly is one line.

    Args:
        children: `normalize` and `network`.
        name: The model, as `package.module:object`.
        num_classes: Number of logits K.
    """

    def __init__(self, children: OrderedDict[str, nn.Module], /, *, name: str, num_classes: int) -> None:
        super().__init__(children)
        self.own_name = name
        self.num_classes = num_classes

    def forward(self, x: Tensor) -> Tensor:
        """Map images in [0, 1] (n, c, h, w) to logits (n, K).

        Raises:
            OwnCodeError: The network raised an error or returned something else.
        """
        if torch.compiler.is_compiling():  # also when it is exported; neither traces the checks
            return self._logits(x)
        given = f"images {tuple(x.shape)}"
        with calling("model", self.own_name, given):
            logits = self._logits(x)
        required = (len(x), self.num_classes)
        if not isinstance(logits, Tensor) or logits.shape != required or not logits.is_floating_point():
            problem = f"floating-point logits {required}, got {describe(logits)}"
            raise must_return("model", self.own_name, given, problem)
        if torch.is_grad_enabled() and (self.training or x.requires_grad) and not logits.requires_grad:
            raise must_return("model", self.own_name, given, "logits with a gradient, got none: are they detached?")
        return logits

    def _logits(self, x: Tensor) -> Tensor:
        logits: Tensor = super().forward(x)  # type: ignore[no-untyped-call] # untyped in torch
        return logits


def describe(value: object, /) -> str:
    """Return what a value is: a tensor's dtype, shape and device, or the name of its type."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)} on {value.device}"
    return type(value).__name__
