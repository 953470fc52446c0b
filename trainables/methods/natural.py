"""Natural training: cross-entropy on the unperturbed images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trainables.attacks.losses import cross_entropy
from trainables.methods.base import LossTerms, Step


@dataclass(frozen=True, kw_only=True)
class Natural:
    """CE(x)."""

    attacks: ClassVar[bool] = False

    def __call__(self, step: Step, /) -> LossTerms:
        """Return the loss in one part, `clean`."""
        return LossTerms({"clean": cross_entropy(step.model(step.x), step.y)})
