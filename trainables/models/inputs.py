"""Conversion of stored uint8 images to a model's input."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def memory_format(model: nn.Module, /) -> torch.memory_format:
    """Return the model's fastest memory layout: channels last if it convolves images."""
    convolves = any(isinstance(module, nn.Conv2d) for module in model.modules())
    return torch.channels_last if convolves else torch.contiguous_format


def to_device(array: NDArray[Any], /, *, device: torch.device) -> Tensor:
    """Return the array as a tensor on `device`; on the CPU it shares the array's memory and must not be written to."""
    with warnings.catch_warnings():
        # Arrays from Ray's object store are read-only; torch warns of that, although nothing here writes to them.
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return torch.from_numpy(array).to(device)


def to_unit(images: Tensor, /, *, scale: int, layout: torch.memory_format = torch.contiguous_format) -> Tensor:
    """Return stored images as float32 in [0, 1].

    Args:
        images: (n, c, h, w) uint8 in [0, scale].
        scale: The largest stored value.
        layout: Memory format of the result.
    """
    return images.to(torch.float32, memory_format=layout).div_(scale)
