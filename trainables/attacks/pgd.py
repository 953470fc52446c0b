"""Projected gradient ascent, as a training attack and as an evaluation.

Source: Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks" (arXiv 1706.06083),
section 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import repeat

import torch
from torch import Tensor, nn

from trainables.attacks.base import input_gradient, is_correct, values_at
from trainables.attacks.losses import cross_entropy
from trainables.attacks.threat import Ascent, ThreatModel

Objective = Callable[[Tensor, Tensor], Tensor]
"""Maps positions of m images, (m,) int64, and their logits, (m, K), to the values to maximise, (m,)."""


def constant_steps(threat: ThreatModel, steps: int, /) -> list[float]:
    """Return the lengths of `steps` equal steps: together 2 * epsilon for linf, twice that for l2.

    A path of 2 epsilon lets every pixel of a linf iterate reach any value in its range. In l2 it takes a start at
    right angles to the gradient to 15 degrees from the worst point, even on a linear model (on the sphere the tangent
    of half the angle falls as exp(-path / epsilon)), which loses 4% of the radius. 4 epsilon leaves 2 degrees.
    """
    return [(2 if threat.norm == "linf" else 4) * threat.epsilon / steps] * steps


def decaying_steps(threat: ThreatModel, steps: int, /) -> list[float]:
    """Return the lengths of `steps` steps that decay from 2 epsilon along a cosine.

    The first steps cross the ball, the last ones settle on a maximum: at equal cost fewer images are missed than with
    equal steps.
    """
    return [threat.epsilon * (1 + math.cos(math.pi * taken / steps)) for taken in range(steps)]


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
    for length in constant_steps(threat, steps):
        gradient, _, _ = input_gradient(model, points, objective)
        points = threat.project(threat.ascend(points, gradient, step=length), x)
    return points.detach()


class WorstPoints:
    """The worst point that several ascents found for each image: the first misclassified one, or of highest objective.

    An image leaves the search once it is misclassified: a higher objective would not change the accuracy.

    Args:
        model: See `Attack`; likewise the other arguments.
        x: Images.
        y: Labels.
        threat: Ball and box.
        generator: For the starts.

    Attributes:
        points: Shaped as the images; the image itself before its first ascent.
        values: The objective there, (n,).
        fooled: Whether it is misclassified, (n,) bool.
    """

    def __init__(
        self, model: nn.Module, x: Tensor, y: Tensor, /, *, threat: ThreatModel, generator: torch.Generator
    ) -> None:
        self._model, self._x, self._y, self._threat, self._generator = model, x, y, threat, generator
        self.points = x.clone()
        self.values = torch.full((len(x),), -torch.inf, device=x.device, dtype=x.dtype)
        self.fooled = torch.zeros(len(x), device=x.device, dtype=torch.bool)

    def take(self, which: Tensor, points: Tensor, values: Tensor, fooled: Tensor, /) -> Tensor:
        """Take in a point for some of the images, and return at which it is the worst so far, (m,) bool.

        Args:
            which: Positions of m images, each once, (m,) int64; those that are fooled already keep their point.
            points: (m, ...).
            values: The objective there, (m,).
            fooled: Whether they are misclassified, (m,) bool.
        """
        better = (fooled | (values > self.values[which])) & ~self.fooled[which]
        self.points[which[better]] = points[better]
        self.values[which[better]] = values[better]
        self.fooled[which] |= fooled
        return better

    def ascend(self, objective: Objective, lengths: Sequence[float], /, *, which: Tensor | None = None) -> None:
        """Ascend from random starts on images that are not fooled yet.

        Starts are drawn for all images, so that no start depends on which other images are fooled.

        Args:
            objective: What to maximise.
            lengths: Of the steps, in input units.
            which: Marks the images to ascend on, (n,) bool; None means all.
        """
        start = self._threat.random_start(self._x, generator=self._generator)
        remaining = (~self.fooled if which is None else which & ~self.fooled).nonzero().squeeze(1)
        points = start[remaining]
        for length in (*lengths, None):
            if len(remaining) == 0:
                break
            values_of = partial(objective, remaining)
            if length is None:
                values, logits = values_at(self._model, points, values_of)
            else:
                gradient, values, logits = input_gradient(self._model, points, values_of)
            fooled = ~is_correct(logits, self._y[remaining])
            self.take(remaining, points, values, fooled)
            if length is not None:
                moved = self._threat.ascend(points, gradient, step=length)
                points = self._threat.project(moved, self._x[remaining])[~fooled]
            remaining = remaining[~fooled]


def pgd(model: nn.Module, x: Tensor, y: Tensor, /, *, ascent: Ascent, generator: torch.Generator) -> Tensor:
    """Return the worst points (see `WorstPoints`) of ascents on cross-entropy in equal steps.

    This is the attack of the papers' tables. Cross-entropy saturates and mixes classes, so it overstates robust
    accuracy, by more for some methods than for others: `reachable_targets` compares methods fairly. See `Attack` for
    the arguments.
    """
    objectives = repeat(lambda which, logits: cross_entropy(logits, y[which]), ascent.restarts)
    return worst_points(model, x, y, objectives, ascent=ascent, lengths=constant_steps, generator=generator)


def worst_points(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    objectives: Iterable[Objective],
    /,
    *,
    ascent: Ascent,
    lengths: Callable[[ThreatModel, int], list[float]],
    generator: torch.Generator,
) -> Tensor:
    """Return the worst points of one ascent on each objective; at radius 0 `x` itself.

    Args:
        model: See `Attack`; likewise the other arguments that are not named here.
        x: Images.
        y: Labels.
        objectives: One for each ascent; `ascent.restarts` does not apply.
        ascent: Ball, box and steps.
        lengths: `constant_steps` or `decaying_steps`.
        generator: For the starts.
    """
    if ascent.threat.epsilon == 0:
        return x
    worst = WorstPoints(model, x, y, threat=ascent.threat, generator=generator)
    for objective in objectives:
        worst.ascend(objective, lengths(ascent.threat, ascent.steps))
    return worst.points
