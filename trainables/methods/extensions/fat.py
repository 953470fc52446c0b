"""Friendly adversarial training.

Source: Zhang et al. 2020, "Attacks Which Do Not Kill Training Make Adversarial Learning Stronger" (arXiv 2002.11242),
algorithm 1 (PGD-K-tau), compared with the authors' code. Theirs raises tau during training and adds noise of .001 to
each step; here tau is constant and a step has no noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from trainables.attacks.base import input_gradient, is_correct
from trainables.attacks.losses import cross_entropy, cross_entropy_against
from trainables.attacks.pgd import constant_steps
from trainables.attacks.threat import ThreatModel, per_example
from trainables.methods.base import LossTerms, Step
from trainables.settings import setting


@dataclass(frozen=True, kw_only=True)
class Fat:
    """CE(x'), x' by PGD on CE that takes at most tau steps from points that are misclassified.

    Adversarial training from tau = `training.attack_steps` on, natural training at radius 0. An image that has stopped
    costs no further gradients, unless the attack is crafted with batch norm in train mode.
    """

    attacks: ClassVar[bool] = True
    tau: int = setting(1, doc="PGD steps from misclassified points", unit="steps", low=0, high=1000, search=(0, 3))

    def __call__(self, step: Step, /) -> LossTerms:
        """Return the loss in one part, `adversarial`."""
        x_adv = step.x
        if step.threat is not None and step.attacks:
            x_adv = step.find(partial(_friendly_points, step, step.threat, tau=self.tau))
        return LossTerms({"adversarial": cross_entropy(step.model(x_adv), step.y)})


def _friendly_points(step: Step, threat: ThreatModel, *, tau: int) -> Tensor:
    points = threat.random_start(step.x, generator=step.generator)
    left = torch.full_like(step.y, tau)
    moving = torch.ones_like(step.y, dtype=torch.bool)
    with step.crafting():
        for length in constant_steps(threat, step.attack_steps):
            # Batch statistics of the images that still move would depend on which these are.
            of = (moving | (step.bn == "train")).nonzero().squeeze(1)
            gradient, _, logits = input_gradient(step.model, points[of], cross_entropy_against(step.y[of]))
            fooled = ~is_correct(logits, step.y[of])
            goes = moving[of] & (~fooled | (left[of] > 0))
            left[of] -= fooled.to(left.dtype)
            moved = threat.project(threat.ascend(points[of], gradient, step=length), step.x[of])
            points[of] = torch.where(per_example(goes, moved), moved, points[of])
            moving[of] = goes
            if not moving.any():
                break
    return points
