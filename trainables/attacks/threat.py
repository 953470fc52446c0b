"""The threat model: a closed ball around an image, cut by the pixel box [0, 1]^d, and how an ascent searches it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.spec import Norm


@dataclass(frozen=True)
class ThreatModel:
    """B(x, epsilon) in `norm`, intersected with [0, 1]^d.

    All methods take images as (n, ...) in [0, 1] and treat each of the n examples on its own.

    Attributes:
        norm: `linf` or `l2`.
        epsilon: Radius, in input units.
    """

    norm: Norm
    epsilon: float

    def random_start(self, x: Tensor, /, *, generator: torch.Generator) -> Tensor:
        """Return a point drawn uniformly from the ball around each `x`, clamped to the box.

        Args:
            x: Images, (n, ...) in [0, 1].
            generator: Source of the draws; on the device of `x`.

        Returns:
            Points in ball and box, shaped as `x`.
        """
        if self.norm == "linf":
            noise = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype).mul_(2).sub_(1)
            return self.project(x + self.epsilon * noise, x)
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        share = torch.rand(len(x), generator=generator, device=x.device, dtype=x.dtype) ** (
            1 / max(1, x.shape[1:].numel())
        )
        return self.project(x + per_example(self.epsilon * share, x) * _unit(noise), x)

    def ascend(self, points: Tensor, gradient: Tensor, /, *, step: float | Tensor) -> Tensor:
        """Return `points` moved by the steepest ascent step of length `step` in this norm.

        linf moves every pixel by `step` times the sign of its gradient, l2 moves along the
        normalised gradient. A zero gradient leaves a point where it is; NaN entries count as zero.

        Args:
            points: (n, ...).
            gradient: Shaped as `points`.
            step: Length in input units; a number, or broadcastable to `points`.
        """
        gradient = torch.nan_to_num(gradient)
        return points + step * (gradient.sign() if self.norm == "linf" else _unit(gradient))

    def project(self, points: Tensor, x: Tensor, /) -> Tensor:
        """Return the points projected into the ball around `x` and then into the box.

        Clamping to a box that contains `x` never moves a point further from `x`, so the result lies
        in both sets. For linf it is the nearest such point.

        Args:
            points: (n, ...).
            x: Centres, shaped as `points`, in [0, 1].
        """
        if self.norm == "linf":
            return torch.clamp(points, (x - self.epsilon).clamp_(min=0), (x + self.epsilon).clamp_(max=1))
        delta = points - x
        shrink = (self.epsilon / self._length(delta).clamp_min(torch.finfo(x.dtype).tiny)).clamp_max(1)
        return (x + per_example(shrink, x) * delta).clamp_(0, 1)

    def distance(self, a: Tensor, b: Tensor, /) -> Tensor:
        """Return the distance of each pair in this norm, shape (n,)."""
        return self._length(a - b)

    def _length(self, delta: Tensor) -> Tensor:
        flat = delta.flatten(1)
        return flat.abs().amax(1) if self.norm == "linf" else torch.linalg.vector_norm(flat, dim=1)


@dataclass(frozen=True)
class Ascent:
    """A search of the ball by ascent.

    Attributes:
        threat: Ball and box.
        steps: Ascent steps of each restart.
        restarts: Ascents from different starts.
    """

    threat: ThreatModel
    steps: int
    restarts: int


def per_example(values: Tensor, like: Tensor, /) -> Tensor:
    """Return one value per example, (n,), in a shape that broadcasts to `like`, (n, ...)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _unit(vectors: Tensor) -> Tensor:
    # Scaled by the largest entry first: the squares of a saturated network's gradient underflow in fp32.
    largest = vectors.flatten(1).abs().amax(1)
    tiny = torch.finfo(vectors.dtype).tiny
    scaled = vectors / per_example(largest.clamp_min(tiny), vectors)
    return scaled / per_example(torch.linalg.vector_norm(scaled.flatten(1), dim=1).clamp_min(tiny), vectors)
