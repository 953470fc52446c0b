"""An attack: steps along the sign of the gradient, which keep each image's worst point."""

import torch
from torch import Tensor, nn

from trainables.attacks.base import input_gradient
from trainables.attacks.losses import cross_entropy_against
from trainables.attacks.threat import Ascent


def sign_steps(model: nn.Module, x: Tensor, y: Tensor, /, *, ascent: Ascent, generator: torch.Generator) -> Tensor:
    """Return the point with the highest loss that was found for each image, shaped as `x`."""
    threat, objective = ascent.threat, cross_entropy_against(y)
    worst, highest = x.clone(), torch.full_like(y, -torch.inf, dtype=x.dtype)
    for _ in range(ascent.restarts):
        noise = 2 * torch.rand(x.shape, generator=generator, device=x.device) - 1
        points = threat.project(x + threat.epsilon * noise, x)
        for _ in range(ascent.steps + 1):
            gradient, loss, _ = input_gradient(model, points, objective)
            better = loss > highest
            worst[better], highest[better] = points[better], loss[better]
            points = threat.project(points + 2.5 * threat.epsilon / ascent.steps * gradient.sign(), x)
    return worst
