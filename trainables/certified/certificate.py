"""What can be proved about a network around given images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.attacks.threat import Norm, ThreatModel
from trainables.certified.activations import (
    ELEMENTS,
    Activations,
    Ball,
    ball_around,
    bound_activations,
    cost_of,
    lower_bounds,
)
from trainables.certified.jacobian import lipschitz_bounds
from trainables.certified.layers import Layer
from trainables.certified.translation import layers_of

BUDGET = 5e8
"""Multiplications an example that tightening what one layer takes in may take: some 0.2 s on a slow core.

Hidden layers of `mlp` are within it on 8x8 and on 28x28 images, those of the convolutional networks are not. A larger
budget tightens those too (2e9 reaches all of `cnn_small` on 8x8); 0 leaves intervals.
"""

_MAX_EXAMPLES = 32


@dataclass(frozen=True)
class Certificate:
    """What holds at every point of each example's ball, for n examples.

    Attributes:
        certified_correct: No point of the ball is misclassified, (n,) bool.
        margin: Lower bound on the smallest z_y - z_k over the ball and k != y, (n,) float64.
        lipschitz_upper: Upper bound on Lip(f, x, epsilon), (n,) float64; inf where none was found.
    """

    certified_correct: Tensor
    margin: Tensor
    lipschitz_upper: Tensor


@torch.no_grad()
def certify(
    model: nn.Module, images: Tensor, labels: Tensor, /, *, threat: ThreatModel, budget: float = BUDGET
) -> Certificate:
    """Bound accuracy and local Lipschitzness from the side that attacks cannot reach.

    An attack shows that an example is *not* robust, an ascent that the Lipschitz constant is *at least* some value;
    neither says how much it missed. Here the errors are on the other side: every number holds for all points of
    B(x, epsilon) cut by the box. So each example's truth lies in a bracket, certified <= robust <= attacked for
    accuracy and [found, certified] for Lip(f, x, epsilon). Where the two ends meet the value is known. Where they are
    far apart nothing is wrong with the network or the estimate: the bound is loose, more so the deeper the network,
    the larger the radius and the fewer ReLUs keep their sign over the ball. A wide bracket is no sign of a weak
    attack, a narrow one is proof of a strong one.

    Why the ratio is bounded: f(x') - f(x) is exactly a product of weight matrices and of diagonal matrices that hold
    each ReLU's slope between its inputs at x and x', applied to x' - x. Interval bounds on the activations confine the
    slopes, and the operator norm of every such product is bounded, from linf to l1 for `linf` and from l2 to l2 for
    `l2`. For a linear network the result is its exact constant over the whole ball (linf: up to 12 classes; more get
    the sum of all entries); where the box cuts the ball, the constant over what is left may be smaller. No slope
    at x' is left out: the worst case over activation patterns is part of it.

    Bounds are computed in float64 and widened by the worst rounding of float32, of the network's own sums in any
    order and of the points. So what holds here holds for attacks run in float32 (not in TF32 or bfloat16), and no
    claim rests on our own rounding. A bound at a larger radius may happen to be a few percent tighter than at a smaller
    one, for which it then holds as well; only `interval_bounds` with a budget of 0 is monotone by construction.

    Args:
        model: See `layers_of`; its mode does not matter, eval mode is what is bounded.
        images: (n, ...) in [0, 1].
        labels: (n,) int64.
        threat: Ball and box. At radius 0: correctness at x, and the norm of the Jacobian there.
        budget: See `BUDGET`.

    Raises:
        UnsupportedModuleError: The network has a module that cannot be bounded; the message names it.

    Source: Gowal et al. 2018, "On the Effectiveness of Interval Bound Propagation" (arXiv 1810.12715), section 3, for
        margins with the last layer merged in; Zhang et al. 2018, CROWN (arXiv 1811.00866), for the relaxations. That
        worst-case products are bounded layer by layer goes back to Zhang et al. 2019, RecurJac (arXiv 1810.11783).
    """
    margins = [torch.empty(0, dtype=torch.float64, device=images.device)]
    constants = [margins[0]]
    for part, layers, ball, known in _batches(model, images, threat=threat, budget=budget):
        margins.append(_margins(layers, known, ball, labels[part]))
        constants.append(lipschitz_bounds(layers, known, norm=threat.norm, budget=budget))
    margin = torch.cat(margins)
    return Certificate(margin > 0, margin, torch.cat(constants))


@torch.no_grad()
def interval_bounds(
    model: nn.Module, images: Tensor, /, *, epsilon: float, norm: Norm, budget: float = BUDGET
) -> tuple[Tensor, Tensor]:
    """Bound each logit over B(x, epsilon) cut by the box, in exact arithmetic and in float32.

    For `l2` both balls count: the linf ball of the same radius, which holds the l2 ball, for intervals, and the l2
    ball itself for the first layer, for distances behind it, and where relaxations reach the input.

    Args:
        model: See `layers_of`.
        images: (n, ...) in [0, 1].
        epsilon: Radius, in input units.
        norm: `linf` or `l2`.
        budget: See `BUDGET`.

    Returns:
        Lower and upper bounds, (n, K) float64 each.

    Raises:
        UnsupportedModuleError: See `certify`.
    """
    threat = ThreatModel(norm, epsilon)
    found = []
    for _, layers, ball, known in _batches(model, images, threat=threat, budget=budget):
        lower, upper = known.lower[-1], known.upper[-1]
        if 2 * lower.shape[1] * cost_of(layers) <= budget:
            rows = torch.eye(lower.shape[1]).to(lower).expand(len(lower), -1, -1)
            lower = torch.maximum(lower, lower_bounds(rows, layers, known, ball))
            upper = torch.minimum(upper, -lower_bounds(-rows, layers, known, ball))
        found.append((lower, upper))
    if not found:
        raise ValueError(f"`images` must hold at least one image, got shape {tuple(images.shape)}")
    lower, upper = (torch.cat(side) for side in zip(*found, strict=True))
    return lower, upper


def _batches(
    model: nn.Module, images: Tensor, *, threat: ThreatModel, budget: float
) -> Iterator[tuple[slice, list[Layer], Ball, Activations]]:
    layers = layers_of(model, tuple(images.shape[1:]), device=images.device)
    widest = max(math.prod(layer.shape_out) for layer in layers)
    size = min(_MAX_EXAMPLES, max(1, ELEMENTS // (widest * math.prod(layers[-1].shape_out))))
    for begin in range(0, len(images), size):
        part = slice(begin, min(begin + size, len(images)))
        ball = ball_around(images[part], threat=threat)
        yield part, layers, ball, bound_activations(layers, ball, budget=budget)


def _margins(layers: list[Layer], known: Activations, ball: Ball, labels: Tensor) -> Tensor:
    """Bound min over k != y of z_y - z_k from below, (n,), as one row each: tighter than from bounds on both."""
    classes = math.prod(layers[-1].shape_out)
    truth = torch.nn.functional.one_hot(labels, classes).to(ball.centre)
    rows = truth.unsqueeze(1) - torch.eye(classes).to(truth)
    bounds = lower_bounds(rows, layers, known, ball)
    return torch.where(truth > 0, torch.inf, bounds).amin(1)
