"""Interval bounds in any precision, with gradients: what certificates and training on worst cases share.

Source: Gowal et al. 2018, "On the Effectiveness of Interval Bound Propagation" (arXiv 1810.12715), section 3.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.attacks.threat import ThreatModel
from trainables.certified.layers import Affine, Layer, MaxPool, Relu


def through_affine(layer: Affine, lower: Tensor, upper: Tensor, /) -> tuple[Tensor, Tensor]:
    """Return centre and half width of the values that a box can take, (n, *shape_out) each."""
    centre = layer.forward((lower + upper) / 2, layer.weight) + layer.bias
    return centre, layer.forward((upper - lower) / 2, layer.magnitude)


def through_monotone(layer: Relu | MaxPool, values: Tensor, /) -> Tensor:
    """Return the layer's output; of bounds, its bounds."""
    return values.clamp_min(0) if isinstance(layer, Relu) else layer.forward(values)[0]


def dot(rows: Tensor, values: Tensor, /) -> Tensor:
    """Return the product of each row, (n, r, ...), with the values of its example, (n, ...): (n, r)."""
    return torch.bmm(rows.flatten(2), values.flatten(1).unsqueeze(2)).squeeze(2)


def worst_case_logits(layers: list[Layer], images: Tensor, labels: Tensor, /, *, threat: ThreatModel) -> Tensor:
    """Return upper bounds on z_k - z_y over the ball cut by the box, (n, K); 0 for k = y.

    No point of the ball has a larger cross-entropy than these as logits. The last layer is merged into the differences.
    Of an l2 ball the first layer that mixes pixels is bounded by the norm of its rows, and what follows by intervals.

    Args:
        layers: The network, see `trainables.certified.translation.live_layers`.
        images: (n, ...) in [0, 1].
        labels: (n,) int64.
        threat: Ball and box.
    """
    lower, upper = (images - threat.epsilon).clamp_min(0), (images + threat.epsilon).clamp_max(1)
    ellipsoid = None if threat.norm == "linf" else (images, torch.full_like(images, threat.epsilon**2))
    last = layers[-1]
    for layer in layers[:-1] if isinstance(last, Affine) else layers:
        if not isinstance(layer, Affine):
            lower, upper, ellipsoid = through_monotone(layer, lower), through_monotone(layer, upper), None
            continue
        centre, half = through_affine(layer, lower, upper)
        lower, upper = centre - half, centre + half
        if ellipsoid is not None:
            lower, upper, ellipsoid = _cut(layer, lower, upper, *ellipsoid)
    classes = math.prod(last.shape_out)
    rows = torch.eye(classes).to(lower) - F.one_hot(labels, classes).to(lower).unsqueeze(1)
    constant = lower.new_zeros(())
    if isinstance(last, Affine):
        constant = (rows * last.bias).sum(2)
        rows = last.pull_back(rows, last.weight)
    bounds = dot(rows, (lower + upper) / 2) + dot(rows.abs(), (upper - lower) / 2)
    if ellipsoid is not None:
        values, squares = ellipsoid
        bounds = torch.minimum(bounds, dot(rows, values) + _root(dot(rows.square(), squares)))
    return constant + bounds


def _cut(
    layer: Affine, lower: Tensor, upper: Tensor, values: Tensor, squares: Tensor
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]:
    """Cut a layer's intervals by the image of an ellipsoid with axes sqrt(squares) around values.

    Returns:
        Both bounds; and the ellipsoid's image, None once the layer mixes its axes.
    """
    values = layer.forward(values, layer.weight) + layer.bias
    squares = layer.forward(squares, layer.weight.square())
    reach = _root(squares)
    axes = (values, squares) if layer.cost == 0 else None
    return torch.maximum(lower, values - reach), torch.minimum(upper, values + reach), axes


def _root(squares: Tensor) -> Tensor:
    # the root's gradient at 0 is infinite, where a row of zeros, such as that of the label itself, has none
    return torch.where(squares > 0, squares.clamp_min(torch.finfo(squares.dtype).tiny).sqrt(), 0)
