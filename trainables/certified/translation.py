"""Translating a network into layers.

Unknown modules are refused: skipping one or guessing what it computes would invalidate every bound after it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

from trainables.certified.layers import Affine, Layer, MaxPool, Relu, Shape
from trainables.models.normalize import Normalize
from trainables.models.own import OwnNetwork

_SKIPPED = (nn.Dropout, nn.Dropout2d, nn.Identity)
"""Modules that do nothing in eval mode."""

_ROUNDING = 1 + 1e-9
"""Factor applied to singular values computed in float64, far above their relative error."""


class UnsupportedModuleError(ValueError):
    """The network has a module that cannot be bounded."""


Statistics = Mapping[nn.Module, tuple[Tensor, Tensor]]
"""Mean and variance of each channel, (c,) each, by batch norm module."""


@dataclass(frozen=True)
class _Reader:
    """Reads a module's tensors; None is read as zero.

    Attributes:
        convert: Of each tensor.
        statistics: What batch norm normalises by; running statistics where a module is missing.
    """

    convert: Callable[[Tensor | None], Tensor]
    statistics: Statistics = field(default_factory=dict)

    def __call__(self, tensor: Tensor | None, /) -> Tensor:
        return self.convert(tensor)


def layers_of(model: nn.Module, shape: Shape, /, *, device: torch.device) -> list[Layer]:
    """Return the network in eval mode as layers in float64.

    Args:
        model: `nn.Sequential`, nested or not, of Normalize, Flatten, Linear, ReLU, Conv2d, BatchNorm2d with running
            statistics, MaxPool2d, AvgPool2d, Dropout, Dropout2d and Identity. Their subclasses are refused, as they
            may compute anything; so are modules with hooks or parametrisations.
        shape: Of one image.
        device: Where the layers live.

    Raises:
        UnsupportedModuleError: The model has another module, or one of these with an unsupported setting; the message
            names it.
    """
    return _translated(model, shape, _Reader(partial(_to_float64, device=device)))


def live_layers(model: nn.Module, shape: Shape, /, *, statistics: Statistics) -> list[Layer]:
    """Return the network without dropout as layers in its own precision, which gradients of the weights flow through.

    Args:
        model: See `layers_of`.
        shape: Of one image.
        statistics: What batch norm normalises by, such as those of a training pass
            (`trainables.models.modes.recorded_statistics`); running statistics where a module is missing.

    Raises:
        UnsupportedModuleError: As `layers_of` does.
    """
    zero = next(model.parameters()).new_zeros(())
    return _translated(model, shape, _Reader(lambda tensor: zero if tensor is None else tensor, statistics))


def _translated(model: nn.Module, shape: Shape, read: _Reader) -> list[Layer]:
    layers: list[Layer] = []
    for name, module in leaves(model):
        if type(module) in _SKIPPED:
            continue
        build = _BUILDERS.get(type(module))
        if build is None:
            _refuse(name, module, "is not one of them")
        if hooked(module):
            _refuse(name, module, "has hooks or an overridden forward")
        layer = build(name, module, shape, read)
        layers.append(layer)
        shape = layer.shape_out
    if not layers or len(shape) != 1:
        _refuse("", model, f"gives outputs of shape {shape}, not one vector of logits per image")
    return layers


def leaves(module: nn.Module, name: str = "", /) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers of nested sequences in order, each with its path.

    Raises:
        UnsupportedModuleError: A sequence has hooks or an overridden forward.
    """
    if type(module) in (nn.Sequential, OwnNetwork):
        if hooked(module):
            _refuse(name, module, "has hooks or an overridden forward")
        for child, inner in module.named_children():
            yield from leaves(inner, f"{name}.{child}" if name else child)
    else:
        yield name, module


def hooked(module: nn.Module, /) -> bool:
    """Return whether a module may compute something else than its class does."""
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def _to_float64(tensor: Tensor | None, *, device: torch.device) -> Tensor:
    return (
        torch.zeros((), dtype=torch.float64, device=device) if tensor is None else tensor.detach().to(device).double()
    )


