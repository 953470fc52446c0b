"""Checkpoints: one file of plain tensors, numbers and strings, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

FORMAT = "robust-study checkpoint 1"


class CheckpointError(Exception):
    """A file that is no checkpoint, is damaged, or belongs to another spec."""


def write_checkpoint(path: Path | str, state: Mapping[str, Any], /) -> None:
    """Write `state` to `path`: a temporary name, fsync, then a rename, so no reader sees half a file.

    Args:
        path: Its folder is made if missing.
        state: Plain containers, tensors, numbers, strings and None.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_checkpoint(path: Path | str, /, *, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return what `write_checkpoint` wrote; nothing in the file is executed.

    Raises:
        CheckpointError: The file is missing, damaged, or not one of ours.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
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
