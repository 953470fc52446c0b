"""The multi-targeted attack: PGD towards each wrong class on its margin over the right one.

Source: Gowal et al. 2019, "An Alternative Surrogate Loss for PGD-based Adversarial Testing" (arXiv 1910.09338),
section 3.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from trainables.attacks.losses import margin_against
from trainables.attacks.pgd import WorstPoints, climb
from trainables.attacks.threat import ThreatModel


def multi_targeted(
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
    """Return the worst point of `steps` of ascent on each wrong class's margin, from `restarts` random starts.

    The objective towards class k is z_k - z_y. Unlike cross-entropy it neither saturates nor mixes classes: on a
    linear model the attack is exact for any number of classes. The wrong class with the largest logit comes first, so
    most images that are fooled leave the batch early.

    Args:
        model: Maps (n, ...) to logits (n, K); in the mode to be attacked.
        x: Images, (n, ...) in [0, 1].
        y: Labels, (n,) int64.
        threat: Ball and box.
        steps: Ascent steps towards each class in each restart.
        restarts: Random restarts, each over all K - 1 wrong classes.
        generator: For the starts; on the device of `x`.

    Returns:
        Points in ball and box, shaped as `x`.
    """
    if threat.epsilon == 0:
        return x
    with torch.no_grad():
        logits = model(x)
    likeliest_first = logits.scatter(1, y[:, None], torch.inf).argsort(dim=1, descending=True, stable=True)[:, 1:]
    worst = WorstPoints(x)
    for _ in range(restarts):
        for targets in likeliest_first.unbind(1):
            start = threat.random_start(x, generator=generator)
            climb(model, x, y, start, _towards(targets, y), threat=threat, steps=steps, worst=worst)
    return worst.points


def _towards(targets: Tensor, labels: Tensor) -> Callable[[Tensor], Callable[[Tensor], Tensor]]:
    def objective_of(remaining: Tensor) -> Callable[[Tensor], Tensor]:
        return margin_against(labels[remaining], targets[remaining])

    return objective_of