def _refuse(name: str, module: nn.Module, problem: str) -> NoReturn:
    raise UnsupportedModuleError(
        f"certified bounds need an nn.Sequential of Normalize, Flatten, Linear, ReLU, Conv2d, BatchNorm2d, MaxPool2d, "
        f"AvgPool2d and Dropout, got {type(module).__name__} at `{name or 'the top'}`, which {problem} "
        f"(models mlp, cnn_small, cnn1 and cnn2 qualify, and lipschitz_cnn in l2)"
    )


def _scale(weight: Tensor, bias: Tensor, offset: Tensor, shape: Shape) -> Affine:
    return Affine(
        weight=weight,
        forward=torch.mul,
        backward=torch.mul,
        bias=bias,
        offset=offset,
        terms=8,
        bound_norm=lambda: float(weight.abs().max()) * _ROUNDING,
        shape_in=shape,
        shape_out=shape,
        cost=0,
    )


def _normalize(name: str, module: Any, shape: Shape, read: _Reader) -> Affine:
    mean, std = read(module.mean)[0], read(module.std)[0]
    return _scale(1 / std, -mean / std, (mean / std).abs(), shape)


def _batch_norm(name: str, module: Any, shape: Shape, read: _Reader) -> Affine:
    if module.running_mean is None:
        _refuse(name, module, "keeps no running statistics")
    mean, variance = map(read, read.statistics.get(module, (module.running_mean, module.running_var)))
    weight = 1.0 if module.weight is None else read(module.weight)
    weight = weight / (variance + module.eps).sqrt()
    shift, bias = mean * weight, read(module.bias)
    column = (-1, 1, 1)
    return _scale(weight.view(column), (bias - shift).view(column), (bias.abs() + shift.abs()).view(column), shape)


def _flatten(name: str, module: Any, shape: Shape, read: _Reader) -> Affine:
    if (module.start_dim, module.end_dim) != (1, -1):
        _refuse(name, module, "keeps some dimensions")
    zero, flat = read(None), (math.prod(shape),)
    return Affine(
        weight=zero + 1,
        forward=lambda x, weight: x.flatten(1) * weight,
        backward=lambda v, weight: v.reshape(-1, *shape) * weight,
        bias=zero,
        offset=zero,
        terms=0,
        bound_norm=lambda: 1.0,
        shape_in=shape,
        shape_out=flat,
        cost=0,
    )


def _linear(name: str, module: Any, shape: Shape, read: _Reader) -> Affine:
    weight, bias = read(module.weight), read(module.bias)
    return Affine(
        weight=weight,
        forward=lambda x, weight: x @ weight.T,
        backward=lambda v, weight: v @ weight,
        bias=bias,
        offset=bias.abs(),
        terms=max(weight.shape) + 2,
        bound_norm=lambda: _largest_singular_value(weight),
        shape_in=shape,
        shape_out=(*shape[:-1], len(weight)),
        cost=weight.numel() * math.prod(shape[:-1]),
    )


def _conv(name: str, module: Any, shape: Shape, read: _Reader) -> Affine:
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        _refuse(
            name, module, f"pads in mode {module.padding_mode!r} by {module.padding!r}, not by a given number of zeros"
        )
    bias = read(module.bias).view(-1, 1, 1)
    settings = (module.stride, module.padding, module.dilation, module.groups)
    return _convolution(read(module.weight), bias, shape, settings, planes=False)


def _avg_pool(name: str, module: Any, shape: Shape, read: _Reader) -> Affine:
    kernel, stride, padding = (_pair(value) for value in (module.kernel_size, module.stride, module.padding))
    if module.ceil_mode or module.divisor_override is not None:
        _refuse(name, module, "has ceil_mode or divisor_override")
    if padding != (0, 0) and not module.count_include_pad:
        _refuse(name, module, "leaves padding out of its averages")
    weight = (read(None) + 1 / math.prod(kernel)).expand(1, 1, *kernel)
    return _convolution(weight, read(None), shape, (stride, padding, (1, 1), 1), planes=True)


