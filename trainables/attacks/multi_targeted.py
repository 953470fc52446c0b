"""The multi-targeted attack: PGD towards each wrong class on its margin over the right one.

Source: Gowal et al. 2019, "An Alternative Surrogate Loss for PGD-based Adversarial Testing" (arXiv 1910.09338),
section 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from trainables.attacks.pgd import Objective, worst_points
from trainables.attacks.threat import Ascent


def multi_targeted(model: nn.Module, x: Tensor, y: Tensor, /, *, ascent: Ascent, generator: torch.Generator) -> Tensor:
    """Return the worst point (see `worst_points`) of ascents on each wrong class's margin, in each of the restarts.

    The objective towards class k is z_k - z_y. Unlike cross-entropy it neither saturates nor mixes classes: on a
    linear model the attack is exact for any number of classes. The wrong class with the largest logit comes first, so
    most images that are fooled leave the batch early. See `Attack` for the arguments; `ascent.steps` are those towards
    each class, and each restart is over all K - 1 wrong classes.
    """
    return worst_points(model, x, y, _margins(model, x, y, ascent.restarts), ascent=ascent, generator=generator)


def _margins(model: nn.Module, x: Tensor, y: Tensor, restarts: int) -> Iterator[Objective]:
    with torch.no_grad():
        logits = model(x)
    likeliest_first = logits.scatter(1, y[:, None], torch.inf).argsort(dim=1, descending=True, stable=True)[:, 1:]
    for _ in range(restarts):
        for targets in likeliest_first.unbind(1):
            yield partial(margin, y, targets)


def margin(labels: Tensor, targets: Tensor, which: Tensor, logits: Tensor, /) -> Tensor:
    """Return z_target - z_label at m of n images, (m,): positive where the target's logit is larger.

    Args:
        labels: (n,) int64.
        targets: (n,) int64.
        which: Positions of the m images, (m,) int64.
        logits: Theirs, (m, K).
    """
    return (logits.gather(1, targets[which][:, None]) - logits.gather(1, labels[which][:, None])).squeeze(1)
