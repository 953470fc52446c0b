"""TRADES.

Source: Zhang et al. 2019, "Theoretically Principled Trade-off between Robustness and Accuracy" (arXiv 1901.08573),
equation 5 and algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from trainables.attacks.losses import cross_entropy, kl_divergence
from trainables.methods.base import LossTerms, Step
from trainables.models.modes import frozen_statistics
from trainables.settings import setting


@dataclass(frozen=True, kw_only=True)
class Trades:
    """CE(x) + beta * KL(softmax f(x) || softmax f(x')), x' by PGD on the divergence.

    Both sides of the divergence are differentiated; during the search for x' the clean side is fixed. Natural
    training at beta 0 or radius 0.
    """

    attacks: ClassVar[bool] = True
    paper: ClassVar[tuple[Mapping[str, float], ...]] = ({"beta": 1.0}, {"beta": 3.0}, {"beta": 6.0})
    beta: float = setting(6.0, doc="weight of the divergence", low=0.0, high=1000.0, search=(0.5, 10.0), log=True)

    def __call__(self, step: Step, /) -> LossTerms:
        """Return the loss in the parts `clean` and `divergence`."""
        if self.beta == 0 or not step.attacks:
            return LossTerms({"clean": cross_entropy(step.model(step.x), step.y)})
        x_adv = step.craft_away(kl_divergence)
        clean = step.model(step.x)
        with frozen_statistics(step.model):
            adversarial = step.model(x_adv)
        return LossTerms(
            {"clean": cross_entropy(clean, step.y), "divergence": kl_divergence(clean, adversarial)},
            {"divergence": self.beta},
        )
