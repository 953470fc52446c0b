"""Robust self-training.

Source: Raghunathan et al. 2020, "Understanding and Mitigating the Tradeoff between Robustness and Accuracy"
(arXiv 2002.10716); Carmon et al. 2019, "Unlabeled Data Improves Adversarial Robustness" (arXiv 1905.13736),
algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from trainables.attacks.losses import cross_entropy, cross_entropy_against
from trainables.methods.base import LossTerms, Step
from trainables.models.modes import frozen_statistics
from trainables.settings import setting


@dataclass(frozen=True, kw_only=True)
class RobustSelfTraining:
    """CE(x) + lambda * CE(x'), x' found by PGD on CE; each pass draws its own dropout mask.

    With a pool, each batch has as many images from the pool as labelled images; a natural model that was trained on
    the training split only labels them. Without a pool this is RST as run by Yang et al. 2020. Natural training at
    lambda 0 or radius 0.
    """

    attacks: ClassVar[bool] = True
    paper: ClassVar[tuple[Mapping[str, float], ...]] = ({"lambda": 0.5}, {"lambda": 1.0}, {"lambda": 2.0})
    lambda_: float = setting(1.0, doc="weight of the loss at x'", low=0.0, high=1000.0, search=(0.25, 4.0), log=True)
    pool: str | None = setting(
        None, doc="unlabelled images: a data set, a Parquet file or a folder of them, package.module:object"
    )

    def __call__(self, step: Step, /) -> LossTerms:
        """Return the loss in the parts `clean` and `adversarial`."""
        if self.lambda_ == 0 or not step.attacks:
            return LossTerms({"clean": cross_entropy(step.model(step.x), step.y)})
        x_adv = step.craft(cross_entropy_against(step.y))
        clean = cross_entropy(step.model(step.x), step.y)
        with frozen_statistics(step.model):
            adversarial = cross_entropy(step.model(x_adv), step.y)
        return LossTerms({"clean": clean, "adversarial": adversarial}, {"adversarial": self.lambda_})
