"""A penalty on empirical local Lipschitzness.

Source: this project's own. The ratio is that of equation 3 of Yang et al. 2020, "A Closer Look at Accuracy vs.
Robustness" (arXiv 2003.02460), which the paper measures but does not train with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from trainables.attacks.losses import cross_entropy, cross_entropy_against
from trainables.methods.base import LossTerms, Step
from trainables.models.modes import frozen_statistics
from trainables.settings import setting
from trainables.spec import Norm


@dataclass(frozen=True, kw_only=True)
class LipschitzPenalty:
    """CE + lambda * ||z(x) - z(x')||_1 / ||x - x'||_inf (l2 over l2 for l2), x' by PGD on the numerator.

    Both sides of the numerator are differentiated, under one dropout mask; x' is not. The ratio at one point is a
    lower bound on the local Lipschitz constant. `form: scale_free` centres the logits of each image and divides by the
    batch's mean margin, the mean over images and k != y of |z_y - z_k|, which is differentiated too: scaling all
    logits, which lowers the raw penalty without making any prediction more stable, does not change it.

    With `on: clean` CE is at x: natural training at lambda 0 or radius 0. With `on: adversarial` it is at a point of
    its own, by PGD on CE, at twice the cost: adversarial training at lambda 0, natural training at radius 0.
    """

    attacks: ClassVar[bool] = True
    lambda_: float = setting(0.03, doc="weight of the ratio", low=0.0, high=1000.0, search=(0.001, 0.1), log=True)
    on: Literal["clean", "adversarial"] = setting(
        "clean", doc="images of the cross-entropy; adversarial: a second attack", choices=("clean", "adversarial")
    )
    form: Literal["raw", "scale_free"] = setting(
        "raw", doc="ratio of the logits, or of centred logits over their mean margin", choices=("raw", "scale_free")
    )

    def __call__(self, step: Step, /) -> LossTerms:
        """Return the loss in the parts `clean` or `adversarial`, and `lipschitz`."""
        kind = self.on if step.attacks else "clean"
        x_adv = step.craft(cross_entropy_against(step.y)) if kind == "adversarial" else step.x
        if self.lambda_ == 0 or step.threat is None or not step.attacks:
            return LossTerms({kind: cross_entropy(step.model(x_adv), step.y)})
        with step.full_precision():
            points = step.craft_away(self._change(step.norm))
            parts = {}
            if kind == "adversarial":
                parts["adversarial"] = cross_entropy(step.model(x_adv), step.y)
                with frozen_statistics(step.model):
                    logits, moved = _two_passes(step, points)
            else:
                logits, moved = _two_passes(step, points)
                parts["clean"] = cross_entropy(logits, step.y)
        distance = step.threat.distance(points, step.x).clamp_min(torch.finfo(points.dtype).tiny)
        ratio = self._change(step.norm)(logits, moved) / distance
        parts["lipschitz"] = ratio / _mean_margin(logits, step.y) if self.form == "scale_free" else ratio
        return LossTerms(parts, {"lipschitz": self.lambda_})

    def _change(self, norm: Norm) -> Change:
        return Change(norm, centred=self.form == "scale_free")


@dataclass(frozen=True)
class Change:
    """The numerator of the ratio: the norm of the difference of two batches of logits, (n,).

    Attributes:
        norm: The threat model's; the numerator's is l1 for linf, and l2 for l2.
        centred: Whether each image's mean is subtracted.
    """

    norm: Norm
    centred: bool

    def __call__(self, logits: Tensor, moved: Tensor, /) -> Tensor:
        """Return one value for each pair of rows, (n, K) and (n, K)."""
        difference = moved - logits
        if self.centred:
            difference = difference - difference.mean(1, keepdim=True)
        change: Tensor = torch.linalg.vector_norm(difference, ord=1 if self.norm == "linf" else 2, dim=1)
        return change


def _two_passes(step: Step, points: Tensor) -> tuple[Tensor, Tensor]:
    twin = step.twin_pass()
    logits = step.model(step.x)
    with twin():
        return logits, step.model(points)


def _mean_margin(logits: Tensor, labels: Tensor) -> Tensor:
    margins = (logits.gather(1, labels[:, None]) - logits).abs().sum(1) / (logits.shape[1] - 1)
    return margins.mean().clamp_min(torch.finfo(logits.dtype).tiny)
