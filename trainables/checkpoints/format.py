"""Checkpoints: one file of plain tensors, numbers and strings, written atomically."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainables.checkpoints.files import is_url, read_bytes, write_bytes

FORMAT = "robust-study checkpoint 1"


class CheckpointError(Exception):
    """A file is not a checkpoint, is damaged, or belongs to another spec."""


def write_checkpoint(path: Path | str, state: Mapping[str, Any], /) -> None:
    """Write `state` to `path` atomically.

    Args:
        path: A path, whose folder is created if missing, or an object store's URL.
        state: Plain containers, tensors, numbers, strings and None.
    """
    content = io.BytesIO()
    torch.save({"format": FORMAT, **state}, content)
    write_bytes(path, content.getbuffer())


def read_checkpoint(path: Path | str, /, *, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return the state that `write_checkpoint` wrote; no code in the file is executed.

    Raises:
        CheckpointError: The file is missing, damaged, or not a checkpoint of this version.
    """
    try:
        content: Any = io.BytesIO(read_bytes(path)) if is_url(path) else path
        state = torch.load(content, map_location=device, weights_only=True)
    except Exception as error:  # torch has no common class for the errors of damaged files
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {type(error).__name__}: {error}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        actual = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise CheckpointError(f"{path} is not a checkpoint of this version: expected {FORMAT!r}, got {actual!r}")
    return state


def read_spec(path: Path | str, /) -> dict[str, Any] | None:
    """Return the spec in a checkpoint as recorded, without reading a file's tensors; None if it cannot be read."""
    try:
        content: Any = io.BytesIO(read_bytes(path)) if is_url(path) else path
        state = torch.load(content, map_location="cpu", weights_only=True, mmap=not is_url(path))
        spec = json.loads(state["spec"])
    except Exception:  # noqa: BLE001 - torch has no common class for the errors of missing and damaged files
        return None
    return spec if isinstance(spec, dict) else None


def check_spec(path: Path | str, stored: Mapping[str, Any], expected: Mapping[str, Any], /) -> None:
    """Check that a checkpoint's spec is the expected one in all that determines the weights.

    Folders and CPU threads do not, and a data set or pool that is named by its path may lie elsewhere.

    Args:
        path: Of the checkpoint, for messages.
        stored: The spec in the checkpoint, with the values of keys that it predates.
        expected: The trial's spec.

    Raises:
        CheckpointError: The specs differ; the message names the first setting that does.
    """
    before, now = _determining(stored), _determining(expected)
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise CheckpointError(
                f"{path} belongs to another spec: `{key}` is {before.get(key)!r} in the checkpoint and "
                f"{now.get(key)!r} in the trial"
            )


def _determining(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            values |= _determining(value, f"{prefix}{name}.")
        elif name not in ("root", "threads"):
            is_path = isinstance(value, str) and value.startswith("/")
            values[f"{prefix}{name}"] = Path(value).name if is_path else value
    return values
