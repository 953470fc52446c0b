"""Networks by name; importing this package does not import torch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainables.registry import Registry, calling, must_return, takes

if TYPE_CHECKING:
    from torch import nn

__all__ = ["MODELS", "build_model"]

MODELS = Registry(
    "model",
    {
        "mlp": "trainables.models.mlp:mlp",
        "cnn_small": "trainables.models.cnn:cnn_small",
        "cnn1": "trainables.models.cnn:cnn1",
        "cnn2": "trainables.models.cnn:cnn2",
        "lipschitz_cnn": "trainables.models.lipschitz_cnn:lipschitz_cnn",
        "preact_resnet18": "trainables.models.preact:preact_resnet18",
        "resnet50": "trainables.models.resnet50:resnet50",
        "wrn_28_10": "trainables.models.preact:wrn_28_10",
        "wrn_40_10": "trainables.models.preact:wrn_40_10",
    },
    check=takes(0, "image_shape", "num_classes", "dropout"),
)
"""Functions of `image_shape` (c, h, w), `num_classes` K and a `dropout` rate in [0, 1), of which 0 switches it off.

They return a network from images (n, c, h, w) to logits (n, K), or raise a ValueError for images of another size than
the network takes.
"""


def build_model(
    name: str,
    /,
    *,
    image_shape: tuple[int, int, int],
    num_classes: int,
    dropout: float,
    mean: Sequence[float],
    std: Sequence[float],
) -> nn.Module:
    """Build a network that normalises its own input.

    Weights are drawn from torch's global generator: seed it around the call.

    Args:
        name: Registered model, or `package.module:object`, which is called with `image_shape`, `num_classes` and
            `dropout` as keywords and returns a module.
        image_shape: (c, h, w).
        num_classes: Number of logits K.
        dropout: Dropout rate, in [0, 1); 0 switches it off.
        mean: Per channel, in [0, 1] units.
        std: Per channel, in [0, 1] units, positive.

    Returns:
        Module from images in [0, 1] (n, c, h, w) to logits (n, K), with children `normalize` and `network`. One of your
        own checks the logits it returns, and raises `OwnCodeError` if it fails.

    Raises:
        UnknownNameError: The model is unknown.
        OwnCodeError: A model of your own raised an error or returned no module.
        ValueError: The model does not take images of this size; the message says which it takes.
    """
    from torch import nn

    from trainables.models.normalize import Normalize
    from trainables.models.own import OwnNetwork

    factory, given = MODELS.load(name), f"image_shape={image_shape}, num_classes={num_classes}, dropout={dropout:g}"
    with calling(MODELS.kind, name, given):
        network = factory(image_shape=image_shape, num_classes=num_classes, dropout=dropout)
        if isinstance(network, nn.Module):
            weights = network.state_dict()  # fails where a subclass has not called super().__init__()
    if not isinstance(network, nn.Module):
        raise must_return(MODELS.kind, name, given, f"a torch.nn.Module, got {type(network).__name__}")
    lazy = [key for key, tensor in weights.items() if nn.parameter.is_lazy(tensor) or tensor.is_meta]
    if lazy and name not in MODELS:
        raise must_return(MODELS.kind, name, given, f"weights with values, got none for {lazy[0]} (lazy or meta)")
    children = OrderedDict[str, nn.Module](normalize=Normalize(mean, std), network=network)
    return nn.Sequential(children) if name in MODELS else OwnNetwork(children, name=name, num_classes=num_classes)
