"""Linear classifiers with a closed form of robust accuracy."""

from __future__ import annotations

import torch
from helpers.networks.toy_problems import linear
from torch import Tensor, nn

from trainables.attacks.threat import ThreatModel

LINEAR_SHAPE = (1, 3, 4)
DUAL = {"linf": 1, "l2": 2}
# Share of the radius by which an attack of normalised steps may fall short on a linear model: see `pgd.constant_steps`.
SHORT = {"linf": 0, "l2": 0.002}


def linear_problem(classes: int, seed: int, n: int = 400) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """Return a linear model, images away from the box's faces, the model's own labels, and its weights in float64."""
    draws = torch.Generator().manual_seed(seed)
    weights = torch.randn(classes, 12, generator=draws)
    x = 0.25 + 0.5 * torch.rand(n, *LINEAR_SHAPE, generator=draws)
    bias = -weights @ torch.full((12,), 0.5)
    model = linear(weights, bias)
    return model, x, model(x).argmax(1), weights.double()


@torch.no_grad()
def exact_margin(model: nn.Module, x: Tensor, y: Tensor, weights: Tensor, threat: ThreatModel) -> tuple[Tensor, Tensor]:
    """Return the least margin over the ball, by duality (positive means robust), and the largest change of a margin."""
    logits = model.double()(x.double())
    model.float()
    own = logits.gather(1, y[:, None])
    reach = threat.epsilon * (weights[y][:, None] - weights[None]).norm(p=DUAL[threat.norm], dim=2)
    margin = own - logits - reach
    return margin.scatter(1, y[:, None], torch.inf).amin(1), reach.amax(1)
