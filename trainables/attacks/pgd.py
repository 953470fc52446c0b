"""Projected gradient ascent, as a training attack and as an evaluation.

Source: Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks" (arXiv 1706.06083),
section 2.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from trainables.attacks.base import input_gradient, is_correct, values_at
from trainables.attacks.losses import cross_entropy_against
from trainables.attacks.threat import ThreatModel


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


class WorstPoints:
    """The worst point found so far for each image, and which images are not fooled yet.

    The worst point is the first misclassified one, or else the one of highest objective. An image leaves the search
    once it is misclassified: a higher objective would not change the accuracy.

    Args:
        x: Images, (n, ...).

    Attributes:
        points: Shaped as the images; the image itself before its first update.
        remaining: Positions of the images not yet fooled, (m,) int64.
    """

    def __init__(self, x: Tensor, /) -> None:
        self.points = x.clone()
        self.remaining = torch.arange(len(x), device=x.device)
        self._highest = torch.full((len(x),), -torch.inf, device=x.device, dtype=x.dtype)

    def update(self, points: Tensor, values: Tensor, logits: Tensor, labels: Tensor, /) -> Tensor:
        """Take in one point for each remaining image.

        Args:
            points: (m, ...).
            values: Objective there, (m,).
            logits: (m, K).
            labels: (m,).

        Returns:
            Which of the m images are still not fooled, (m,) bool.
        """
        fooled = ~is_correct(logits, labels)
        better = fooled | (values > self._highest[self.remaining])
        self.points[self.remaining[better]] = points[better]
        self._highest[self.remaining[better]] = values[better]
        self.remaining = self.remaining[~fooled]
        return ~fooled


def climb(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    start: Tensor,
    objective_of: Callable[[Tensor], Callable[[Tensor], Tensor]],
    /,
    *,
    threat: ThreatModel,
    steps: int,
    worst: WorstPoints,
) -> None:
    """Ascend once from `start`, updating `worst` with every point, until all images are fooled or the steps are done.

    Args:
        model: Maps (n, ...) to logits (n, K).
        x: Images, (n, ...) in [0, 1].
        y: Labels, (n,) int64.
        start: A start for every image, (n, ...); those of images already fooled are not used.
        objective_of: Maps positions of m images to their objective, which maps logits (m, K) to values (m,).
        threat: Ball and box.
        steps: Ascent steps.
        worst: The worst points of these images; updated.
    """
    points = start[worst.remaining]
    for taken in range(steps + 1):
        if len(worst.remaining) == 0:
            return
        centres, labels, objective = x[worst.remaining], y[worst.remaining], objective_of(worst.remaining)
        if taken == steps:
            worst.update(points, *values_at(model, points, objective), labels)
            return
        gradient, values, logits = input_gradient(model, points, objective)
        remain = worst.update(points, values, logits, labels)
        points = threat.project(threat.ascend(points, gradient, step=step_length(threat, steps)), centres)[remain]


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
    """Return the worst point (see `WorstPoints`) of `steps` of ascent on cross-entropy from `restarts` random starts.

    Every restart draws starts for all images, so that no start depends on which other images are fooled.

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
    worst = WorstPoints(x)
    for _ in range(restarts):
        start = threat.random_start(x, generator=generator)
        climb(
            model, x, y, start, lambda which: cross_entropy_against(y[which]), threat=threat, steps=steps, worst=worst
        )
    return worst.points
