"""Points where a network's linearisation at an image changes its logits most: good starts for the Lipschitz search."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from trainables.attacks.threat import ThreatModel

LARGEST_EXACT = 12
"""Most classes for which linf points are exact: of all 2^(K-1) signs of the logits."""

LARGEST_FORMED = 64
"""Most classes for which the Jacobian is formed, by K backward passes; beyond that, products with it are cheaper."""

_LARGEST_JACOBIAN = 2**26
"""Most numbers of a batch's Jacobian, with more than 12 classes; where it has more, products with it are taken too."""

STEPS = 16
"""Steps of the ascent on signs."""

FORMED_STARTS, PRODUCT_STARTS = 64, 2
"""Its starts for an image, half of them for each form; with products each step of a start costs two passes."""

FEW_PIXELS = 512
"""With fewer numbers in an image an ascent gets stuck more often: twice as many starts by products."""

_DIFFERENCE = 0.01
"""Share of the way to a point over which the logits' change is measured: short, yet far above fp32's round-off."""

_LARGEST_PIECE = 2**24
"""Most numbers in memory at once while signs are tried."""

Map = Callable[[Tensor], Tensor]


def steepest_points(
    model: nn.Module, x: Tensor, /, *, threat: ThreatModel, draws: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the points of B(x, epsilon) whose logits differ most from those of x, to first order (Jacobian J at x).

    For linf, ||J delta||_1 is the largest of t.J delta over signs t in {-1,+1}^K, and for each t the best delta takes
    every pixel to the end of its range, cut by the box, that the sign of J^T t indicates. With up to 12 classes all t
    are tried. With more, an ascent alternates between the best delta of t and the best t of delta, from random t.

    For l2 it is the first right singular vector of J, scaled to the radius and then clamped to the box; where J is too
    large to be formed, the same ascent on unit vectors t approaches it (the power method).

    Each point comes with its mirror image, the best point for -t, which is equally good apart from the box: only the
    network's nonlinearity distinguishes them.

    Args:
        model: Maps (n, ...) to logits (n, K); in the mode to be searched.
        x: Images, (n, ...) in [0, 1].
        threat: Ball and box.
        draws: For the ascent's starts; on the device of `x`.

    Returns:
        Points and their mirror images, each (2n, ...): for the raw logits, then for logits centred per example. Pixels
        that no logit depends on are those of `x`.
    """
    centres = torch.cat([x, x])
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(x)
    classes, linf = logits.shape[1], threat.norm == "linf"
    if classes > LARGEST_FORMED or (classes > LARGEST_EXACT and classes * x.numel() > _LARGEST_JACOBIAN):
        starts = PRODUCT_STARTS * (1 if x[0].numel() >= FEW_PIXELS else 2)
        signs = _random_signs(len(x), starts, classes, draws)
        steepest = _by_ascent(*_products(model, x, logits), signs.to(x), x.detach().flatten(1), threat=threat)
    else:
        jacobian = torch.stack([_pull(logits, x, row.expand_as(logits)) for row in torch.eye(classes).to(x)], 1)
        del logits  # and the graph
        x = x.detach()
        forms = (jacobian, jacobian - jacobian.mean(1, keepdim=True))
        if not linf:
            steepest = torch.cat([_by_singular_vector(form) for form in forms])
        elif classes <= LARGEST_EXACT:
            steepest = torch.cat([_by_signs(form, x, threat=threat) for form in forms])
        else:
            steepest = _by_formed_ascent(jacobian, x, threat=threat, draws=draws)
    directions = steepest.reshape(centres.shape)
    ahead, back = (
        threat.project(threat.ascend(centres, way, step=threat.epsilon), centres) for way in (directions, -directions)
    )
    return ahead, back


def _pull(logits: Tensor, x: Tensor, weights: Tensor) -> Tensor:
    """Return J^T t of each example, (n, d), for weights t, (n, K)."""
    if not logits.requires_grad:
        return torch.zeros_like(x).flatten(1)
    (gradient,) = torch.autograd.grad(logits, x, weights, retain_graph=True, materialize_grads=True)
    return torch.nan_to_num(gradient).flatten(1)


def _products(model: nn.Module, x: Tensor, logits: Tensor) -> tuple[Map, Map]:
    """Return J^T t for t (n, s, K), and J delta for delta (n, s, d), without J, whose n K d numbers may not fit.

    J^T t is a backward pass. J delta is the difference of the logits over a small distance: one forward pass of any
    network, where a derivative would cost two and need second derivatives or forward mode of every layer.
    """

    def pull(weights: Tensor) -> Tensor:
        return torch.stack([_pull(logits, x, each) for each in weights.unbind(1)], 1)

    def push(moves: Tensor) -> Tensor:
        with torch.no_grad():
            points = [x + _DIFFERENCE * each.reshape(x.shape) for each in moves.unbind(1)]
            return torch.stack([model(point) - logits for point in points], 1)

    return pull, push


def _by_formed_ascent(jacobian: Tensor, x: Tensor, *, threat: ThreatModel, draws: torch.Generator) -> Tensor:
    classes, pixels = jacobian.shape[1:]
    signs = _random_signs(len(x), FORMED_STARTS, classes, draws).to(x)
    piece = max(1, _LARGEST_PIECE // (FORMED_STARTS * pixels))
    forms = []
    pieces = (torch.split(each, piece) for each in (jacobian, signs, x.flatten(1)))
    for part, first, images in zip(*pieces, strict=True):
        pull, push = partial(torch.matmul, other=part), partial(torch.matmul, other=part.mT)
        forms.append(_by_ascent(pull, push, first, images, threat=threat).chunk(2))
    return torch.cat([torch.cat(form) for form in zip(*forms, strict=True)])


def _by_ascent(pull: Map, push: Map, weights: Tensor, x: Tensor, *, threat: ThreatModel) -> Tensor:
    """Return the J^T t of the best t found for the raw form, then for the centred one, (2n, d).

    In linf plain alternation stops at the first t whose every sign supports itself, and with many pixels nearly every
    t does: the term of t_k in its own update, sum_i |J_ki|, outweighs the others. So a share of it is taken off, which
    differs between starts and shrinks to zero during the ascent.

    Args:
        pull: See `_products`.
        push: See `_products`.
        weights: The starts, (n, s, K); every second one climbs the centred form. All compete for both.
        x: Images, (n, d).
        threat: Ball and box.
    """
    linf, starts = threat.norm == "linf", weights.shape[1]
    centring = (torch.arange(starts) % 2).to(x)[:, None]
    shares = torch.linspace(0.5, 1.5, starts).to(x)[:, None]
    centres = x.repeat_interleave(starts, 0)
    best = [x.new_full((len(x), 1), -torch.inf)] * 2
    steepest = [torch.zeros_like(x)] * 2
    for step in range(STEPS):
        slopes = pull(weights - centring * weights.mean(2, keepdim=True))
        moves = threat.project(threat.ascend(centres, slopes.flatten(0, 1), step=threat.epsilon), centres) - centres
        changes = push(moves.reshape(slopes.shape))
        means = changes.mean(2, keepdim=True)
        for form, change in enumerate((changes, changes - means)):
            sizes, which = torch.linalg.vector_norm(change, 1 if linf else 2, dim=2).max(1, keepdim=True)
            chosen = slopes.gather(1, which[:, :, None].expand(-1, 1, slopes.shape[2])).squeeze(1)
            steepest[form] = torch.where(sizes > best[form], chosen, steepest[form])
            best[form] = torch.maximum(best[form], sizes)
        changes = changes - centring * means
        if linf:
            own = shares * (1 - step / (STEPS - 1)) * changes.abs().mean(2, keepdim=True)
            weights = (changes - own * weights).sign()
        else:
            weights = torch.nn.functional.normalize(changes, dim=2)
    return torch.cat(steepest)


def _random_signs(images: int, starts: int, classes: int, draws: torch.Generator) -> Tensor:
    return torch.randn(images, starts, classes, generator=draws, device=draws.device).sign()


def _by_signs(jacobian: Tensor, x: Tensor, *, threat: ThreatModel) -> Tensor:
    """Return the J^T t of the best t, (n, d)."""
    lowest, highest = ((side - x).flatten(1) for side in (threat.project(x - 1, x), threat.project(x + 1, x)))
    half, middle = (highest - lowest) / 2, (highest + lowest) / 2
    classes, pixels = jacobian.shape[1:]
    # one of t and -t is enough: they differ in the sign of the middle's term only
    signs = torch.tensor([(1, *rest) for rest in itertools.product((1, -1), repeat=classes - 1)]).to(x)
    piece = max(1, _LARGEST_PIECE // (len(signs) * pixels))
    directions = []
    for begin in range(0, len(x), piece):
        part = slice(begin, begin + piece)
        slopes = signs @ jacobian[part]
        values = slopes.abs() @ half[part, :, None] + (slopes @ middle[part, :, None]).abs()
        best = values.argmax(1, keepdim=True).expand(-1, 1, pixels)
        directions.append(slopes.gather(1, best).squeeze(1))
    return torch.cat(directions)


def _by_singular_vector(jacobian: Tensor) -> Tensor:
    """Return the first right singular vector times its value, (n, d)."""
    # of the K x K product, as the d x d one has the same values and is far larger
    _, vectors = torch.linalg.eigh(jacobian @ jacobian.mT)
    direction: Tensor = (vectors[:, None, :, -1] @ jacobian).squeeze(1)
    return direction
