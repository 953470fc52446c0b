"""The untrained network of a trial's spec."""

from __future__ import annotations

import torch
from torch import nn

from trainables.data.base import ImageData
from trainables.models import build_model
from trainables.models.inputs import memory_format
from trainables.seeding import seeded
from trainables.spec import TrialSpec


def network(spec: TrialSpec, data: ImageData, /, *, device: torch.device) -> tuple[nn.Module, torch.memory_format]:
    """Return the untrained network on `device`, with weights drawn from the trial's seed, and its memory layout.

    Args:
        spec: The trial's spec.
        data: Source of the image shape, the classes and the normalisation constants.
        device: Device of the network.
    """
    with seeded(spec.seed, "init", device=device):
        model = build_model(
            spec.model.name,
            image_shape=data.image_shape,
            num_classes=data.num_classes,
            dropout=spec.model.dropout,
            mean=data.mean,
            std=data.std,
        )
    layout = memory_format(model)
    return model.to(device).to(memory_format=layout), layout  # type: ignore[call-overload]
