"""Checkpoints: one file of plain tensors, numbers and strings, written whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainables.checkpoints.files import is_url, read_bytes, write_bytes

FORMAT = "robust-study checkpoint 1"


class CheckpointError(Exception):
    """A file that is no checkpoint, is damaged, or belongs to another spec."""


def write_checkpoint(path: Path | str, state: Mapping[str, Any], /) -> None:
    """Write `state` to `path` so that no reader sees half a file.

    Args:
        path: A path, whose folder is made if missing, or an object store's URL.
        state: Plain containers, tensors, numbers, strings and None.
    """
    content = io.BytesIO()
    torch.save({"format": FORMAT, **state}, content)
    write_bytes(path, content.getbuffer())


def read_checkpoint(path: Path | str, /, *, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return what `write_checkpoint` wrote; nothing in the file is executed.

    Raises:
        CheckpointError: The file is missing, damaged, or not one of ours.
    """
    try:
        content: Any = io.BytesIO(read_bytes(path)) if is_url(path) else path
        state = torch.load(content, map_location=device, weights_only=True)
    except Exception as error:  # torch has no common class for what damaged files raise
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {type(error).__name__}: {error}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise CheckpointError(f"{path} is not a checkpoint of this version: expected {FORMAT!r}, got {found!r}")
    return state


def check_spec(path: Path | str, theirs: dict[str, Any], ours: dict[str, Any], /) -> None:
    """Check that a checkpoint's spec is the one at hand; where the data set's files lie does not matter.

    Raises:
        CheckpointError: Naming the first setting that differs.
    """
    theirs, ours = ({**tree, "dataset": {**tree["dataset"], "root": None}} for tree in (theirs, ours))
    for key in sorted(theirs.keys() | ours.keys()):
        if theirs.get(key) != ours.get(key):
            there, here = theirs.get(key), ours.get(key)
            raise CheckpointError(f"{path} belongs to another spec: `{key}` is {there!r} there and {here!r} here")
