"""A network as a list of layers that bounds can be propagated through, forwards and backwards, in float64.

Three kinds suffice for the project's plain networks: affine maps, ReLU and max pooling.
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
    """x -> A x + bias, with A given as functions of a batch.

    Attributes:
        weight: Its entries, and 0, are the entries of A.
        forward: (x (m, *shape_in), weight) to A x (m, *shape_out), for any weight of this shape.
        backward: (v (m, *shape_out), weight) to A^T v (m, *shape_in).
        bias: Broadcastable to `shape_out`.
        offset: Upper bound on the sum of the magnitudes of the bias's terms; rounding errors are relative to it.
        terms: Largest number of summands and roundings that one output depends on, in either direction.
        bound_norm: Returns `spectral`, which takes long and is not always needed.
        shape_in: Of one example.
        shape_out: Of one example.
        cost: Number of multiplications to apply A once; 0 if every output depends on one input only.
    """

    weight: Tensor
    forward: Callable[[Tensor, Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]
    bias: Tensor
    offset: Tensor
    terms: int
    bound_norm: Callable[[], float]
    shape_in: Shape
    shape_out: Shape
    cost: int

    def pull_back(self, rows: Tensor, weight: Tensor, /) -> Tensor:
        """Apply `backward` to rows (n, r, *shape_out) and return (n, r, *shape_in)."""
        flat = self.backward(rows.reshape(-1, *self.shape_out), weight)
        return flat.reshape(*rows.shape[:2], *self.shape_in)

    @cached_property
    def spectral(self) -> float:
        """Upper bound on the largest singular value of A."""
        return self.bound_norm()

    @cached_property
    def magnitude(self) -> Tensor:
        """Absolute values of the weights."""
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
        stride: Between windows.
        padding: Rows above and below, columns left and right.
        dilation: Distance between neighbours within a window.
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
        """Return maxima (n, *shape_out) and the winners' positions in their flattened plane, of the same shape."""
        pooled, winners = F.max_pool2d(
            x, self.kernel, self.stride, self.padding, self.dilation, ceil_mode=False, return_indices=True
        )
        return pooled, winners

    def windows(self, padded: Tensor, /) -> Iterator[Tensor]:
        """Yield, for each place in the window, the view of `padded` (..., h, w) with each window's entry there."""
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
        """Return (..., h, w) padded on all sides."""
        return F.pad(x, (self.padding[1], self.padding[1], self.padding[0], self.padding[0]), value=value)

    def crop(self, padded: Tensor, /) -> Tensor:
        """Undo `pad`."""
        height, width = self.shape_in[1:]
        return padded[..., self.padding[0] : self.padding[0] + height, self.padding[1] : self.padding[1] + width]

    @property
    def spectral(self) -> float:
        """Lipschitz constant in l2: the square root of the number of windows that one input can win."""
        reuse = [
            math.ceil(k / s) if d == 1 else k for k, s, d in zip(self.kernel, self.stride, self.dilation, strict=True)
        ]
        return math.sqrt(math.prod(reuse))


Layer = Affine | Relu | MaxPool
