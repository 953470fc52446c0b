"""The margin attack: PGD on the margin of the best wrong class over the right one.

Source: Carlini & Wagner 2017, "Towards Evaluating the Robustness of Neural Networks" (arXiv 1608.04644), whose loss f6
is the margin's negative.
"""

from __future__ import annotations

from itertools import repeat

import torch
from torch import Tensor, nn

from trainables.attacks.losses import best_margin
from trainables.attacks.pgd import decaying_steps, worst_points
from trainables.attacks.threat import Ascent


def margin(model: nn.Module, x: Tensor, y: Tensor, /, *, ascent: Ascent, generator: torch.Generator) -> Tensor:
    """Return the worst points (see `WorstPoints`) of ascents on max_k z_k - z_y over the wrong classes k.

    The class that is ahead may change from step to step. See `Attack` for the arguments.
    """
    objectives = repeat(lambda which, logits: best_margin(logits, y[which]), ascent.restarts)
    return worst_points(model, x, y, objectives, ascent=ascent, lengths=decaying_steps, generator=generator)
