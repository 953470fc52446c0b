"""The fast gradient sign method: one step.

Source: Goodfellow, Shlens & Szegedy 2015, "Explaining and Harnessing Adversarial Examples" (arXiv 1412.6572),
section 4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainables.attacks.base import input_gradient
from trainables.attacks.losses import cross_entropy_against
from trainables.attacks.threat import ThreatModel


def fgsm(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    /,
    *,
    threat: ThreatModel,
    steps: int,
    restarts: int,
    generator: torch.Generator,
) -> Tensor:
    """Return the image moved by one ascent step of length epsilon on cross-entropy.

    Args:
        model: Maps (n, ...) to logits (n, K); in the mode to be attacked.
        x: Images, (n, ...) in [0, 1].
        y: Labels, (n,) int64.
        threat: Ball and box. In l2 the step goes along the gradient.
        steps: Ignored: there is one.
        restarts: Ignored: nothing is random.
        generator: Ignored.

    Returns:
        Points in ball and box, shaped as `x`; the image itself where the gradient is zero.
    """
    gradient, _, _ = input_gradient(model, x, cross_entropy_against(y))
    return full_step(x, gradient, threat=threat)


def full_step(x: Tensor, gradient: Tensor, /, *, threat: ThreatModel) -> Tensor:
    """Return `x` moved by one steepest ascent step of length epsilon, in ball and box.

    Args:
        x: Images, (n, ...) in [0, 1].
        gradient: Shaped as `x`.
        threat: Ball and box.
    """
    return threat.project(threat.ascend(x, gradient, step=threat.epsilon), x)
