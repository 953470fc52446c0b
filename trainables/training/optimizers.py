"""Optimisers, and the learning rate as a pure function of progress.

The arithmetic is torch's, through the functions beneath its optimiser classes: the classes import torch's compiler
when the first one is made, which takes longer than torch itself, in every worker.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from trainables.spec import drops


def learning_rate(progress: float, /, *, schedule: str, initial: float, epochs: int) -> float:
    """Return the learning rate of one step.

    A function of progress alone: there is no scheduler state to save, and resuming cannot shift it.

    Args:
        progress: Share of all training steps already taken, in [0, 1).
        schedule: `constant`; `cosine`, falling to 0; `piecewise` and `milestones`, a tenth from each of their drops on.
        initial: Learning rate at progress 0.
        epochs: Epochs of the whole training, on which the drops of `milestones` depend.
    """
    if schedule == "cosine":
        return initial * 0.5 * (1 + math.cos(math.pi * progress))
    fallen = sum(progress >= share for share in drops(schedule, epochs=epochs))
    return float(initial * 10.0**-fallen)


class Optimizer(Protocol):
    """Changes parameters by their gradients."""

    def zero_grad(self) -> None:
        """Forget all gradients."""

    def step(self, lr: float, /) -> None:
        """Take one step of learning rate `lr`; parameters without a gradient stay."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a later `load_state_dict` needs to go on exactly."""

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """Go on from a `state_dict`."""


class _Stateful:
    """Parameters, a step count, and running tensors per parameter that start at zero."""

    def __init__(self, parameters: Iterable[nn.Parameter], *, weight_decay: float, running: int) -> None:
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._weight_decay = weight_decay
        self._steps = 0
        self._running = [[torch.zeros_like(parameter) for parameter in self._parameters] for _ in range(running)]

    def zero_grad(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self._steps, "running": self._running}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        self._steps = state["steps"]
        for mine, theirs in zip(self._running, state["running"], strict=True):
            for tensor, stored in zip(mine, theirs, strict=True):
                tensor.copy_(stored)

    def _with_gradient(self) -> tuple[list[Tensor], list[Tensor], list[list[Tensor]]]:
        """Return parameters, gradients and running tensors, without the parameters that got no gradient."""
        chosen = [index for index, parameter in enumerate(self._parameters) if parameter.grad is not None]
        parameters: list[Tensor] = [self._parameters[index] for index in chosen]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        return parameters, gradients, [[each[index] for index in chosen] for each in self._running]


class SGD(_Stateful):
    """Gradient descent with momentum and an l2 penalty: v = momentum * v + g + weight_decay * w; w = w - lr * v."""

    def __init__(self, parameters: Iterable[nn.Parameter], /, *, momentum: float, weight_decay: float) -> None:
        super().__init__(parameters, weight_decay=weight_decay, running=1)
        self._momentum = momentum

    @torch.no_grad()
    def step(self, lr: float, /) -> None:
        """Take one step of learning rate `lr`."""
        self._steps += 1
        parameters, gradients, (velocities,) = self._with_gradient()
        sgd(
            parameters, gradients, [*velocities],
            lr=lr, momentum=self._momentum, weight_decay=self._weight_decay,
            dampening=0.0, nesterov=False, maximize=False,
        )  # fmt: skip


class Adam(_Stateful):
    """Adam with an l2 penalty in the gradient, and the authors' constants.

    Source: Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization" (arXiv 1412.6980), algorithm 1.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], /, *, weight_decay: float) -> None:
        super().__init__(parameters, weight_decay=weight_decay, running=2)

    @torch.no_grad()
    def step(self, lr: float, /) -> None:
        """Take one step of learning rate `lr`."""
        parameters, gradients, (means, squares) = self._with_gradient()
        taken = [torch.tensor(float(self._steps)) for _ in parameters]  # torch adds this step itself
        self._steps += 1
        adam(
            parameters, gradients, means, squares, [], taken,
            lr=lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=self._weight_decay, amsgrad=False, maximize=False,
        )  # fmt: skip


def build_optimizer(model: nn.Module, /, *, name: str, momentum: float, weight_decay: float) -> Optimizer:
    """Return `sgd` (with momentum) or `adam` over the model's parameters."""
    if name == "adam":
        return Adam(model.parameters(), weight_decay=weight_decay)
    return SGD(model.parameters(), momentum=momentum, weight_decay=weight_decay)
