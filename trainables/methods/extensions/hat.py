"""Helper-based adversarial training.

Source: Rade & Moosavi-Dezfooli 2022, "Reducing Excessive Margin to Achieve a Better Accuracy vs. Robustness Trade-off"
(ICLR 2022), its loss with the KL divergence; compared with the authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from trainables.attacks.losses import cross_entropy, kl_divergence
from trainables.methods.base import LossTerms, Step
from trainables.models.modes import frozen_statistics
from trainables.settings import setting


@dataclass(frozen=True, kw_only=True)
class Hat:
    """CE(x) + beta * KL(p(x) || p(x')) + gamma * CE(x + h (x' - x), c), x' by PGD on the divergence.

    c is the class that a naturally trained network of the same model predicts at x'. x + h (x' - x) may leave the pixel
    box. TRADES at gamma 0, which needs no helper; natural training at beta = gamma = 0 or radius 0.
    """

    attacks: ClassVar[bool] = True
    beta: float = setting(2.5, doc="weight of the divergence", low=0.0, high=1000.0, search=(0.5, 10.0), log=True)
    gamma: float = setting(
        0.5, doc="weight of the loss at the helper's points", low=0.0, high=1000.0, search=(0.1, 2.0), log=True
    )
    h: float = setting(
        2.0, doc="distance of the helper's points, as a multiple of x' - x", low=0.0, high=100.0, search=(2.0, 3.5)
    )

    @property
    def helper(self) -> bool:
        """Whether the loss asks the helper."""
        return self.gamma > 0

    def __call__(self, step: Step, /) -> LossTerms:
        """Return the loss in the parts `clean`, `divergence` and `helper`."""
        if (self.beta == 0 and self.gamma == 0) or not step.attacks:
            return LossTerms({"clean": cross_entropy(step.model(step.x), step.y)})
        x_adv = step.craft_away(kl_divergence)
        clean = step.model(step.x)
        parts, weights = {"clean": cross_entropy(clean, step.y)}, {}
        with frozen_statistics(step.model):
            if self.beta > 0:
                parts["divergence"], weights["divergence"] = kl_divergence(clean, step.model(x_adv)), self.beta
            if self.gamma > 0:
                with torch.no_grad():
                    classes = step.helper(x_adv).argmax(1)
                beyond = step.x + self.h * (x_adv - step.x)
                parts["helper"], weights["helper"] = cross_entropy(step.model(beyond), classes), self.gamma
        return LossTerms(parts, weights)
