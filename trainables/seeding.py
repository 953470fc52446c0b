"""Randomness as a function of (seed, purpose, epoch, batch), without draws from a global generator."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
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
    """Seed torch's global generators inside the block and restore them afterwards.

    For draws that take no generator argument: dropout masks, weight initialisation.
    """
    import torch

    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(derive(seed, *path))
        yield


def replay(*, device: torch.device | str = "cpu") -> Callable[[], AbstractContextManager[None]]:
    """Save the state of torch's global generators, and return a context that draws from it again.

    On exit from the context the generators are restored to their state on entry.
    """
    import torch

    device = torch.device(device)
    on_cpu = torch.get_rng_state()
    on_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    @contextmanager
    def replayed() -> Iterator[None]:
        with torch.random.fork_rng(devices=[] if on_gpu is None else [device]):
            torch.set_rng_state(on_cpu)
            if on_gpu is not None:
                torch.cuda.set_rng_state(on_gpu, device)
            yield

    return replayed
