"""A network of a user's own, which checks what it returns."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from trainables.models.modes import mode
from trainables.registry import OwnCodeError, calling, must_return

MIXING = 0.01
"""Difference of an image's logits alone and in a batch, as a share of the largest logit, that rounding may cause."""


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
        """Map images in [0, 1] (n, c, h, w) to logits (n, K) in the dtype of the images; autocast keeps its own.

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
        return logits if torch.is_autocast_enabled(x.device.type) else logits.to(x.dtype)

    def _logits(self, x: Tensor) -> Tensor:
        logits: Tensor = super().forward(x)  # type: ignore[no-untyped-call] # untyped in torch
        return logits


def logits_apart(model: nn.Module, images: Tensor, /, *, name: str) -> Tensor:
    """Return a user's own network's logits (n, K) of images in eval mode, which must not depend on the other images.

    Attacks stop at each image on its own, and batches differ between measurements: of a network that mixes the images
    of a batch, accuracy under attack means nothing. One that draws random numbers is not judged.

    Raises:
        OwnCodeError: The network failed, or an image alone has other logits.
    """
    with mode(model), torch.no_grad():
        together: Tensor = model(images)
        again = model(images)
        try:
            alone = torch.cat([model(image[None]) for image in images])
        except OwnCodeError as error:
            rule = (
                "it must take an image alone, since in eval mode no layer may mix a batch, as batch norm does without"
            )
            raise OwnCodeError(f"{error}; {rule} running statistics") from error
    if torch.equal(together, again) and (together - alone).abs().max() > MIXING * together.abs().max():
        required = "for each image the logits that it has alone, got others: in eval mode no layer may mix a batch"
        raise must_return("model", name, f"images {tuple(images.shape)}", required)
    return together


def depends_on_seed(network: nn.Module, other: nn.Module, /, *, name: str) -> bool:
    """Return whether two networks that a user's own model gave under different seeds have different weights.

    Raises:
        OwnCodeError: They share weights: a trial would go on with those that another has trained.
    """
    pairs = list(zip(network.parameters(), other.parameters(), strict=False))
    if any(one is two for one, two in pairs):
        raise must_return("model", name, "the same arguments twice", "a new network each time, got the same weights")
    return not pairs or any(one.shape != two.shape or not torch.equal(one, two) for one, two in pairs)


def describe(value: object, /) -> str:
    """Return what a value is: a tensor's dtype, shape and device, or the name of its type."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)} on {value.device}"
    return type(value).__name__
