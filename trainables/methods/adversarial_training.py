"""Adversarial training.

Source: Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks" (arXiv 1706.06083),
equation 2.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trainables.attacks.losses import cross_entropy, cross_entropy_against
from trainables.methods.base import LossTerms, Step


@dataclass(frozen=True, kw_only=True)
class AdversarialTraining:
    """CE(x'), x' found by PGD on CE. Natural training at radius 0."""

    attacks: ClassVar[bool] = True

    def __call__(self, step: Step, /) -> LossTerms:
        """Return the loss in one part, `adversarial`."""
        x_adv = step.craft(cross_entropy_against(step.y))
        return LossTerms({"adversarial": cross_entropy(step.model(x_adv), step.y)})
