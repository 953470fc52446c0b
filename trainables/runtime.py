"""The machine underneath: threads, arithmetic, memory."""

from __future__ import annotations

import gc
import json
import platform
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

_LIBRARIES = ("torch", "numpy", "ray", "optuna", "mlflow")


@contextmanager
def computing(*, threads: int) -> Iterator[None]:
    """Give torch so many CPU threads, and full fp32 convolutions that repeat exactly, for the block.

    On a GPU torch's own default rounds the inputs of convolutions to 10 bits (TF32), too coarse for measurements.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_num_threads(before)


def mixed_precision(precision: str, device: torch.device, /) -> AbstractContextManager[Any]:
    """Return the context that a training pass runs in: `bf16`, where that is accurate enough, or plain `fp32`."""
    if precision == "fp32":
        return nullcontext()
    # Without the cache: a weight cast in a pass without gradients would have none in the next one either.
    return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)


def release_memory() -> None:
    """Give cached GPU memory back to the device, that of unreachable tensors too; without a GPU, do nothing."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call] # torch leaves it untyped
        gc.collect()
        torch.cuda.empty_cache()


def peak_memory_mb(device: torch.device, /) -> float:
    """Return the peak memory in MB: allocated on a GPU since its statistics were reset, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def machine_columns() -> dict[str, str]:
    """Return the host's name, and the versions installed there as JSON; a library that is not there is left out."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {"host": platform.node(), "versions": json.dumps(versions)}


@cache
def code_revision() -> str | None:
    """Return this code's git revision, `-dirty` where it has uncommitted changes; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
