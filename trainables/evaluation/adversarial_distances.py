"""The distance of each image to the nearest misclassified point that an attack finds: an upper bound."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.attacks.base import BATCH_SIZE, is_correct, load_attack, run_attack
from trainables.attacks.threat import Ascent, ThreatModel, per_example
from trainables.evaluation.progress import Report, stage
from trainables.models.modes import mode
from trainables.seeding import derive

CAP = 4.0
"""The largest radius searched, as a multiple of a study's own."""

ROUNDS = 7
"""Attacks on each image: bisection narrows the radius to a 128th of the cap, of which the study's own is the 32nd."""

HALVINGS = 12
"""Bisections of the line from an image to a point that fools the network."""

_STAGE = "adversarial distance"


@dataclass(frozen=True)
class AdversarialDistances:
    """How near to each of n images an adversarial example was found.

    Attributes:
        distance: (n,) float64 in input units: of the nearest misclassified point found, so an upper bound of the
            distance to the nearest there is; 0 where the image itself is misclassified, inf where none was found.
        points: Those points, shaped as the images; the image itself where its distance is 0 or inf.
        flags: Flags that the attack or its wrapper raised.
    """

    distance: Tensor
    points: Tensor
    flags: frozenset[str]


def adversarial_distances(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    /,
    *,
    attack: str,
    ascent: Ascent,
    seed: int,
    report: Report | None = None,
) -> AdversarialDistances:
    """Bisect the radius at which an attack first fools a network, image by image.

    An attack that fails within a radius raises the lower end of an image's search. One that succeeds lowers the upper
    end: to the point that it found, after that point was moved along the line to the image as far as it remains
    misclassified. The nearest point of all attacks counts, whichever radius it was found at.

    Args:
        model: Maps (n, ...) to logits (n, K); its modes are unchanged afterwards. NaN logits count as misclassified.
        images: (n, ...) float32 in [0, 1].
        labels: (n,) int64.
        attack: Registered attack or `package.module:object`.
        ascent: Norm, the cap as radius, and the attack's steps and restarts.
        seed: The result depends on it and the other arguments only.
        report: Called with the number of attacks that are done, of `ROUNDS` for each image.
    """
    search = _Search(model, images, labels, cap=ascent.threat)
    flags: set[str] = set()
    done, total = 0, ROUNDS * len(images)
    advance = stage(report, _STAGE, total)
    for number in range(1, ROUNDS + 1):
        for level, which in search.groups():
            threat = ThreatModel(ascent.threat.norm, level * search.step)
            robust, points = run_attack(
                load_attack(attack),
                model,
                images[which],
                labels[which],
                ascent=Ascent(threat, ascent.steps, ascent.restarts),
                seed=derive(seed, "distance", number, level),
                flags=flags,
            )
            search.take(which[~robust], points[~robust])
            search.low[which[robust]] = level
            done += len(which)
            if advance is not None:
                advance(min(done, total))
    if advance is not None:
        advance(total)
    return AdversarialDistances(search.distance, search.points, frozenset(flags))


class _Search:
    """The state of the bisection: radii are whole multiples of `step`, so that images with equal radii share batches.

    Attributes:
        step: Of the radii: the cap divided by the number of levels.
        low: The largest level at which the attack failed, (n,) int64.
        high: The smallest level that contains the nearest point found, (n,); the cap's, at which no attack is run,
            without one.
        distance: See `AdversarialDistances`; likewise `points`.
    """

    def __init__(self, model: nn.Module, images: Tensor, labels: Tensor, *, cap: ThreatModel) -> None:
        self._model, self._images, self._labels, self._norm = model, images, labels, cap.norm
        levels = 2**ROUNDS
        self.step = cap.epsilon / levels
        wrong = ~_correct(model, images, labels)
        self.points = images.clone()
        self.distance = torch.full((len(images),), torch.inf, dtype=torch.float64, device=images.device)
        self.distance[wrong] = 0
        self.low = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        self.high = torch.full_like(self.low, levels)
        self.high[wrong] = 0

    def groups(self) -> list[tuple[int, Tensor]]:
        """Return the levels to attack at next, each with the positions of its images."""
        # a point nearer than where an earlier attack failed: that attack was too weak to be relied on
        self.low[self.low >= self.high] = 0
        level = torch.where(self.high - self.low > 1, (self.low + self.high) // 2, 0)
        return [
            (each, (level == each).nonzero().squeeze(1)) for each in torch.unique(level).tolist() if each and self.step
        ]

    def take(self, which: Tensor, points: Tensor) -> None:
        """Take in misclassified points near some of the images."""
        if not len(which):
            return
        images = self._images[which]
        points = _towards(self._model, images, points, self._labels[which])
        distance = ThreatModel(self._norm, 0.0).distance(points.double(), images.double())
        nearer = distance < self.distance[which]
        self.distance[which[nearer]], self.points[which[nearer]] = distance[nearer], points[nearer]
        self.high[which] = torch.ceil(self.distance[which] / self.step).long().minimum(self.high[which])


def _towards(model: nn.Module, images: Tensor, points: Tensor, labels: Tensor) -> Tensor:
    """Return misclassified points moved towards their images as far as they remain misclassified."""
    nearest = points
    correct, wrong = points.new_zeros(len(points)), points.new_ones(len(points))
    for _ in range(HALVINGS):
        middle = (correct + wrong) / 2
        tried = images + per_example(middle, images) * (points - images)
        fooled = ~_correct(model, tried, labels)
        nearest = torch.where(per_example(fooled, images), tried, nearest)
        correct, wrong = torch.where(fooled, correct, middle), torch.where(fooled, middle, wrong)
    return nearest


@torch.no_grad()
def _correct(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    batches = zip(torch.split(images, BATCH_SIZE), torch.split(labels, BATCH_SIZE), strict=True)
    with mode(model):
        return torch.cat([is_correct(model(x), y) for x, y in batches])
