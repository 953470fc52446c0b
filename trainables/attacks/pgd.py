"""Projected gradient ascent, as a training attack and as an evaluation.

Source: Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks" (arXiv 1706.06083),
section 2.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from trainables.attacks.base import input_gradient, is_correct, values_at
from trainables.losses import cross_entropy_against
from trainables.threat import ThreatModel


def step_length(threat: ThreatModel, steps: int, /) -> float:
    """Return the length of each of `steps` steps: 2 * epsilon / steps for linf, twice that for l2.

    A path of 2 epsilon takes every pixel of a linf iterate anywhere in its range. In l2 it leaves a start that
    lies sideways of the gradient 15 degrees short of the worst point, even on a linear model (on the sphere the
    tangent of half the angle falls as exp(-path / epsilon)): 4% of the radius lost. 4 epsilon leaves 2 degrees.
    """
    return (2 if threat.norm == "linf" else 4) * threat.epsilon / steps


def craft(
    model: nn.Module,
    x: Tensor,
    objective: Callable[[Tensor], Tensor],
    /,
    *,
    threat: ThreatModel,
    steps: int,
    generator: torch.Generator,
) -> Tensor:
    """Return the last iterate of PGD on `objective` from a random start, for training.

    The model's mode is the caller's choice. At radius 0 the result is `x` itself and nothing is drawn.

    Args:
        model: Maps (n, ...) to logits (n, K).
        x: Images, (n, ...) in [0, 1].
        objective: Logits to the value to raise, per example, (n,).
        threat: Ball and box.
        steps: Ascent steps.
        generator: For the start; on the device of `x`.

    Returns:
        Points in ball and box without gradient history, shaped as `x`.
    """
    if threat.epsilon == 0:
        return x
    points = threat.random_start(x, generator=generator)
    for _ in range(steps):
        gradient, _, _ = input_gradient(model, points, objective)
        points = threat.project(threat.ascend(points, gradient, step=step_length(threat, steps)), x)
    return points.detach()


def pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    /,
    *,
    threat: ThreatModel,
    steps: int,
    restarts: int,
    generator: torch.Generator,
) -> Tensor:
    """Return for each image the worst point PGD on cross-entropy meets.

    Worst: the first misclassified one, else the one of highest loss. An example leaves the batch once it is
    misclassified: the caller asks for accuracy, and a higher loss would not change it. Every restart draws
    starts for all images, so that none depends on which others have fallen.

    Args:
        model: Maps (n, ...) to logits (n, K); in the mode to be attacked.
        x: Images, (n, ...) in [0, 1].
        y: Labels, (n,) int64.
        threat: Ball and box.
        steps: Ascent steps of each restart.
        restarts: Random restarts.
        generator: For the starts; on the device of `x`.

    Returns:
        Points in ball and box, shaped as `x`.
    """
    if threat.epsilon == 0:
        return x
    worst = x.clone()
    highest = torch.full((len(x),), -torch.inf, device=x.device, dtype=x.dtype)
    alive = torch.arange(len(x), device=x.device)
    for _ in range(restarts):
        points = threat.random_start(x, generator=generator)[alive]
        for taken in range(steps + 1):
            centres, labels = x[alive], y[alive]
            objective = cross_entropy_against(labels)
            if taken < steps:
                gradient, loss, logits = input_gradient(model, points, objective)
            else:
                loss, logits = values_at(model, points, objective)
            fooled = ~is_correct(logits, labels)
            better = fooled | (loss > highest[alive])
            worst[alive[better]] = points[better]
            highest[alive[better]] = loss[better]
            if taken < steps:
                points = threat.project(threat.ascend(points, gradient, step=step_length(threat, steps)), centres)
            standing = ~fooled
            alive, points = alive[standing], points[standing]
            if len(alive) == 0:
                return worst
    return worst