def _convolution(weight: Tensor, bias: Tensor, shape: Shape, settings: tuple[Any, ...], *, planes: bool) -> Affine:
    """Return a convolution; with `planes`, of each plane separately."""
    folded = (1, *shape[1:]) if planes else shape

    def forward(x: Tensor, weight: Tensor) -> Tensor:
        result = F.conv2d(x.reshape(-1, *folded), weight, None, *settings)
        return result.reshape(len(x), -1, *result.shape[2:])

    out = forward(torch.zeros(1, *shape).to(weight), weight).shape[1:]

    def backward(v: Tensor, weight: Tensor) -> Tensor:
        rows = v.reshape(-1, *((1, *out[1:]) if planes else out))
        result: Tensor = conv2d_input((len(rows), *folded), weight, rows, *settings)  # type: ignore[no-untyped-call]
        return result.reshape(len(v), *shape)

    _, padding, dilation, groups = settings
    return Affine(
        weight=weight,
        forward=forward,
        backward=backward,
        bias=bias,
        offset=bias.abs(),
        terms=max(weight[0].numel(), weight[:, 0].numel() // groups) + 2,
        bound_norm=lambda: _convolution_norm(weight, folded, padding=padding, dilation=dilation, groups=groups),
        shape_in=shape,
        shape_out=tuple(out),
        cost=math.prod(out) * weight[0].numel(),
    )


def _convolution_norm(weight: Tensor, shape: Shape, *, padding: Any, dilation: Any, groups: int) -> float:
    """Bound the largest singular value of a zero-padded convolution.

    On a torus large enough not to wrap around, the padded input and kernel give every output of the convolution and
    more, so its norm is at most that of the torus: the largest singular value, over frequencies, of the kernel's
    Fourier transform. A stride omits outputs, and groups are blocks of a block-diagonal map: neither raises the norm.

    Source: Sedghi, Gupta, Long 2019, "The Singular Values of Convolutional Layers" (arXiv 1805.10408), theorem 6.
    """
    kernel = weight.new_zeros(
        *weight.shape[:2], *(d * (k - 1) + 1 for k, d in zip(weight.shape[2:], dilation, strict=True))
    )
    kernel[..., :: dilation[0], :: dilation[1]] = weight
    torus = [side + 2 * pad + size for side, pad, size in zip(shape[1:], padding, kernel.shape[2:], strict=True)]
    blocks = torch.fft.rfft2(kernel, s=torus).permute(2, 3, 0, 1)
    blocks = blocks.reshape(*blocks.shape[:2], groups, -1, blocks.shape[3])
    return _largest_singular_value(blocks)


def _largest_singular_value(matrices: Tensor) -> float:
    finite = bool(matrices.isfinite().all())
    return float(torch.linalg.svdvals(matrices).max()) * _ROUNDING if finite else math.inf


def _relu(name: str, module: Any, shape: Shape, read: _Reader) -> Relu:
    return Relu(shape, shape)


def _max_pool(name: str, module: Any, shape: Shape, read: _Reader) -> MaxPool:
    if module.ceil_mode or module.return_indices:
        _refuse(name, module, "has ceil_mode or return_indices")
    settings = (module.kernel_size, module.stride, module.padding, module.dilation)
    kernel, stride, padding, dilation = (_pair(value) for value in settings)
    out = tuple(F.max_pool2d(torch.zeros(1, *shape), *settings).shape[1:])
    return MaxPool(kernel, stride, padding, dilation, shape, out)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


_BUILDERS: dict[type[nn.Module], Callable[[str, Any, Shape, _Reader], Layer]] = {
    Normalize: _normalize,
    nn.Flatten: _flatten,
    nn.Linear: _linear,
    nn.ReLU: _relu,
    nn.Conv2d: _conv,
    nn.BatchNorm2d: _batch_norm,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _avg_pool,
}
