"""Certificates: what can be proved about a network around given images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.attacks.threat import ThreatModel
from trainables.certified.activations import (
    ELEMENTS,
    Activations,
    Ball,
    ball_around,
    bound_activations,
    lower_bounds,
)
from trainables.certified.jacobian import lipschitz_bounds
from trainables.certified.layers import Layer
from trainables.certified.translation import layers_of

BUDGET = 5e8
"""Most multiplications per example spent on tightening one layer's input: about 0.2 s on a slow core.

It is enough for the hidden layers of `mlp` on 8x8 and on 28x28 images, but not for those of the convolutional
networks. A larger budget tightens those too (2e9 is enough for all of `cnn_small` on 8x8); 0 uses intervals alone.
"""

_MAX_EXAMPLES = 32


@dataclass(frozen=True)
class Certificate:
    """Bounds that hold at every point of each example's ball, for n examples.

    Attributes:
        certified_correct: Whether it is certain that no point of the ball is misclassified, (n,) bool.
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
    """Bound robust accuracy from below and local Lipschitzness from above.

    An attack shows that an example is *not* robust, and an ascent shows that the Lipschitz constant is *at least* some
    value; neither shows by how much it falls short. These bounds err on the other side: each holds for all points of
    B(x, epsilon) cut by the box. The true value of each example therefore lies in an interval: certified <= robust <=
    attacked for accuracy, and [estimated, certified] for Lip(f, x, epsilon). Where both ends agree the value is known.
    A wide interval does not mean that the network, the attack or the estimate is poor: the bound is loose, and becomes
    looser with depth, with the radius, and with the number of ReLUs that change sign over the ball. A narrow interval
    proves that the attack is strong.

    How the ratio is bounded: f(x') - f(x) is exactly a product of weight matrices and diagonal matrices of the ReLUs'
    slopes between their inputs at x and at x', applied to x' - x. Interval bounds on the activations bound the slopes,
    and the operator norm is bounded over all such products, from linf to l1 for `linf` and from l2 to l2 for `l2`. The
    worst case over all activation patterns is included. For a linear network the result is its exact constant over the
    whole ball (linf: up to 12 classes; above that the sum over all entries); where the box cuts the ball, the constant
    over the remaining part may be smaller.

    Bounds are computed in float64 and widened by the largest rounding error of float32, both in the network's sums, in
    any order, and in the points. They therefore hold for attacks run in float32 (not in TF32 or bfloat16), and do not
    depend on rounding in their own computation. A bound at a larger radius may be a few per cent tighter than at a
    smaller one, for which it holds too; only bounds on activations with a budget of 0 are monotone by construction.

    Args:
        model: See `layers_of`; bounded in eval mode, also while it is in train mode.
        images: (n, ...) in [0, 1].
        labels: (n,) int64.
        threat: Ball and box. At radius 0: correctness at x, and the norm of the Jacobian there.
        budget: See `BUDGET`.

    Raises:
        UnsupportedModuleError: The network has a module that cannot be bounded; the message names it.

    Source: Gowal et al. 2018, "On the Effectiveness of Interval Bound Propagation" (arXiv 1810.12715), section 3, for
        margins with the last layer merged in; Zhang et al. 2018, CROWN (arXiv 1811.00866), for the relaxations; Zhang
        et al. 2019, RecurJac (arXiv 1810.11783), for bounding worst-case products layer by layer.
    """
    margins = [torch.empty(0, dtype=torch.float64, device=images.device)]
    constants = [margins[0]]
    layers = layers_of(model, tuple(images.shape[1:]), device=images.device)
    widest = max(math.prod(layer.shape_out) for layer in layers)
    size = min(_MAX_EXAMPLES, max(1, ELEMENTS // (widest * math.prod(layers[-1].shape_out))))
    for begin in range(0, len(images), size):
        part = slice(begin, begin + size)
        ball = ball_around(images[part], threat=threat)
        activations = bound_activations(layers, ball, budget=budget)
        margins.append(_margins(layers, activations, ball, labels[part]))
        constants.append(lipschitz_bounds(layers, activations, norm=threat.norm, budget=budget))
    margin = torch.cat(margins)
    return Certificate(margin > 0, margin, torch.cat(constants))


def _margins(layers: list[Layer], activations: Activations, ball: Ball, labels: Tensor) -> Tensor:
    """Bound min over k != y of z_y - z_k from below, (n,), each difference as one row: tighter than bounds on both."""
    classes = math.prod(layers[-1].shape_out)
    truth = torch.nn.functional.one_hot(labels, classes).to(ball.centre)
    rows = truth.unsqueeze(1) - torch.eye(classes).to(truth)
    bounds = lower_bounds(rows, layers, activations, ball)
    return torch.where(truth > 0, torch.inf, bounds).amin(1)
