"""A network as a list of layers that bounds can be pushed through, forwards and backwards, in float64.

Three kinds are enough for the project's plain networks: affine maps, ReLU, max pooling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Affine:
    """x -> A x + bias, with A given by what it does to a batch.

    Attributes:
        weight: What A is made of; entries of A are entries of it or 0.
        forward: (x (m, *shape_in), weight) to A x (m, *shape_out), for any weight of this shape.
        backward: (v (m, *shape_out), weight) to A^T v (m, *shape_in).
        bias: Broadcastable to `shape_out`.
        offset: At least the sum of the magnitudes that make up the bias; rounding errors are relative to it.
        terms: Most summands and roundings that one output depends on, in either direction.
        spectral: At least the largest singular value of A.
        shape_in: Of one example.
        shape_out: Of one example.
        mixes: Whether an output depends on more than one input.
        cost: Multiplications to apply A once.
    """

    weight: Tensor
    forward: Callable[[Tensor, Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]
    bias: Tensor
    offset: Tensor
    terms: int
    spectral: float
    shape_in: Shape
    shape_out: Shape
    mixes: bool
    cost: int

    def pull_back(self, rows: Tensor, weight: Tensor, /) -> Tensor:
        """Return `backward` of (n, r, *shape_out) as (n, r, *shape_in)."""
        flat = self.backward(rows.reshape(-1, *self.shape_out), weight)
        return flat.reshape(*rows.shape[:2], *self.shape_in)

    @cached_property
    def magnitude(self) -> Tensor:
        """Weights without their signs."""
        return self.weight.abs()

    @cached_property
    def row_norms(self) -> Tensor:
        """l2 norm of each row of A, (1, *shape_out)."""
        ones = torch.ones(1, *self.shape_in).to(self.weight)
        return self.forward(ones, self.weight.square()).sqrt()


@dataclass(frozen=True)
class Relu:
    """x -> max(x, 0) elementwise."""

    shape_in: Shape
    shape_out: Shape


@dataclass(frozen=True)
class MaxPool:
    """The maximum of each window; padding never wins.

    Attributes:
        kernel: (rows, columns) of the window; likewise stride, padding and dilation.
        stride: Of the windows.
        padding: Rows above and below, columns left and right.
        dilation: Distance of neighbours within a window.
        shape_in: (c, h, w).
        shape_out: (c, h, w).
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    shape_in: Shape
    shape_out: Shape

    def forward(self, x: Tensor, /) -> tuple[Tensor, Tensor]:
        """Return maxima (n, *shape_out) and the winners' positions in their flat plane, of the same shape."""
        pooled, winners = F.max_pool2d(
            x, self.kernel, self.stride, self.padding, self.dilation, ceil_mode=False, return_indices=True
        )
        return pooled, winners

    def windows(self, padded: Tensor, /) -> Iterator[Tensor]:
        """Yield, for each place in the window, the view of `padded` (..., h, w) with every window's entry there."""
        height, width = self.shape_out[1:]
        for row in range(self.kernel[0]):
            for column in range(self.kernel[1]):
                top, left = row * self.dilation[0], column * self.dilation[1]
                yield padded[
                    ...,
                    top : top + self.stride[0] * (height - 1) + 1 : self.stride[0],
                    left : left + self.stride[1] * (width - 1) + 1 : self.stride[1],
                ]

    def pad(self, x: Tensor, /, *, value: float) -> Tensor:
        """Return (..., h, w) with the padding around it."""
        return F.pad(x, (self.padding[1], self.padding[1], self.padding[0], self.padding[0]), value=value)

    def crop(self, padded: Tensor, /) -> Tensor:
        """Undo `pad`."""
        height, width = self.shape_in[1:]
        return padded[..., self.padding[0] : self.padding[0] + height, self.padding[1] : self.padding[1] + width]

    @property
    def spectral(self) -> float:
        """Lipschitz constant in l2: root of the number of windows an input can win."""
        reuse = [
            math.ceil(k / s) if d == 1 else k for k, s, d in zip(self.kernel, self.stride, self.dilation, strict=True)
        ]
        return math.sqrt(math.prod(reuse))


Layer = Affine | Relu | MaxPool
