"""A training method: adversarial training with smoothed labels."""

from dataclasses import dataclass
from typing import ClassVar

from torch.nn.functional import cross_entropy

from trainables.methods.base import LossTerms, Step
from trainables.settings import setting


@dataclass(frozen=True)
class SmoothedLabels:
    """Cross-entropy with smoothed labels on adversarial images."""

    attacks: ClassVar[bool] = True
    smoothing: float = setting(
        0.1, low=0.0, high=0.5, search=(0.0, 0.3), doc="share of each label given to all classes"
    )

    def __call__(self, step: Step, /) -> LossTerms:
        """Return the loss of each image, (n,)."""
        points = step.craft(lambda logits: cross_entropy(logits, step.y, reduction="none"))
        logits = step.model(points)
        loss = cross_entropy(logits, step.y, reduction="none", label_smoothing=self.smoothing)
        return LossTerms({"smoothed_cross_entropy": loss})
