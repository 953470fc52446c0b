"""Random networks that together have every layer supported by certified bounds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainables.attacks.threat import ThreatModel
from trainables.certified.activations import ball_around, bound_activations, cost_of, lower_bounds
from trainables.certified.certificate import BUDGET
from trainables.certified.translation import layers_of
from trainables.models.normalize import Normalize
from trainables.seeding import seeded

SHAPE = (1, 5, 5)
BUDGETS = [0.0, 1e8]
"""Budgets of multiplications for tightening: none, so intervals only, and enough for every tightening."""


def random_images(count: int, seed: int = 0) -> torch.Tensor:
    """Return random images, some of whose pixels are on the border of the box."""
    return (torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed)) * 1.4 - 0.2).clamp(0, 1)


def randomised(network: nn.Sequential) -> nn.Sequential:
    """Set batch norm's statistics and weights, and every bias, to random values."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.5)
            nn.init.uniform_(module.running_var, 0.2, 2)
            nn.init.normal_(module.weight)
        if getattr(module, "bias", None) is not None:
            nn.init.normal_(module.bias, std=0.3)
    return network.eval()


def random_net(seed: int) -> nn.Sequential:
    """Return one of eight architectures that together have every supported layer, with random weights."""
    with seeded(seed):
        width, classes = 2 + seed % 5, 2 + seed % 3
        normalize = Normalize([0.4], [0.3])
        conv = nn.Conv2d(1, width, 3, stride=1 + seed % 2, padding=seed % 3, bias=seed % 4 < 2)
        bodies = [
            (nn.Flatten(), nn.Linear(25, width), nn.ReLU()),
            (nn.Flatten(), nn.Linear(25, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, width), nn.ReLU()),
            (conv, nn.ReLU(), nn.Flatten()),
            (conv, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2, stride=1), nn.Flatten()),
            (nn.MaxPool2d(2, padding=1), conv, nn.ReLU(), nn.Conv2d(width, 3, 1), nn.ReLU(), nn.Flatten()),
            (conv, nn.AvgPool2d(2, stride=1, padding=1), nn.ReLU(), nn.Dropout2d(0.5), nn.Flatten()),
            (nn.Conv2d(1, 4, 2), nn.ReLU(), nn.Conv2d(4, 4, 2, groups=2, dilation=2), nn.MaxPool2d(2), nn.Flatten()),
            (nn.Flatten(), nn.Linear(25, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU()),
        ]
        body = nn.Sequential(*bodies[seed % 8]).eval()
        features = body(torch.zeros(1, *SHAPE)).shape[1]
        return randomised(nn.Sequential(normalize, body, nn.Linear(features, classes)))


@torch.no_grad()
def logit_bounds(
    model: nn.Module, images: Tensor, threat: ThreatModel, *, budget: float = BUDGET
) -> tuple[Tensor, Tensor]:
    """Return the bounds on the logits, (n, K) each: of the last activations, tightened if the budget allows it."""
    layers, ball = layers_of(model, tuple(images.shape[1:]), device=images.device), ball_around(images, threat=threat)
    activations = bound_activations(layers, ball, budget=budget)
    lower, upper = activations.lower[-1], activations.upper[-1]
    if 2 * lower.shape[1] * cost_of(layers) <= budget:
        rows = torch.eye(lower.shape[1]).to(lower).expand(len(lower), -1, -1)
        lower = torch.maximum(lower, lower_bounds(rows, layers, activations, ball))
        upper = torch.minimum(upper, -lower_bounds(-rows, layers, activations, ball))
    return lower, upper
