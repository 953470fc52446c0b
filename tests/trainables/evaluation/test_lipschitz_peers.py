"""The Lipschitz estimate against the paper's estimator, on the same trained network and radius."""

from __future__ import annotations

import pytest
import torch
from helpers.networks.trained import trained_digits
from torch import Tensor, nn

from trainables.attacks.threat import Ascent, ThreatModel
from trainables.evaluation.lipschitz import local_lipschitz
from trainables.spec import LipschitzSpec


def papers_estimate(model: nn.Module, x: Tensor, epsilon: float) -> Tensor:
    """Return the last ratio of ten sign steps of 0.003 on the ratio itself, from a near random start, clamped in linf.

    The paper's published code uses these settings for every radius.
    """
    with torch.no_grad():
        logits = model(x)

    def ratio(points: Tensor) -> Tensor:
        rise = (model(points) - logits).abs().sum(1)
        return rise / (points - x).flatten(1).abs().amax(1)

    points = x + 0.001 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    for _ in range(10):
        points = points.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(ratio(points).sum(), points)
        points = points.detach() + 0.003 * gradient.sign()
        points = torch.clamp(x + (points - x).clamp(-epsilon, epsilon), 0, 1)
    with torch.no_grad():
        return ratio(points)


@pytest.mark.parametrize("epsilon", [0.1, 0.02])
@pytest.mark.parametrize("robust", [True, False])
def test_our_estimate_is_higher_on_average_and_per_example(robust, epsilon):
    """With the default steps and restarts, on an adversarially and on a naturally trained network."""
    model, x, y = trained_digits(robust=robust)
    theirs = papers_estimate(model, x, epsilon).double()
    budget = LipschitzSpec()
    ascent = Ascent(ThreatModel("linf", epsilon), budget.steps, budget.restarts)
    ours = local_lipschitz(model, x, y, ascent=ascent, seed=0).raw
    assert ours.mean() > 1.1 * theirs.mean()
    assert (ours >= theirs).double().mean() >= 0.99
