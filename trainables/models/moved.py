"""A network at other weights, whose gradients are those of its own weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call


class Moved(nn.Module):
    """The same network at its weights plus fixed moves.

    The derivative by a weight is the one at the moved weight. Nothing is changed in place, so the network is as before
    even after an error; modes and buffers are shared with it.

    Args:
        model: The network.
        moves: What is added to its parameters, by name; shaped as they are, without gradient history.
    """

    def __init__(self, model: nn.Module, moves: Mapping[str, Tensor], /) -> None:
        super().__init__()
        self.model = model
        self._moves = dict(moves)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits at the moved weights."""
        weights = {name: self.model.get_parameter(name) + move for name, move in self._moves.items()}
        logits: Tensor = functional_call(self.model, weights, (x,))
        return logits


def moved_up(model: nn.Module, loss: Tensor, /, *, share: float) -> Moved:
    """Return the network with each weight tensor w of two or more dimensions moved by share * ||w|| g / ||g||.

    g is the gradient of the loss by w. Tensors of one dimension, which biases and batch norm have, stay, and so does
    one without a gradient or with a gradient of zero.

    Args:
        model: The network.
        loss: A scalar that depends on its weights; its graph is used up.
        share: gamma.

    Source: Wu et al. 2020, "Adversarial Weight Perturbation Helps Robust Generalization" (arXiv 2004.05884), equations
    8 to 10 with one step, compared with the authors' code. They restore the weights after the optimiser's step, so
    that their weight decay sees the moved ones; here it sees w.
    """
    weights = {name: one for name, one in model.named_parameters() if one.ndim > 1 and one.requires_grad}
    slopes = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    moves = {
        name: share * (weight.detach().norm() / slope.norm().clamp_min(torch.finfo(slope.dtype).tiny)) * slope
        for (name, weight), slope in zip(weights.items(), slopes, strict=True)
        if slope is not None
    }
    return Moved(model, moves)
