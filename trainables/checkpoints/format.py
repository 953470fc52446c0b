"""Checkpoints: one file of plain tensors, numbers and strings, written atomically."""

from __future__ import annotations

import io
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


def check_spec(path: Path | str, stored: dict[str, Any], expected: dict[str, Any], /) -> None:
    """Check that a checkpoint's spec is the expected one, apart from the folder of the data set's files.

    Args:
        path: Of the checkpoint, for messages.
        stored: The spec in the checkpoint.
        expected: The trial's spec.

    Raises:
        CheckpointError: The specs differ; the message names the first setting that does.
    """
    stored, expected = ({**tree, "dataset": {**tree["dataset"], "root": None}} for tree in (stored, expected))
    for key in sorted(stored.keys() | expected.keys()):
        before, now = stored.get(key), expected.get(key)
        if before != now:
            raise CheckpointError(
                f"{path} belongs to another spec: `{key}` is {before!r} in the checkpoint and {now!r} in the trial"
            )
