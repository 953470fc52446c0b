"""Targeted attacks: PGD towards wrong classes, each on its margin over the right one.

Source: Gowal et al. 2019, "An Alternative Surrogate Loss for PGD-based Adversarial Testing" (arXiv 1910.09338),
section 3.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from trainables.attacks.base import BATCH_SIZE
from trainables.attacks.pgd import WorstPoints, decaying_steps, worst_points
from trainables.attacks.threat import Ascent

TARGETS = 9
"""Most classes that `reachable_targets` tries, the likeliest wrong ones."""

REACH = 1.7
"""A class is within reach if this multiple of the largest gain of earlier ascents closes its gap to the right one."""

LIKELY, REACH_OF_LIKELY = 3, 3.0
"""The same for the likeliest classes: where margins bend, another one can gain much more than the first."""

CLOSED = 0.75
"""Where an ascent raised a margin by this share of the likeliest class's gap, `LIKELIEST` classes are tried anyway."""

LIKELIEST = 5

NEAR = 0.2
"""An image is nearly fooled if this multiple of its largest gain would close the gap that is left."""


def multi_targeted(model: nn.Module, x: Tensor, y: Tensor, /, *, ascent: Ascent, generator: torch.Generator) -> Tensor:
    """Return the worst points (see `WorstPoints`) of ascents on each wrong class's margin, in each of the restarts.

    The objective towards class k is z_k - z_y. Unlike cross-entropy it neither saturates nor mixes classes: on a
    linear model the attack is exact for any number of classes. The wrong class with the largest logit comes first, so
    most images that are fooled leave the batch early. See `Attack` for the arguments; `ascent.steps` are those towards
    each class, and each restart is over all K - 1 wrong classes.
    """
    ranked = _likeliest_first(_logits(model, x), y)
    objectives = [partial(target_margin, y, targets) for targets in ranked.unbind(1)] * ascent.restarts
    return worst_points(model, x, y, objectives, ascent=ascent, lengths=decaying_steps, generator=generator)


def reachable_targets(
    model: nn.Module, x: Tensor, y: Tensor, /, *, ascent: Ascent, generator: torch.Generator
) -> Tensor:
    """Return the worst points of the multi-targeted attack without the ascents that have no prospect.

    The ascent towards the likeliest wrong class shows how much of a margin an image's ball can gain. The other classes
    are tried together, in half the steps, where `REACH` or `REACH_OF_LIKELY` times that gain exceeds the gap that they
    have to close, or where it nearly closed the first gap (`CLOSED`), as margins may bend; gains and gaps are compared
    with each other, so the scale of the logits has no influence. Images that end near misclassification (`NEAR`) get
    one ascent more, of twice the steps, towards the class that came nearest. So the effort goes to images that are in
    doubt.

    See `Attack` for the arguments; `ascent.steps` are those towards the likeliest class, and each restart repeats
    everything.
    """
    threat = ascent.threat
    if threat.epsilon == 0:
        return x
    logits = _logits(model, x)
    ranked = _likeliest_first(logits, y)[:, :TARGETS]
    gaps = logits.gather(1, y[:, None]) - logits.gather(1, ranked)
    worst = WorstPoints(model, x, y, threat=threat, generator=generator)
    gain, nearest = torch.zeros_like(worst.values), ranked[:, 0].clone()
    likeliest, others = torch.arange(ranked.shape[1], device=x.device).tensor_split((1,))
    for _ in range(ascent.restarts):
        for ranks, steps in ((likeliest, ascent.steps), (others, -(-ascent.steps // 2))):
            reach = torch.where(ranks < LIKELY, REACH_OF_LIKELY, REACH)
            within = (ranks == 0) | (reach * gain[:, None] > gaps[:, ranks])
            within |= (gain > CLOSED * gaps[:, 0])[:, None] & (ranks < LIKELIEST)
            image, rank = (within & ~worst.fooled[:, None]).nonzero(as_tuple=True)
            # pairs of image and class are ascended together, in batches of the usual size
            for images, classes in zip(*(torch.split(pair, BATCH_SIZE) for pair in (image, ranks[rank])), strict=True):
                targets = ranked[images, classes]
                pairs = WorstPoints(model, x[images], y[images], threat=threat, generator=generator)
                pairs.ascend(partial(target_margin, y[images], targets), decaying_steps(threat, steps))
                for each in classes.unique():
                    part = classes == each
                    owner = images[part]
                    nearer = worst.take(owner, pairs.points[part], pairs.values[part], pairs.fooled[part])
                    nearest[owner[nearer]] = targets[part][nearer]
                    gain[owner] = torch.maximum(gain[owner], pairs.values[part] + gaps[owner, each])
        last = partial(target_margin, y, nearest)
        worst.ascend(last, decaying_steps(threat, 2 * ascent.steps), which=worst.values + NEAR * gain > 0)
    return worst.points


def target_margin(labels: Tensor, targets: Tensor, which: Tensor, logits: Tensor, /) -> Tensor:
    """Return z_target - z_label at m of n images, (m,): positive where the target's logit is larger.

    Args:
        labels: (n,) int64.
        targets: (n,) int64.
        which: Positions of the m images, (m,) int64.
        logits: Theirs, (m, K).
    """
    return (logits.gather(1, targets[which][:, None]) - logits.gather(1, labels[which][:, None])).squeeze(1)


@torch.no_grad()
def _logits(model: nn.Module, x: Tensor) -> Tensor:
    logits: Tensor = model(x)
    return logits


def _likeliest_first(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the wrong classes of each image by descending logit, (n, K) to (n, K - 1)."""
    return logits.scatter(1, labels[:, None], torch.inf).argsort(dim=1, descending=True, stable=True)[:, 1:]
