"""Bounds on every activation over a ball, cut by the pixel box.

Three bounds, each sound by itself, are intersected: intervals propagated forwards (Gowal et al. 2018, arXiv 1810.12715,
section 3); the largest l2 distance between the activations of x' and those of x; and, where the budget allows, linear
relaxations propagated back to the input (Zhang et al. 2018, CROWN, arXiv 1811.00866, section 3.2, adaptive lower
slopes).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.attacks.threat import ThreatModel
from trainables.certified.intervals import dot, through_affine, through_monotone
from trainables.certified.layers import Affine, Layer, MaxPool, Relu

ELEMENTS = 2**22
"""Numbers in the largest intermediate tensor; about ten of them live at once. Results do not depend on it."""

FLOAT32 = 1.01 * 2.0**-24
"""Unit round-off of float32, with room for the second order of sums of up to 100,000 terms."""

_POINT_SLACK = 2.0**-21
"""Most that rounding a point to float32 adds to its distance from x, in input units per pixel."""


@dataclass(frozen=True)
class Ball:
    """B(x, epsilon), widened to contain points that rounding to float32 moves out of it.

    Attributes:
        centre: x, (n, ...) float64.
        lower: Smallest values of the points, shaped as `centre`.
        upper: Largest.
        length: Radius in l2, or None for linf.
    """

    centre: Tensor
    lower: Tensor
    upper: Tensor
    length: float | None


def ball_around(images: Tensor, /, *, threat: ThreatModel) -> Ball:
    """Return the ball of each image, (n, ...) in [0, 1]."""
    centre = images.double()
    radius = threat.epsilon
    if threat.norm == "l2" and radius > 0:
        radius = radius * (1 + 1e-5) + _POINT_SLACK * math.sqrt(centre[0].numel())
    elif radius > 0:
        radius += _POINT_SLACK
    lower, upper = (centre - radius).clamp_min(0), (centre + radius).clamp_max(1)
    return Ball(centre, lower, upper, radius if threat.norm == "l2" else None)


@dataclass(frozen=True)
class Activations:
    """Bounds on each layer's input and, last, on the logits, for n examples.

    Attributes:
        lower: (n, *shape_in) of each layer, then (n, K).
        upper: Likewise.
        values: Likewise, values at the centre of the ball.
        noise: Bound on float32's rounding error in each layer's output, (n, *shape_out); None if it rounds nothing.
    """

    lower: list[Tensor] = field(default_factory=list)
    upper: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    noise: list[Tensor | None] = field(default_factory=list)


def bound_activations(layers: list[Layer], ball: Ball, /, *, budget: float) -> Activations:
    """Bound every activation over the ball, in exact arithmetic and in float32.

    For `l2` intervals start from the linf ball of the same radius, which contains the l2 ball.

    Args:
        layers: The network, at least one layer.
        ball: The points.
        budget: Linear relaxations tighten a nonlinear layer's input if that takes at most this many multiplications
            per example.
    """
    activations = Activations()
    values, lower, upper = ball.centre, ball.lower, ball.upper
    distance = torch.maximum(upper - values, values - lower).flatten(1).norm(dim=1)
    if ball.length is not None:
        distance = distance.clamp_max(ball.length)
    for index, layer in enumerate(layers):
        activations.lower.append(lower)
        activations.upper.append(upper)
        activations.values.append(values)
        noise = None
        if isinstance(layer, Affine):
            noise = _noise(layer, lower, upper)
            values, distance, (lower, upper) = _through_affine(layer, values, distance, lower, upper, noise)
        else:
            values, lower, upper = (through_monotone(layer, bound) for bound in (values, lower, upper))
            distance = distance if isinstance(layer, Relu) else layer.spectral * distance
        activations.noise.append(noise)
        if can_tighten(layers, index) and 2 * lower[0].numel() * cost_of(layers[: index + 1]) <= budget:
            lower, upper = _refine(layers[: index + 1], activations, ball, lower, upper)
    activations.lower.append(lower)
    activations.upper.append(upper)
    activations.values.append(values)
    return activations


def can_tighten(layers: list[Layer], index: int, /) -> bool:
    """Return whether the layer at `index` feeds a nonlinear one and more than one mixing map leads up to its output.

    A single map is bounded exactly anyway, and consecutive affine maps are pulled back together.
    """
    mixing = sum(layer.cost > 0 for layer in layers[: index + 1] if isinstance(layer, Affine))
    feeds = index + 1 < len(layers) and not isinstance(layers[index + 1], Affine)
    return mixing > 1 and feeds and isinstance(layers[index], Affine)


def cost_of(layers: list[Layer], /) -> int:
    """Return the number of multiplications to pull one row back through all of the layers."""
    return sum(layer.cost for layer in layers if isinstance(layer, Affine))


def _noise(layer: Affine, lower: Tensor, upper: Tensor) -> Tensor:
    """Bound the rounding error of the layer in float32, summed in any order: terms * unit * (|A| |x| + |bias|)."""
    largest = torch.maximum(lower.abs(), upper.abs())
    return layer.terms * FLOAT32 * (layer.forward(largest, layer.magnitude) + layer.offset)


def _through_affine(
    layer: Affine, values: Tensor, distance: Tensor, lower: Tensor, upper: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    centre, radius = through_affine(layer, lower, upper)
    radius = radius + noise
    values = layer.forward(values, layer.weight) + layer.bias
    radius_l2 = distance.view(-1, *[1] * (values.ndim - 1)) * layer.row_norms + noise
    distance = layer.spectral * distance + noise.flatten(1).norm(dim=1)
    return (
        values,
        distance,
        (torch.maximum(centre - radius, values - radius_l2), torch.minimum(centre + radius, values + radius_l2)),
    )


def chunks(count: int, /, *, layers: list[Layer], examples: int) -> Iterator[slice]:
    """Yield slices of `count` rows, each small enough to fit in memory for that many examples."""
    widest = max(max(math.prod(layer.shape_in), math.prod(layer.shape_out)) for layer in layers)
    size = max(1, ELEMENTS // (examples * widest))
    for begin in range(0, count, size):
        yield slice(begin, min(begin + size, count))


def _refine(
    layers: list[Layer], activations: Activations, ball: Ball, lower: Tensor, upper: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the output's bounds, tightened for every unit that may have either sign for some example."""
    shape, size = lower.shape[1:], lower[0].numel()
    unstable = ((lower < 0) & (upper > 0)).flatten(1).any(0)
    units = torch.arange(size, device=lower.device)[unstable]
    lower, upper = lower.flatten(1).clone(), upper.flatten(1).clone()
    for part in chunks(len(units), layers=layers, examples=len(lower)):
        chosen = units[part]
        rows = F.one_hot(chosen, size).to(lower).view(1, -1, *shape).expand(len(lower), -1, *shape)
        lower[:, chosen] = torch.maximum(lower[:, chosen], lower_bounds(rows, layers, activations, ball))
        upper[:, chosen] = torch.minimum(upper[:, chosen], -lower_bounds(-rows, layers, activations, ball))
    return lower.reshape(-1, *shape), upper.reshape(-1, *shape)


