"""Builders of networks and inputs for tests of models."""

from __future__ import annotations

import torch
from torch import nn

from trainables.models import build_model
from trainables.seeding import seeded


def build(name: str, shape: tuple[int, int, int], *, dropout: float = 0.5, num_classes: int = 10) -> nn.Module:
    with seeded(0):
        return build_model(
            name,
            image_shape=shape,
            num_classes=num_classes,
            dropout=dropout,
            mean=[0.4] * shape[0],
            std=[0.2] * shape[0],
        )


def build_empty(name: str, shape: tuple[int, int, int], *, dropout: float) -> nn.Module:
    """Build a network without storage, so that even the largest takes no memory."""
    with torch.device("meta"):
        return build(name, shape, dropout=dropout)


def images(shape: tuple[int, int, int], count: int = 4) -> torch.Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


def num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
