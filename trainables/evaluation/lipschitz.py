"""Empirical local Lipschitzness, a lower bound found by ascent.

Source: Yang et al. 2020, "A Closer Look at Accuracy vs. Robustness" (arXiv 2003.02460), equation 3.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.attacks.base import input_gradient, values_at
from trainables.attacks.threat import Ascent, ThreatModel, per_example
from trainables.evaluation.lipschitz_starts import steepest_points
from trainables.models.modes import mode
from trainables.seeding import generator

BATCH_SIZE = 128
"""Examples searched together (each in both forms). Fixed, so that results do not depend on a machine's memory."""

MIN_DISTANCE = 1e-3
"""Smallest distance of a witness from its image, in input units (a tenth of the radius if that is smaller).

fp32 logits of size 10 have round-off near 1e-5. With a local constant of 10 the logits change by 1e-2 over this
distance, so round-off changes the ratio in the search by a thousandth; at much smaller distances noise would decide
the search. Reported values are computed in float64 and do not depend on it.
"""

FAR_POINTS = 8
"""Random points at the full radius that may replace the linearisation's best point as the first start."""


@dataclass(frozen=True)
class LocalLipschitz:
    """Estimates for m examples; each is the ratio at an actual point, and so a lower bound on the supremum.

    Attributes:
        raw: Largest ||f(x) - f(x')|| / ||x - x'|| found, (m,) float64.
        scale_free: The same of logits centred per example, over `mean_margin`; None if that is not positive.
        mean_margin: Mean over examples and k != y of |z_y - z_k| at the images.
        points: Witnesses of `raw`, shaped as the images.
        points_scale_free: Witnesses of the centred form.
    """

    raw: Tensor
    scale_free: Tensor | None
    mean_margin: float
    points: Tensor
    points_scale_free: Tensor


