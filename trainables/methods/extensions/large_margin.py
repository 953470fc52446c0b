"""Cross-entropy with an offset and a temperature, for networks whose margins are certificates.

Source: Prach & Lampert 2022, "Almost-Orthogonal Layers for Efficient General-Purpose Lipschitz Networks" (arXiv
2208.03160), section 4, with tau for their 1 / t, as Araujo et al. 2023 (arXiv 2303.03169) train SLL networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch.nn.functional import one_hot

from trainables.attacks.losses import cross_entropy
from trainables.certified.global_margins import global_constant
from trainables.methods.base import LossTerms, Step
from trainables.settings import setting


@dataclass(frozen=True, kw_only=True)
class LargeMargin:
    """CE(tau (z / L - o onehot(y)), y) / tau, where L is the network's known Lipschitz constant in l2.

    So margins are in input units: one of sqrt(2) e certifies the radius e, and the offset o asks for that much. L is 1
    where no constant is known; then the loss is natural training at tau 1 and o 0.
    """

    attacks: ClassVar[bool] = False
    sharpness: float = setting(
        10.0, doc="tau: the smaller, the farther a margin is pushed beyond the offset", low=1.0, high=200.0,
        search=(1.0, 200.0), log=True,
    )  # fmt: skip
    offset: float = setting(
        1.0, doc="o: margin that the loss asks for, sqrt(2) times a radius", unit="input units", low=0.0, high=10.0,
        search=(0.0, 1.0),
    )  # fmt: skip

    def __call__(self, step: Step, /) -> LossTerms:
        """Return the loss in one part, `clean`."""
        logits = step.model(step.x)
        logits = logits / (global_constant(step.network) or 1.0)
        shifted = logits - self.offset * one_hot(step.y, logits.shape[1])
        return LossTerms({"clean": cross_entropy(self.sharpness * shifted, step.y) / self.sharpness})
