"""Projected gradient ascent, as a training attack and as an evaluation.

Source: Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks" (arXiv 1706.06083),
section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import repeat

import torch
from torch import Tensor, nn

from trainables.attacks.base import input_gradient, is_correct, values_at
from trainables.attacks.losses import cross_entropy
from trainables.attacks.threat import Ascent, ThreatModel

Objective = Callable[[Tensor, Tensor], Tensor]
"""Maps positions of m images, (m,) int64, and their logits, (m, K), to the values to maximise, (m,)."""


def step_length(threat: ThreatModel, steps: int, /) -> float:
    """Return the length of each of `steps` steps: 2 * epsilon / steps for linf, twice that for l2.

    A path of 2 epsilon lets every pixel of a linf iterate reach any value in its range. In l2 it takes a start at
    right angles to the gradient to 15 degrees from the worst point, even on a linear model (on the sphere the tangent
    of half the angle falls as exp(-path / epsilon)), which loses 4% of the radius. 4 epsilon leaves 2 degrees.
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
    generator: torch.Generator | None,
) -> Tensor:
    """Return the last iterate of PGD on `objective`, for training, and for comparison with other libraries.

    The model's mode is left to the caller. At radius 0 the result is `x` itself and nothing is drawn.

    Args:
        model: Maps (n, ...) to logits (n, K).
        x: Images, (n, ...) in [0, 1].
        objective: Maps logits to the values to maximise, per example, (n,).
        threat: Ball and box.
        steps: Ascent steps.
        generator: For the random start; on the device of `x`. None starts from `x` itself.

    Returns:
        Points in ball and box without gradient history, shaped as `x`.
    """
    if threat.epsilon == 0:
        return x
    points = x if generator is None else threat.random_start(x, generator=generator)
    for _ in range(steps):
        gradient, _, _ = input_gradient(model, points, objective)
        points = threat.project(threat.ascend(points, gradient, step=step_length(threat, steps)), x)
    return points.detach()


def worst_points(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    objectives: Iterable[Objective],
    /,
    *,
    ascent: Ascent,
    generator: torch.Generator,
) -> Tensor:
    """Return the worst point for each image of one ascent on each objective, all from random starts of their own.

    The worst point is the first misclassified one, or else the one of highest objective. An image leaves the search
    once it is misclassified: a higher objective would not change the accuracy. Every ascent draws starts for all
    images, so that no start depends on which other images are fooled. At radius 0 the result is `x` itself.

    Args:
        model: See `Attack`; likewise the other arguments that are not named here.
        x: Images.
        y: Labels.
        objectives: One for each ascent; `ascent.restarts` does not apply.
        ascent: Ball, box and steps.
        generator: For the starts.
    """
    threat, steps = ascent.threat, ascent.steps
    if threat.epsilon == 0:
        return x
    worst, remaining = x.clone(), torch.arange(len(x), device=x.device)
    highest = torch.full((len(x),), -torch.inf, device=x.device, dtype=x.dtype)
    for objective in objectives:
        points = threat.random_start(x, generator=generator)[remaining]
        for taken in range(steps + 1):
            if len(remaining) == 0:
                break
            values_of = partial(objective, remaining)
            if taken < steps:
                gradient, values, logits = input_gradient(model, points, values_of)
            else:
                values, logits = values_at(model, points, values_of)
            fooled = ~is_correct(logits, y[remaining])
            better = fooled | (values > highest[remaining])
            worst[remaining[better]] = points[better]
            highest[remaining[better]] = values[better]
            if taken < steps:
                moved = threat.ascend(points, gradient, step=step_length(threat, steps))
                points = threat.project(moved, x[remaining])[~fooled]
            remaining = remaining[~fooled]
    return worst


def pgd(model: nn.Module, x: Tensor, y: Tensor, /, *, ascent: Ascent, generator: torch.Generator) -> Tensor:
    """Return the worst point (see `worst_points`) of ascents on cross-entropy; see `Attack` for the arguments."""
    objectives = repeat(lambda which, logits: cross_entropy(logits, y[which]), ascent.restarts)
    return worst_points(model, x, y, objectives, ascent=ascent, generator=generator)
