"""Train and eval mode, set for a block and restored module by module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from trainables.spec import Mode


@contextmanager
def mode(model: nn.Module, /, *, bn: Mode = "eval", dropout: Mode = "eval") -> Iterator[None]:
    """Put the model in eval mode inside the block, except for the modes in `bn` and `dropout`.

    Every module's own flag is restored afterwards, also after an exception. With `bn="train"` each
    forward pass updates running statistics; otherwise no buffer changes.

    Args:
        model: Any module; `bn` and `dropout` apply to torch's own normalisation and dropout modules.
        bn: Mode of modules that keep running statistics.
        dropout: Mode of dropout modules.
    """
    before = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        for module, _ in before:
            if isinstance(module, _NormBase):
                module.training = bn == "train"
            elif isinstance(module, _DropoutNd):
                module.training = dropout == "train"
        yield
    finally:
        for module, training in before:
            module.training = training


@contextmanager
def frozen_statistics(model: nn.Module, /) -> Iterator[None]:
    """Let batch norm use each batch's statistics inside the block without updating the running ones."""
    before = [(module, module.track_running_stats) for module in model.modules() if isinstance(module, _NormBase)]
    try:
        for module, _ in before:
            module.track_running_stats = False
        yield
    finally:
        for module, tracks in before:
            module.track_running_stats = tracks


def frozen(model: nn.Module, /) -> nn.Module:
    """Return the model itself, in eval mode and without gradients of its weights."""
    return model.eval().requires_grad_(requires_grad=False)


def has_batch_statistics(model: nn.Module, /) -> bool:
    """Return whether a training pass of `model` normalises over the batch."""
    return any(isinstance(module, _NormBase) for module in model.modules())


def batch_statistics(model: nn.Module, /) -> list[Tensor]:
    """Return the running statistics that training passes of `model` update."""
    return [
        buffer
        for module in model.modules()
        if isinstance(module, _NormBase)
        for buffer in module.buffers(recurse=False)
    ]


@contextmanager
def recorded_statistics(model: nn.Module, /) -> Iterator[dict[nn.Module, tuple[Tensor, Tensor]]]:
    """Record what batch norm in training mode normalises by in the block's last pass, with its gradient.

    Yields:
        Mean and biased variance of each channel, (c,) each, by module; empty until a pass.
    """
    recorded: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def record(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        if module.training:
            values = given[0].float() if given[0].dtype.itemsize < 4 else given[0]
            axes = [axis for axis in range(values.ndim) if axis != 1]
            recorded[module] = (values.mean(axes), values.var(axes, correction=0))

    norms = (module for module in model.modules() if isinstance(module, _NormBase))
    hooks = [module.register_forward_pre_hook(record) for module in norms]
    try:
        yield recorded
    finally:
        for hook in hooks:
            hook.remove()
