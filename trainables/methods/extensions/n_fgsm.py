"""Adversarial training by one step from noise.

Source: de Jorge et al. 2022, "Make Some Noise: Reliable and Efficient Single-Step Adversarial Training" (arXiv
2202.01181), N-FGSM for linf; compared with the authors' code. For l2, which they do not treat, the noise is uniform in
the l2 ball and the step along the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor

from trainables.attacks.base import input_gradient
from trainables.attacks.losses import cross_entropy, cross_entropy_against
from trainables.attacks.threat import ThreatModel
from trainables.methods.base import LossTerms, Step
from trainables.settings import setting


@dataclass(frozen=True, kw_only=True)
class NFgsm:
    """CE(x'), x' one step of the radius's length up CE from uniform noise of k times the radius.

    Noise and step are cut by the pixel box but not by the ball, so x' may be 1 + k radii from x.
    `training.attack_steps` does not apply: a training step costs two gradients, a fifth of PGD's with ten steps. FGSM
    at k 0, natural training at radius 0.
    """

    attacks: ClassVar[bool] = True
    k: float = setting(
        2.0, doc="radius of the noise, as a multiple of train_epsilon", low=0.0, high=10.0, search=(1.0, 2.0)
    )

    def __call__(self, step: Step, /) -> LossTerms:
        """Return the loss in one part, `adversarial`."""
        x_adv = step.x
        if step.threat is not None and step.attacks:
            x_adv = step.find(partial(_one_step, step, step.threat, k=self.k))
        return LossTerms({"adversarial": cross_entropy(step.model(x_adv), step.y)})


def _one_step(step: Step, threat: ThreatModel, *, k: float) -> Tensor:
    start = step.x
    if k > 0:
        start = ThreatModel(threat.norm, k * threat.epsilon).random_start(step.x, generator=step.generator)
    with step.crafting():
        gradient, _, _ = input_gradient(step.model, start, cross_entropy_against(step.y))
    return threat.ascend(start, gradient, step=threat.epsilon).clamp(0, 1)
