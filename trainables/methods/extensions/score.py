"""Self-consistent robust error.

Source: Pang et al. 2022, "Robustness and Accuracy Could Be Reconcilable by (Proper) Definition" (arXiv 2202.10103), its
squared loss in the form of TRADES; compared with the authors' code, whose optional clipping of the second term is left
out. Their code has no default for beta.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trainables.attacks.losses import squared_distance, squared_error
from trainables.methods.base import LossTerms, Step
from trainables.models.modes import frozen_statistics
from trainables.settings import setting


@dataclass(frozen=True, kw_only=True)
class Score:
    """||p(x) - t||^2 + beta * ||p(x') - p(x)||^2, x' by PGD on the second term.

    t is the label, of which a share `smoothing` is spread over the other classes. Both sides of the second term are
    differentiated. It has no cross-entropy, so no setting is natural or adversarial training; at beta 0 or radius 0 it
    is natural training with the squared loss.
    """

    attacks: ClassVar[bool] = True
    beta: float = setting(
        4.0, doc="weight of the distance of p(x') from p(x)", low=0.0, high=1000.0, search=(0.5, 10.0), log=True
    )
    smoothing: float = setting(0.1, doc="share of a label that other classes get", low=0.0, high=0.9)

    def __call__(self, step: Step, /) -> LossTerms:
        """Return the loss in the parts `clean` and `distance`."""
        if self.beta == 0 or not step.attacks:
            return LossTerms({"clean": squared_error(step.model(step.x), step.y, smoothing=self.smoothing)})
        x_adv = step.craft_away(squared_distance)
        clean = step.model(step.x)
        with frozen_statistics(step.model):
            adversarial = step.model(x_adv)
        return LossTerms(
            {
                "clean": squared_error(clean, step.y, smoothing=self.smoothing),
                "distance": squared_distance(clean, adversarial),
            },
            {"distance": self.beta},
        )