def lower_bounds(rows: Tensor, layers: list[Layer], activations: Activations, ball: Ball, /) -> Tensor:
    """Bound row . output from below over the ball, pulling each row back layer by layer.

    At every layer the row is combined with the bounds on that layer's input, and the best of the results is returned:
    it is never worse than intervals with the last linear map merged into the row.

    Args:
        rows: (n, r, *shape_out of the last of `layers`).
        layers: The network or its first layers.
        activations: Bounds on the input of each of them.
        ball: The points.

    Returns:
        (n, r); -inf where there is no bound, also in place of NaN.
    """
    constant = torch.zeros(rows.shape[:2]).to(rows)
    best = torch.full_like(constant, -torch.inf)
    for index in reversed(range(len(layers))):
        layer, lower, upper = layers[index], activations.lower[index], activations.upper[index]
        if isinstance(layer, Affine):
            noise = activations.noise[index]
            constant = constant + (rows * layer.bias).flatten(2).sum(2)
            if noise is not None:
                constant = constant - dot(rows.abs(), noise)
            rows = layer.pull_back(rows, layer.weight)
        elif isinstance(layer, Relu):
            rows, constant = _relax_relu(rows, constant, lower, upper)
        else:
            rows, constant = _relax_max_pool(layer, rows, constant, lower, upper)
        at_worst = dot(rows, (lower + upper) / 2) - dot(rows.abs(), (upper - lower) / 2)
        best = torch.maximum(best, (constant + at_worst).nan_to_num(nan=-torch.inf))
    if ball.length is not None:
        at_worst = dot(rows, ball.centre) - ball.length * rows.flatten(2).norm(dim=2)
        best = torch.maximum(best, (constant + at_worst).nan_to_num(nan=-torch.inf))
    return best


def _relax_relu(rows: Tensor, constant: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Replace ReLU by a line below it where the row is positive, and by the chord above it where it is negative."""
    unstable = (lower < 0) & (upper > 0)
    active = (lower >= 0).to(rows)
    chord = torch.where(unstable, upper / torch.where(unstable, upper - lower, 1), active)
    lower_slope = torch.where(unstable, (upper > -lower).to(rows), active)
    intercept = torch.where(unstable, -lower * chord, 0)
    constant = constant + dot(rows.clamp_max(0), intercept)
    return rows * torch.where(rows > 0, lower_slope.unsqueeze(1), chord.unsqueeze(1)), constant


def _relax_max_pool(
    layer: MaxPool, rows: Tensor, constant: Tensor, lower: Tensor, upper: Tensor
) -> tuple[Tensor, Tensor]:
    """Replace the maximum from below by one of its inputs; from above by that if no other can win, or by a constant."""
    best, winner = layer.forward(lower)
    candidates = layer.windows(layer.pad(upper, value=-torch.inf))
    contested = torch.stack([view >= best for view in candidates]).sum(0) > 1
    capped = (rows < 0) & contested.unsqueeze(1)
    constant = constant + dot(torch.where(capped, rows, 0), layer.forward(upper)[0])
    uncapped = torch.where(capped, 0, rows).flatten(3)
    plane = torch.zeros(*rows.shape[:2], layer.shape_in[0], math.prod(layer.shape_in[1:])).to(rows)
    plane.scatter_add_(3, winner.flatten(2).unsqueeze(1).expand_as(uncapped), uncapped)
    return plane.reshape(*rows.shape[:2], *layer.shape_in), constant
