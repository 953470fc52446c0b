"""Gradient regularisation by finite differences.

Source: Finlay & Oberman 2019, "Scaleable input gradient regularization for adversarial robustness" (arXiv 1905.11468),
the finite-difference form of the penalty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from trainables.attacks.losses import cross_entropy
from trainables.attacks.threat import ThreatModel
from trainables.methods.base import LossTerms, Step
from trainables.settings import INPUT_UNIT, setting


@dataclass(frozen=True, kw_only=True)
class GradientRegularization:
    """CE(x) + lambda/2 * ((CE(x + h*d) - CE(x)) / h)^2, d along the input gradient of CE.

    d is sign(g) for linf, which penalises the squared l1 norm of g, and g over its l2 norm for l2; it is not
    differentiated. x + h*d may leave the pixel box. Natural training at lambda 0.

    Yang et al. 2020 used the l2 direction with lambda 1 and h 1 under a linf threat. A squared l1 norm is larger by
    about a factor of the number of pixels, and lambda 1 makes training diverge even on the small images of digits, so
    the default and the search range are lower.
    """

    attacks: ClassVar[bool] = False
    paper: ClassVar[tuple[Mapping[str, Any], ...]] = ({"lambda": 1.0, "h": 1.0, "direction": "l2"},)
    lambda_: float = setting(
        0.1, doc="weight of the squared gradient norm", low=0.0, high=1000.0, search=(0.001, 1.0), log=True
    )
    h: float = setting(0.01, doc="step of the finite difference", unit=INPUT_UNIT, low=1e-4, high=1.0)
    direction: Literal["threat", "linf", "l2"] = setting(
        "threat", doc="norm whose steepest ascent d is; threat: the threat model's", choices=("threat", "linf", "l2")
    )

    def __call__(self, step: Step, /) -> LossTerms:
        """Return the loss in the parts `clean` and `squared_gradient`."""
        if self.lambda_ == 0:
            return LossTerms({"clean": cross_entropy(step.model(step.x), step.y)})
        with step.full_precision():
            twin = step.twin_pass()
            x = step.x.detach().requires_grad_()
            clean = cross_entropy(step.model(x), step.y)
            (gradient,) = torch.autograd.grad(clean.sum(), x, retain_graph=True)
            norm = step.norm if self.direction == "threat" else self.direction
            shifted_x = ThreatModel(norm, self.h).ascend(step.x, gradient, step=self.h)
            with twin():
                shifted = cross_entropy(step.model(shifted_x), step.y)
        squared = ((shifted - clean) / self.h).square()
        return LossTerms({"clean": clean, "squared_gradient": squared}, {"squared_gradient": self.lambda_ / 2})
