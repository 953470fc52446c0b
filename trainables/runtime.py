"""The machine a trial runs on: threads, arithmetic, memory, installed versions."""

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
    """Run the block with `threads` CPU threads and deterministic convolutions in full fp32.

    By default torch rounds the inputs of convolutions on a GPU to 10 bits (TF32), too coarse for measurements.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_num_threads(before)


def mixed_precision(precision: str, device: torch.device, /) -> AbstractContextManager[Any]:
    """Return the context of a training pass: `bf16` autocast, which keeps sensitive operations in fp32, or `fp32`."""
    if precision == "fp32":
        return nullcontext()
    # No weight cache: a weight cast during a pass without gradients would have none in the next pass either.
    return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)


def release_memory() -> None:
    """Release cached GPU memory, including that of unreachable tensors; do nothing without a GPU."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call] # torch leaves it untyped
        gc.collect()
        torch.cuda.empty_cache()


def peak_memory_mb(device: torch.device, /) -> float:
    """Return the peak memory in MB: allocated on the GPU since its statistics were reset, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def machine_columns() -> dict[str, str]:
    """Return the host's name, and the installed versions as JSON; libraries that are not installed are left out."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {"host": platform.node(), "versions": json.dumps(versions)}


@cache
def code_revision() -> str | None:
    """Return this code's git revision, with `-dirty` for uncommitted changes; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
