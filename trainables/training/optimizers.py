"""Optimisers, and the learning rate and warm-up as pure functions of progress.

They call the functions that torch's optimiser classes call. The classes themselves import torch's compiler when the
first one is created, which takes longer than importing torch, in every worker.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from trainables.spec import drops


def learning_rate(progress: float, /, *, schedule: str, initial: float, epochs: int) -> float:
    """Return the learning rate of one step.

    As it depends on progress only, there is no scheduler state to save, and resuming cannot shift it.

    Args:
        progress: Share of all training steps already taken, in [0, 1).
        schedule: `constant`; `cosine`, falling to 0; `piecewise` and `milestones`, a tenth after each of their drops.
        initial: Learning rate at progress 0.
        epochs: Epochs of the whole training, on which the drops of `milestones` depend.
    """
    if schedule == "cosine":
        return initial * 0.5 * (1 + math.cos(math.pi * progress))
    num_drops = sum(progress >= share for share in drops(schedule, epochs=epochs))
    return float(initial * 10.0**-num_drops)


def rise(step: int, /, *, steps: int, share: float) -> float:
    """Return min(1, (step + 1) / (share * steps)), by which a quantity rises to its value in the first steps.

    Args:
        step: Training steps already taken.
        steps: Steps of the whole training.
        share: Share of them after which it is 1, in [0, 1); at 0 it always is.
    """
    return 1.0 if step + 1 >= share * steps else (step + 1) / (share * steps)


class Optimizer:
    """Changes parameters by their gradients, with a step count and running tensors that start at zero."""

    def __init__(self, parameters: Iterable[nn.Parameter], *, weight_decay: float, running: int) -> None:
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._weight_decay = weight_decay
        self._steps = 0
        self._running = [[torch.zeros_like(parameter) for parameter in self._parameters] for _ in range(running)]

    def zero_grad(self) -> None:
        """Clear all gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Return the state from which `load_state_dict` resumes exactly."""
        return {"steps": self._steps, "running": self._running}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """Resume from a `state_dict`."""
        self._steps = state["steps"]
        for tensors, saved in zip(self._running, state["running"], strict=True):
            for tensor, value in zip(tensors, saved, strict=True):
                tensor.copy_(value)

    def _with_gradient(self) -> tuple[list[Tensor], list[Tensor], list[list[Tensor]]]:
        """Return the parameters that have a gradient, their gradients, and their running tensors."""
        chosen = [index for index, parameter in enumerate(self._parameters) if parameter.grad is not None]
        parameters: list[Tensor] = [self._parameters[index] for index in chosen]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        return parameters, gradients, [[tensors[index] for index in chosen] for tensors in self._running]


class SGD(Optimizer):
    """Gradient descent with momentum and an l2 penalty: v = momentum * v + g + weight_decay * w; w = w - lr * v."""

    def __init__(self, parameters: Iterable[nn.Parameter], /, *, momentum: float, weight_decay: float) -> None:
        super().__init__(parameters, weight_decay=weight_decay, running=1)
        self._momentum = momentum

    @torch.no_grad()
    def step(self, lr: float, /) -> None:
        """Take one step with learning rate `lr`; parameters without a gradient do not change."""
        self._steps += 1
        parameters, gradients, (velocities,) = self._with_gradient()
        sgd(
            parameters, gradients, [*velocities],
            lr=lr, momentum=self._momentum, weight_decay=self._weight_decay,
            dampening=0.0, nesterov=False, maximize=False,
        )  # fmt: skip


class Adam(Optimizer):
    """Adam with an l2 penalty in the gradient, and the authors' constants.

    Source: Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization" (arXiv 1412.6980), algorithm 1.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], /, *, weight_decay: float) -> None:
        super().__init__(parameters, weight_decay=weight_decay, running=2)

    @torch.no_grad()
    def step(self, lr: float, /) -> None:
        """Take one step with learning rate `lr`; parameters without a gradient do not change."""
        parameters, gradients, (means, squares) = self._with_gradient()
        taken = [torch.tensor(float(self._steps)) for _ in parameters]  # torch adds the current step
        self._steps += 1
        adam(
            parameters, gradients, means, squares, [], taken,
            lr=lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=self._weight_decay, amsgrad=False, maximize=False,
        )  # fmt: skip


def build_optimizer(model: nn.Module, /, *, name: str, momentum: float, weight_decay: float) -> SGD | Adam:
    """Return `sgd` (with momentum) or `adam` over the model's parameters."""
    if name == "adam":
        return Adam(model.parameters(), weight_decay=weight_decay)
    return SGD(model.parameters(), momentum=momentum, weight_decay=weight_decay)
