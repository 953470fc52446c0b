"""A network at other weights, for as long as something is computed with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

Result = TypeVar("Result")


class _Computation(nn.Module):
    """What is computed with a network, as a module, whose weights torch can exchange."""

    def __init__(self, model: nn.Module, compute: Callable[[], object]) -> None:
        super().__init__()
        self.model = model
        self._compute = compute

    def forward(self) -> object:
        return self._compute()


def at_moved_weights(model: nn.Module, moves: Mapping[str, Tensor], compute: Callable[[], Result], /) -> Result:
    """Return what is computed while the network has its weights plus fixed moves, also by reading its layers.

    Gradients are those of its own weights: the derivative by a weight is the one at the moved weight. Afterwards it has
    its own weights again, even after an error; modes and buffers are not touched.

    Args:
        model: The network.
        moves: What is added to its parameters, by name; shaped as they are, without gradient history.
        compute: Uses the network.
    """
    weights = {f"model.{name}": model.get_parameter(name) + move for name, move in moves.items()}
    result: Result = functional_call(_Computation(model, compute), weights, ())
    return result


def moves_up(model: nn.Module, loss: Tensor, /, *, share: float) -> dict[str, Tensor]:
    """Return share * ||w|| g / ||g|| for each weight tensor w of two or more dimensions, by name.

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
    return {
        name: share * (weight.detach().norm() / slope.norm().clamp_min(torch.finfo(slope.dtype).tiny)) * slope
        for (name, weight), slope in zip(weights.items(), slopes, strict=True)
        if slope is not None
    }
