"""Normalisation as the first layer, so that all code outside a model works in [0, 1] units."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """(x - mean) / std per channel; the constants are buffers and part of the state dict.

    Args:
        mean: One value per channel, in [0, 1] units.
        std: One positive value per channel, in [0, 1] units.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or any(value <= 0 for value in std):
            raise ValueError(f"mean and std must have one value per channel and std be positive, got {mean} and {std}")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise images of shape (n, c, h, w)."""
        return (x - self.mean) / self.std
