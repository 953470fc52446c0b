"""Random crops and flips of a whole batch on its device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

PADDING = 4
"""Zero pixels added on each side before a crop."""


def augment(images: Tensor, kind: str, /, *, generator: torch.Generator) -> Tensor:
    """Return the images randomly shifted (`crop`), and mirrored as well (`crop_flip`).

    Each image is padded by 4 zero pixels and cropped at a random position of its own; half of them are mirrored.

    Args:
        images: (n, c, h, w), any dtype.
        kind: `none`, `crop` or `crop_flip`.
        generator: On the CPU, so that the draws are the same for every device.

    Returns:
        New images of the same shape and dtype; with `none` the images themselves.
    """
    if kind == "none":
        return images
    n, channels, height, width = images.shape
    device = images.device
    shifts = torch.randint(0, 2 * PADDING + 1, (2, n), generator=generator).to(device, non_blocking=True)
    rows = shifts[0, :, None] + torch.arange(height, device=device)
    columns = torch.arange(width, device=device).expand(n, width)
    if kind == "crop_flip":
        mirrored = (torch.rand(n, generator=generator) < 0.5).to(device, non_blocking=True)
        columns = torch.where(mirrored[:, None], width - 1 - columns, columns)
    columns = shifts[1, :, None] + columns
    padded = F.pad(images, [PADDING] * 4)
    example = torch.arange(n, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[None, :, None, None]
    return padded[example, channel, rows[:, None, :, None], columns[:, None, None, :]]
