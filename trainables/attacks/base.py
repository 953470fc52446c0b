"""What every attack is, and the wrapper that no attack can cheat."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from trainables.attacks.threat import ThreatModel
from trainables.models.modes import mode
from trainables.seeding import generator

BATCH_SIZE = 256
"""Examples attacked together. Fixed, so that a result depends on no machine's memory."""


RADIUS_SLACK = 1e-6
"""How far outside ball or box an attack's points may lie without a flag (in l2, relative to a radius above 1)."""


class Found(NamedTuple):
    """What an attack returns that has doubts about its own result.

    Attributes:
        points: One for each image.
        flags: Names from `trainables.evaluation.flags.FLAGS`.
    """

    points: Tensor
    flags: frozenset[str]


class Attack(Protocol):
    """Searches for misclassified points near correctly classified images."""

    def __call__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        /,
        *,
        threat: ThreatModel,
        steps: int,
        restarts: int,
        generator: torch.Generator,
    ) -> Tensor | Found:
        """Return one point for each `x`, the worst found, shaped as `x`; with flags where there are any."""


def is_correct(logits: Tensor, labels: Tensor, /) -> Tensor:
    """Tell which examples are classified as labelled, (n,) bool; NaN logits count as misclassified."""
    return (logits.argmax(1) == labels) & ~logits.isnan().any(1)


def input_gradient(
    model: nn.Module, x: Tensor, objective: Callable[[Tensor], Tensor], /
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradient of each example's objective with respect to its input.

    The parameters collect no gradient, and autograd computes none for them.

    Args:
        model: (n, ...) to logits (n, K).
        x: Points, (n, ...).
        objective: Logits to one value per example, (n,).

    Returns:
        Gradient shaped as `x` (zero where the objective does not depend on it), values (n,), logits (n, K).
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(x)
        values = objective(logits)
        gradient = None
        if values.requires_grad:
            (gradient,) = torch.autograd.grad(values.sum(), x, allow_unused=True)
    return torch.zeros_like(x) if gradient is None else gradient, values.detach(), logits.detach()


@torch.no_grad()
def values_at(model: nn.Module, x: Tensor, objective: Callable[[Tensor], Tensor], /) -> tuple[Tensor, Tensor]:
    """Return what `input_gradient` returns but for the gradient: values (n,) and logits (n, K)."""
    logits = model(x)
    return objective(logits), logits


def run_attack(
    attack: Attack,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    /,
    *,
    threat: ThreatModel,
    steps: int,
    restarts: int,
    seed: int,
    flags: set[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Attack the images in eval mode and tell which stay correctly classified.

    What the attack returns is projected into ball and box once more and classified afresh, so a
    result rests on legal points only. Images that are misclassified as they are do not reach the attack.

    Args:
        attack: See `Attack`.
        model: Maps (n, ...) to logits (n, K).
        images: (n, ...) in [0, 1].
        labels: (n,) int64.
        threat: Ball and box.
        steps: Ascent steps of each restart.
        restarts: Random restarts.
        seed: Each batch draws from its own generator, made from this and the batch's number.
        flags: Gets what the attack says of itself, and `radius_exceeded` where a point lay outside ball or box.
        progress: Called with the number of images done, after each batch.

    Returns:
        (n,) bool: correct on the image and at the attack's point; and the points, shaped as `images`.
    """
    robust = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    points = images.clone()
    seen = set() if flags is None else flags
    with mode(model):
        for batch, begin in enumerate(range(0, len(images), BATCH_SIZE)):
            x, y = images[begin : begin + BATCH_SIZE], labels[begin : begin + BATCH_SIZE]
            with torch.no_grad():
                alive = is_correct(model(x), y).nonzero().squeeze(1)
            if len(alive):
                x, y = x[alive], y[alive]
                draws = generator(seed, "attack", batch, device=x.device)
                found = attack(model, x, y, threat=threat, steps=steps, restarts=restarts, generator=draws)
                found = _legal(found, x, threat=threat, seen=seen)
                with torch.no_grad():
                    robust[begin + alive] = is_correct(model(found), y)
                points[begin + alive] = found
            if progress is not None:
                progress(min(begin + BATCH_SIZE, len(images)))
    return robust, points


def _legal(found: Tensor | Found, x: Tensor, *, threat: ThreatModel, seen: set[str]) -> Tensor:
    """Return the points in ball and box, `x` where one is not finite, and note what was wrong with them."""
    if isinstance(found, Found):
        seen.update(found.flags)
        found = found.points
    found = found.detach()
    finite = found.isfinite()
    slack = RADIUS_SLACK * max(1.0, threat.epsilon)
    outside = threat.distance(found.double(), x.double()) > threat.epsilon + slack
    outside |= ((found < -RADIUS_SLACK) | (found > 1 + RADIUS_SLACK) | ~finite).flatten(1).any(1)
    if outside.any():
        seen.add("radius_exceeded")
    return threat.project(torch.where(finite, found, x), x)
