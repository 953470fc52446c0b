"""Certificates: what can be proved about a network around given images."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

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
from trainables.certified.global_margins import global_constant, global_margins
from trainables.certified.jacobian import lipschitz_bounds
from trainables.certified.layers import Layer, Shape
from trainables.certified.translation import UnsupportedModuleError, layers_of
from trainables.spec import Norm

BUDGET = 5e8
"""Most multiplications per example spent on tightening one layer's input: about 0.2 s on a slow core.

It is enough for the hidden layers of `mlp` on 8x8 and on 28x28 images, but not for those of the convolutional
networks. A larger budget tightens those too (2e9 is enough for all of `cnn_small` on 8x8); 0 uses intervals alone.
"""

_MAX_EXAMPLES = 32

_MAX_PASS = 512
"""Images of one pass in float64."""

Effort = Literal["ibp", "full"]


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
    over the remaining part may be smaller. In l2 a network with a `global_constant` is bounded by that alone.

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
    constant = global_constant(model) if threat.norm == "l2" else None
    if constant is not None:
        margin = _by_constant(model, images, labels, threat=threat)
        return Certificate(margin > 0, margin, torch.full_like(margin, constant))
    margins = [torch.empty(0, dtype=torch.float64, device=images.device)]
    constants = [margins[0]]
    layers = layers_of(model, tuple(images.shape[1:]), device=images.device)
    for part in _parts(layers, len(images)):
        ball = ball_around(images[part], threat=threat)
        activations = bound_activations(layers, ball, budget=budget)
        margins.append(_margins(layers, activations, ball, labels[part]))
        constants.append(lipschitz_bounds(layers, activations, norm=threat.norm, budget=budget))
    margin = torch.cat(margins)
    return Certificate(margin > 0, margin, torch.cat(constants))


@torch.no_grad()
def certified_correct(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    /,
    *,
    threat: ThreatModel,
    effort: Effort,
    seconds: float = math.inf,
) -> Tensor:
    """Return of which images it is certain that no point of their ball is misclassified, (n,) bool.

    The margins of `certify`, without its Lipschitz constants. A network with a `global_constant` takes one pass in l2.

    Args:
        model: See `layers_of`.
        images: (n, ...) in [0, 1].
        labels: (n,) int64.
        threat: Ball and box.
        effort: `ibp` bounds activations by intervals alone; `full` then tries images that are left with `BUDGET`.
        seconds: Time after which no more images are started; those left count as not certified.

    Raises:
        UnsupportedModuleError: The network has a module that cannot be bounded; the message names it.
    """
    if threat.norm == "l2" and global_constant(model) is not None:
        return _by_constant(model, images, labels, threat=threat) > 0
    until = time.monotonic() + seconds
    proved = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    layers = layers_of(model, tuple(images.shape[1:]), device=images.device)
    for budget in (0.0,) if effort == "ibp" else (0.0, BUDGET):
        left = (~proved).nonzero().flatten()
        for part in _parts(layers, len(left)):
            if time.monotonic() >= until:
                return proved
            chosen = left[part]
            ball = ball_around(images[chosen], threat=threat)
            activations = bound_activations(layers, ball, budget=budget)
            proved[chosen] = _margins(layers, activations, ball, labels[chosen]) > 0
    return proved


def unsupported(model: nn.Module, shape: Shape, /, *, norm: Norm) -> str | None:
    """Return why nothing can be proved of a network on images of this shape; None if something may be."""
    if norm == "l2" and global_constant(model) is not None:
        return None
    try:
        layers_of(model, shape, device=torch.device("cpu"))
    except UnsupportedModuleError as error:
        return str(error)
    return None


def _by_constant(model: nn.Module, images: Tensor, labels: Tensor, *, threat: ThreatModel) -> Tensor:
    pairs = zip(torch.split(images, _MAX_PASS), torch.split(labels, _MAX_PASS), strict=True)
    return torch.cat([global_margins(model, y, ball_around(x, threat=threat)) for x, y in pairs])


def _parts(layers: list[Layer], count: int) -> Iterator[slice]:
    """Yield slices of `count` examples, each small enough to fit in memory."""
    widest = max(math.prod(layer.shape_out) for layer in layers)
    size = min(_MAX_EXAMPLES, max(1, ELEMENTS // (widest * math.prod(layers[-1].shape_out))))
    for begin in range(0, count, size):
        yield slice(begin, begin + size)


def _margins(layers: list[Layer], activations: Activations, ball: Ball, labels: Tensor) -> Tensor:
    """Bound min over k != y of z_y - z_k from below, (n,), each difference as one row: tighter than bounds on both."""
    classes = math.prod(layers[-1].shape_out)
    truth = torch.nn.functional.one_hot(labels, classes).to(ball.centre)
    rows = truth.unsqueeze(1) - torch.eye(classes).to(truth)
    bounds = lower_bounds(rows, layers, activations, ball)
    return torch.where(truth > 0, torch.inf, bounds).amin(1)
