"""Misclassification-aware adversarial training.

Source: Wang et al. 2020, "Improving Adversarial Robustness Requires Revisiting Misclassified Examples" (ICLR 2020), its
loss with boosted cross-entropy; compared with the authors' code, which adds constants of 1e-4 and less inside the
logarithms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trainables.attacks.losses import boosted_cross_entropy, cross_entropy, cross_entropy_against, kl_divergence
from trainables.methods.base import LossTerms, Step
from trainables.models.modes import frozen_statistics
from trainables.settings import setting


@dataclass(frozen=True, kw_only=True)
class Mart:
    """-log p_y(x') - log(1 - max_{k != y} p_k(x')) + beta * KL(p(x) || p(x')) * (1 - p_y(x)), x' by PGD on CE.

    All of it is differentiated. No setting is natural or adversarial training, because of the second logarithm; at
    radius 0 the divergence is left out.
    """

    attacks: ClassVar[bool] = True
    beta: float = setting(
        6.0, doc="weight of the weighted divergence", low=0.0, high=1000.0, search=(0.5, 10.0), log=True
    )

    def __call__(self, step: Step, /) -> LossTerms:
        """Return the loss in the parts `boosted` and `divergence`."""
        x_adv = step.craft(cross_entropy_against(step.y))
        if self.beta == 0 or not step.attacks:
            return LossTerms({"boosted": boosted_cross_entropy(step.model(x_adv), step.y)})
        clean = step.model(step.x)
        with frozen_statistics(step.model):
            adversarial = step.model(x_adv)
        missing = -(-cross_entropy(clean, step.y)).expm1()
        return LossTerms(
            {
                "boosted": boosted_cross_entropy(adversarial, step.y),
                "divergence": kl_divergence(clean, adversarial) * missing,
            },
            {"divergence": self.beta},
        )