def local_lipschitz(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    /,
    *,
    ascent: Ascent,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> LocalLipschitz:
    """Estimate sup over x' in B(x, epsilon) of ||f(x) - f(x')||_1 / ||x - x'||_inf (l2 over l2 for `l2`).

    Projected ascent in eval mode on the numerator; per example the iterate with the best ratio is returned. Restarts
    alternate between the whole ball and one that shrinks towards x during the ascent: at a given distance the
    ratio grows with the numerator, so this searches the ratio at every scale, whereas ascent on the ratio itself
    stalls at the distance it starts from. The first restart of each kind starts from the best point of the network's
    linearisation at x (see `steepest_points`), because linf has too many local maxima for a random start to find it; in
    the whole ball a few random points far from x compete with it, and win where the network is far from linear. All
    others start at random. Logits centred per example are searched separately, so that their form is not
    affected by x-dependent shifts of all logits. Values are those of the witnesses in float64.

    Args:
        model: Maps (n, ...) to logits (n, K).
        images: (m, ...) in [0, 1].
        labels: (m,) int64; only used for the mean margin.
        ascent: Ball and box, of a positive radius; steps; restarts.
        seed: Each batch draws from its own generator, derived from this and the batch's number.
        progress: Called with the number of images done, after each batch.

    Raises:
        ValueError: The radius is 0.
    """
    threat = ascent.threat
    if threat.epsilon <= 0:
        raise ValueError(f"`epsilon` must be positive to measure Lipschitzness, got {threat.epsilon:g}")
    witnesses = []
    with mode(model):
        for batch, begin in enumerate(range(0, len(images), BATCH_SIZE)):
            draws = generator(seed, "lipschitz", batch, device=images.device)
            x = images[begin : begin + BATCH_SIZE]
            witnesses.append(_search(model, x, ascent=ascent, draws=draws))
            if progress is not None:
                progress(begin + len(x))
        points, points_centred = (torch.cat(form) for form in zip(*witnesses, strict=True))
        return _reevaluate(model, images, labels, points, points_centred, threat=threat)


def _numerator(difference: Tensor, centring: Tensor | float, *, threat: ThreatModel) -> Tensor:
    difference = difference - centring * difference.mean(1, keepdim=True)
    return difference.abs().sum(1) if threat.norm == "linf" else torch.linalg.vector_norm(difference, dim=1)


def _search(model: nn.Module, x: Tensor, *, ascent: Ascent, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the witnesses of the raw and of the centred form, each shaped as `x`.

    The two forms are two halves of one batch in each forward pass.
    """
    threat, steps = ascent.threat, ascent.steps
    with torch.no_grad():
        logits = model(x).repeat(2, 1)
    centring = torch.cat([torch.zeros(len(x), 1), torch.ones(len(x), 1)]).to(x)

    def climb(new: Tensor) -> Tensor:
        return _numerator(new - logits, centring, threat=threat)

    centres = torch.cat([x, x])
    smallest = min(MIN_DISTANCE, threat.epsilon / 10)
    witness = torch.cat([threat.random_start(x, generator=draws)] * 2)
    best = torch.full((len(centres),), -torch.inf).to(x)
    candidates = [*steepest_points(model, x, threat=threat, draws=draws)]
    for _ in range(FAR_POINTS):
        drawn = torch.cat([threat.random_start(x, generator=draws)] * 2)
        candidates.append(threat.project(threat.ascend(drawn, drawn - centres, step=threat.epsilon), centres))
    rises = torch.stack([values_at(model, points, climb)[0] for points in candidates])
    examples = torch.arange(len(centres), device=x.device)
    starts = [torch.stack(candidates)[rises[:compete].argmax(0), examples] for compete in (len(candidates), 2)]
    for restart in range(ascent.restarts):
        balls = _balls(threat, smallest, steps, shrinking=restart % 2 == 1)
        points = torch.cat([threat.random_start(x, generator=draws)] * 2)
        if restart < len(starts):
            moves = threat.distance(starts[restart], centres) >= smallest
            points = torch.where(per_example(moves, x), starts[restart], points)
        for taken, ball in enumerate(balls):
            if taken < steps:
                gradient, rise, _ = input_gradient(model, points, climb)
            else:
                rise, _ = values_at(model, points, climb)
            distance = threat.distance(points, centres)
            ratio = rise / distance
            better = (distance >= smallest) & (ratio > best)
            best = torch.where(better, ratio, best)
            witness = torch.where(per_example(better, x), points, witness)
            if taken < steps:
                share = 0.5 * (1 + math.cos(math.pi * (taken / steps)))
                moved = threat.ascend(points, gradient, step=ball.epsilon * share)
                narrower = balls[taken + 1].epsilon / ball.epsilon
                points = balls[taken + 1].project(centres + narrower * (moved - centres), centres)
    raw, centred = witness.chunk(2)
    return raw, centred


def _balls(threat: ThreatModel, smallest: float, steps: int, /, *, shrinking: bool) -> list[ThreatModel]:
    """Return the ball of each iterate: always the whole ball, or shrinking geometrically to twice `smallest`."""
    narrowest = min(1.0, 2 * smallest / threat.epsilon) if shrinking else 1.0
    return [ThreatModel(threat.norm, threat.epsilon * narrowest ** (taken / steps)) for taken in range(steps + 1)]


def _reevaluate(
    model: nn.Module, images: Tensor, labels: Tensor, points: Tensor, points_centred: Tensor, *, threat: ThreatModel
) -> LocalLipschitz:
    exact = copy.deepcopy(model).double()
    raw: list[Tensor] = []
    centred: list[Tensor] = []
    margins: list[Tensor] = []
    with torch.no_grad():
        for begin in range(0, len(images), BATCH_SIZE):
            part = slice(begin, begin + BATCH_SIZE)
            x, y = images[part].double(), labels[part]
            logits = exact(x)
            for values, witnesses, centring in ((raw, points, 0.0), (centred, points_centred, 1.0)):
                witness = witnesses[part].double()
                rise = _numerator(exact(witness) - logits, centring, threat=threat)
                values.append(rise / threat.distance(witness, x))
            margins.append((logits.gather(1, y[:, None]) - logits).abs().sum(1) / max(1, logits.shape[1] - 1))
    mean_margin = float(torch.cat(margins).mean())
    scale_free = torch.cat(centred) / mean_margin if mean_margin > 0 else None
    return LocalLipschitz(torch.cat(raw), scale_free, mean_margin, points, points_centred)
