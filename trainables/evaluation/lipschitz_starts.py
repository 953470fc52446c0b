"""Points where a network's linearisation at an image changes its logits most: good starts for the Lipschitz search."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from trainables.attacks.threat import ThreatModel

LARGEST_CLASSES = 12
"""Most classes for which the points are computed: K backward passes, and in linf all 2^(K-1) signs of the logits."""

_LARGEST_PIECE = 2**24
"""Most numbers in memory at once while the signs are tried."""


def steepest_points(model: nn.Module, x: Tensor, /, *, threat: ThreatModel) -> tuple[Tensor, Tensor]:
    """Return the points of B(x, epsilon) whose logits differ most from those of x, to first order (Jacobian J at x).

    For linf these are exact: ||J delta||_1 is the largest of t.J delta over signs t in {-1,+1}^K, and for each t the
    best delta takes every pixel to the end of its range, cut by the box, that the sign of J^T t indicates. For l2 it
    is the first right singular vector of J, scaled to the radius and then clamped to the box.

    Each point comes with its mirror image, the best point for -t, which is equally good apart from the box: only the
    network's nonlinearity distinguishes them.

    Args:
        model: Maps (n, ...) to logits (n, K); in the mode to be searched.
        x: Images, (n, ...) in [0, 1].
        threat: Ball and box.

    Returns:
        Points and their mirror images, each (2n, ...): for the raw logits, then for logits centred per example. Pixels
        that no logit depends on are those of `x`, and with more than 12 classes all are.
    """
    centres = torch.cat([x, x])
    jacobian = _jacobian(model, x)
    if jacobian is None:
        return centres, centres
    forms = (jacobian, jacobian - jacobian.mean(1, keepdim=True))
    linf = threat.norm == "linf"
    steepest = [_by_signs(form, x, threat=threat) if linf else _by_singular_vector(form) for form in forms]
    directions = torch.cat(steepest).reshape(centres.shape)
    ahead, back = (
        threat.project(threat.ascend(centres, way, step=threat.epsilon), centres) for way in (directions, -directions)
    )
    return ahead, back


def _jacobian(model: nn.Module, x: Tensor) -> Tensor | None:
    """Return the derivatives of the logits with respect to the pixels, (n, K, d); None for too many classes."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(x)
        classes = logits.shape[1]
        if classes > LARGEST_CLASSES:
            return None
        if not logits.requires_grad:
            return x.new_zeros(len(x), classes, x[0].numel())
        rows = [
            torch.autograd.grad(logits[:, k].sum(), x, retain_graph=True, materialize_grads=True)[0]
            for k in range(classes)
        ]
    return torch.nan_to_num(torch.stack(rows, 1).flatten(2))


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
