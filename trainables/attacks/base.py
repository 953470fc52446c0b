"""The interface of attacks, and the wrapper that checks their results."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from trainables.attacks import ATTACKS
from trainables.attacks.threat import Ascent, ThreatModel
from trainables.models.modes import mode
from trainables.models.own import describe
from trainables.registry import calling, must_return
from trainables.seeding import generator

BATCH_SIZE = 256
"""Examples attacked together. Fixed, so that results do not depend on a machine's memory."""

RADIUS_SLACK = 1e-6
"""How far outside ball or box an attack's points may lie without a flag (relative to the radius if that is above 1)."""


class FlaggedPoints(NamedTuple):
    """Points of an attack that flags its own result as doubtful.

    Attributes:
        points: One for each image, shaped as the images.
        flags: Names from `trainables.evaluation.flags.FLAGS`.
    """

    points: Tensor
    flags: frozenset[str]


class Attack(Protocol):
    """Searches for misclassified points near correctly classified images."""

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, /, *, ascent: Ascent, generator: torch.Generator
    ) -> Tensor | FlaggedPoints:
        """Return the worst point found for each `x` in ball and box, shaped as `x`; with flags if there are any.

        Args:
            model: Maps (n, ...) to logits (n, K); in the mode to be attacked.
            x: Images, (n, ...) in [0, 1].
            y: Labels, (n,) int64.
            ascent: Ball and box, steps of each restart, random restarts.
            generator: For the random starts; on the device of `x`.
        """


def load_attack(name: str, /) -> Attack:
    """Return the attack `name`; one of your own is given copies, and what it returns is checked.

    Args:
        name: Registered name or `package.module:object`.

    Raises:
        UnknownNameError: The attack is unknown, or one of your own cannot be imported or called.
    """
    attack: Attack = ATTACKS.load(name)
    if name in ATTACKS:
        return attack

    def checked(
        model: nn.Module, x: Tensor, y: Tensor, /, *, ascent: Ascent, generator: torch.Generator
    ) -> Tensor | FlaggedPoints:
        given = f"images {tuple(x.shape)}, steps={ascent.steps}, restarts={ascent.restarts}"
        with calling(ATTACKS.kind, name, given):
            result = attack(model, x.clone(), y.clone(), **_budget(attack, ascent), generator=generator)
        points = result.points if isinstance(result, FlaggedPoints) else result
        if describe(points) != describe(x):
            raise must_return(
                ATTACKS.kind, name, given, f"points like the images, {describe(x)}, got {describe(points)}"
            )
        if broken := int((~points.isfinite()).flatten(1).any(1).sum()):
            problem = f"finite points, got NaN or infinity in {broken} of {len(points)}"
            raise must_return(ATTACKS.kind, name, given, problem)
        return result

    return checked


def is_correct(logits: Tensor, labels: Tensor, /) -> Tensor:
    """Return which examples are classified as labelled, (n,) bool; NaN logits count as misclassified."""
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
    """Return what `input_gradient` returns except the gradient: values (n,) and logits (n, K)."""
    logits = model(x)
    return objective(logits), logits


def run_attack(
    attack: Attack,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    /,
    *,
    ascent: Ascent,
    seed: int,
    flags: set[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Attack the images in eval mode and return which stay correctly classified.

    The attack's points are projected into ball and box and classified again, so the result rests on legal points
    only. Images that are misclassified without an attack are not attacked.

    Args:
        attack: See `Attack`; one that takes `threat`, `steps` and `restarts` in place of `ascent` is called with those.
        model: Maps (n, ...) to logits (n, K).
        images: (n, ...) in [0, 1].
        labels: (n,) int64.
        ascent: Ball and box, steps, restarts.
        seed: Each batch draws from its own generator, derived from this and the batch's number.
        flags: Receives the attack's own flags, and `radius_exceeded` if a point lay outside ball or box.
        progress: Called with the number of images done, after each batch.

    Returns:
        (n,) bool: correct on the image and at the attack's point; and the points, shaped as `images`.
    """
    robust = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    points = images.clone()
    flags = set() if flags is None else flags
    budget = _budget(attack, ascent)
    with mode(model):
        for batch, begin in enumerate(range(0, len(images), BATCH_SIZE)):
            x, y = images[begin : begin + BATCH_SIZE], labels[begin : begin + BATCH_SIZE]
            with torch.no_grad():
                correct = is_correct(model(x), y).nonzero().squeeze(1)
            if len(correct):
                x, y = x[correct], y[correct]
                draws = generator(seed, "attack", batch, device=x.device)
                result = attack(model, x, y, **budget, generator=draws)
                worst = _legal(result, x, threat=ascent.threat, flags=flags)
                with torch.no_grad():
                    robust[begin + correct] = is_correct(model(worst), y)
                points[begin + correct] = worst
            if progress is not None:
                progress(min(begin + BATCH_SIZE, len(images)))
    return robust, points


def _budget(attack: Attack, ascent: Ascent) -> dict[str, Any]:
    """Return the keywords that tell an attack about its ascent; the former signature takes its three parts."""
    try:
        names = set(inspect.signature(attack).parameters)
    except (TypeError, ValueError):
        names = set()
    return vars(ascent) if "threat" in names and "ascent" not in names else {"ascent": ascent}


def _legal(result: Tensor | FlaggedPoints, x: Tensor, *, threat: ThreatModel, flags: set[str]) -> Tensor:
    """Return the attack's points inside ball and box, with `x` for non-finite entries, and add to `flags`."""
    if isinstance(result, FlaggedPoints):
        flags.update(result.flags)
        result = result.points
    points = result.detach()
    finite = points.isfinite()
    slack = RADIUS_SLACK * max(1.0, threat.epsilon)
    outside = threat.distance(points.double(), x.double()) > threat.epsilon + slack
    outside |= ((points < -RADIUS_SLACK) | (points > 1 + RADIUS_SLACK) | ~finite).flatten(1).any(1)
    if outside.any():
        flags.add("radius_exceeded")
    return threat.project(torch.where(finite, points, x), x)
