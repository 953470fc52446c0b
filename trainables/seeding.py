"""Randomness as a function of (seed, purpose, epoch, batch): no global generator is drawn from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive(seed: int, /, *path: str | int) -> int:
    """Return a 63-bit seed that depends on `seed` and on every element of `path`.

    Args:
        seed: The parent seed.
        *path: Purpose and counters, such as `"attack", epoch, batch`.
    """
    text = "/".join(repr(part) for part in (seed, *path))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, /, *path: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a fresh torch generator on `device`, seeded by `derive(seed, *path)`."""
    import torch

    return torch.Generator(device=device).manual_seed(derive(seed, *path))


@contextmanager
def seeded(seed: int, /, *path: str | int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed torch's global generators inside the block and give them back as they were.

    For what knows no generator argument: dropout masks, weight initialisation.
    """
    import torch

    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(derive(seed, *path))
        yield
