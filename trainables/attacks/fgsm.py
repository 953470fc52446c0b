"""The fast gradient sign method: one step.

Source: Goodfellow, Shlens & Szegedy 2015, "Explaining and Harnessing Adversarial Examples" (arXiv 1412.6572),
section 4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainables.attacks.base import input_gradient
from trainables.attacks.losses import cross_entropy_against, margin_against
from trainables.attacks.threat import Ascent, ThreatModel


def fgsm(model: nn.Module, x: Tensor, y: Tensor, /, *, ascent: Ascent, generator: torch.Generator) -> Tensor:
    """Return the image moved by one ascent step of length epsilon on cross-entropy; see `Attack` for the arguments.

    In l2 the step goes along the gradient. Where that is zero, the image itself is returned. Steps, restarts and
    generator are ignored: there is one step, and nothing is random.
    """
    gradient, _, _ = input_gradient(model, x, cross_entropy_against(y))
    return full_step(x, gradient, threat=ascent.threat)


def margin_step(model: nn.Module, x: Tensor, y: Tensor, /, *, ascent: Ascent, generator: torch.Generator) -> Tensor:
    """Return what `fgsm` returns, for a step on the best wrong class's margin: the same for logits of any scale."""
    gradient, _, _ = input_gradient(model, x, margin_against(y))
    return full_step(x, gradient, threat=ascent.threat)


def full_step(x: Tensor, gradient: Tensor, /, *, threat: ThreatModel) -> Tensor:
    """Return `x` moved by one steepest ascent step of length epsilon, in ball and box.

    Args:
        x: Images, (n, ...) in [0, 1].
        gradient: Shaped as `x`.
        threat: Ball and box.
    """
    return threat.project(threat.ascend(x, gradient, step=threat.epsilon), x)
