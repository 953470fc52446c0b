"""The Square attack: random search without gradients, which a network that masks its gradients can't mislead.

Source: Andriushchenko et al. 2020, "Square Attack: a query-efficient black-box adversarial attack via random search"
(arXiv 1912.00049), algorithms 1 to 3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from trainables.attacks.base import is_correct
from trainables.attacks.losses import best_margin
from trainables.attacks.threat import Ascent, ThreatModel, per_example

QUERIES = 1000
"""Points tried for each image in each restart."""

SHARE = 0.8
"""Share of the pixels that the first squares cover, as in AutoAttack."""

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries, of 10,000, after which the share is halved."""


def square(model: nn.Module, x: Tensor, y: Tensor, /, *, ascent: Ascent, generator: torch.Generator) -> Tensor:
    """Return the points of highest margin of `QUERIES` random squares on each image; steps are ignored.

    In linf a square of one random colour, plus or minus epsilon, is laid over a start of random stripes; in l2 a bump
    of random sign takes over the distance that two windows had before. A point is kept where the margin of the best
    wrong class rises. See `Attack` for the arguments.

    Raises:
        ValueError: Images without the dimensions channel, height and width.
    """
    if x.ndim != 4:
        raise ValueError(f"attack square takes images (n, c, h, w), got {tuple(x.shape)}")
    threat, worst = ascent.threat, x.clone()
    if threat.epsilon == 0:
        return worst
    remaining = torch.arange(len(x), device=x.device)
    for _ in range(ascent.restarts):
        points, fooled = _search(model, x[remaining], y[remaining], threat=threat, generator=generator)
        worst[remaining] = points
        remaining = remaining[~fooled]
        if len(remaining) == 0:
            break
    return worst


@torch.no_grad()
def _search(
    model: nn.Module, x: Tensor, y: Tensor, *, threat: ThreatModel, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the points, and which of them are misclassified."""
    propose = _coloured if threat.norm == "linf" else _moved
    best = threat.project(x + _start(x, threat, generator), x)
    logits = model(best)
    values, fooled = best_margin(logits, y), ~is_correct(logits, y)
    for query in range(QUERIES):
        remaining = (~fooled).nonzero().squeeze(1)
        if len(remaining) == 0:
            break
        centres, labels = x[remaining], y[remaining]
        tried = threat.project(
            propose(best[remaining], centres, _side(query, x.shape[-2:]), threat, generator), centres
        )
        logits = model(tried)
        margins, wrong = best_margin(logits, labels), ~is_correct(logits, labels)
        better = wrong | (margins > values[remaining])
        best[remaining[better]] = tried[better]
        values[remaining[better]] = margins[better]
        fooled[remaining] = wrong
    return best, fooled


def _side(query: int, image: torch.Size) -> int:
    """Return the side of the square at a query, in pixels."""
    height, width = image
    share = SHARE / 2 ** sum(query * 10_000 / QUERIES > limit for limit in _HALVINGS)
    return min(max(1, round(math.sqrt(share * height * width))), height, width)


def _signs(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randint(2, shape, generator=generator, device=like.device).mul(2).sub(1).to(like.dtype)


def _windows(x: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Return a mask of one random square window for each image, (n, 1, h, w) bool."""
    inside = []
    for length in x.shape[-2:]:
        first = torch.randint(length - side + 1, (len(x), 1), generator=generator, device=x.device)
        pixels = torch.arange(length, device=x.device)
        inside.append((pixels >= first) & (pixels < first + side))
    return inside[0][:, None, :, None] & inside[1][:, None, None, :]


def _start(x: Tensor, threat: ThreatModel, generator: torch.Generator) -> Tensor:
    """Return the first perturbation: in linf vertical stripes, in l2 a grid of bumps of random signs."""
    n, c, h, w = x.shape
    if threat.norm == "linf":
        return threat.epsilon * _signs((n, c, 1, w), x, generator).expand(x.shape)
    side = max(1, min(h, w) // 5)
    bumps = _bump(side, x).repeat(-(-h // side), -(-w // side))[:h, :w]
    signs = _signs((n, c, -(-h // side), -(-w // side)), x, generator)
    signs = signs.repeat_interleave(side, 2).repeat_interleave(side, 3)[:, :, :h, :w]
    return _scaled(signs * bumps, threat.epsilon)


def _coloured(best: Tensor, x: Tensor, side: int, threat: ThreatModel, generator: torch.Generator) -> Tensor:
    """Set a window of the perturbation to plus or minus epsilon, one sign for each channel."""
    colour = threat.epsilon * _signs((*x.shape[:2], 1, 1), x, generator)
    return torch.where(_windows(x, side, generator), x + colour, best)


def _moved(best: Tensor, x: Tensor, side: int, threat: ThreatModel, generator: torch.Generator) -> Tensor:
    """Put a bump into one window; it takes over the distance of that window, of another, and what epsilon leaves."""
    delta = best - x
    here, there = _windows(x, side, generator), _windows(x, side, generator)
    budget = threat.epsilon**2 - (delta * ~(here | there)).square().sum((1, 2, 3))
    bump = _bump(side, x)
    corner = [here.flatten(1).int().argmax(1) // x.shape[-1], here.flatten(1).int().argmax(1) % x.shape[-1]]
    rows, columns = (first[:, None] + torch.arange(side, device=x.device) for first in corner)
    laid = torch.zeros_like(x[:, :1])
    laid[torch.arange(len(x), device=x.device)[:, None, None], 0, rows[:, :, None], columns[:, None, :]] = bump
    old = delta * here
    pattern = _signs((*x.shape[:2], 1, 1), x, generator) * laid + _scaled(old, 1.0)
    return x + delta * ~(here | there) + per_example(budget.clamp_min(0).sqrt(), x) * _scaled(pattern, 1.0)


def _bump(side: int, like: Tensor) -> Tensor:
    """Return a square whose middle is largest, falling as the inverse square of the distance, of l2 norm 1."""
    middle = (side - 1) / 2
    away = (torch.arange(side, device=like.device, dtype=like.dtype) - middle).abs()
    bump = 1 / (1 + torch.maximum(away[:, None], away[None, :])) ** 2
    if side > 1:
        bump[: side // 2] *= -1
    norm: Tensor = torch.linalg.vector_norm(bump)
    return bump / norm


def _scaled(patterns: Tensor, length: float) -> Tensor:
    norms = torch.linalg.vector_norm(patterns.flatten(1), dim=1).clamp_min(torch.finfo(patterns.dtype).tiny)
    return patterns * per_example(length / norms, patterns)
