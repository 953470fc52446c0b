"""Load the only set of weights of a checkpoint into the network that it was saved from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from trainables.checkpoints.format import CheckpointError
from trainables.checkpoints.weight_files import read_sets, without_values

_SHOWN = 3


def read_weights(path: Path | str, /) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Return a checkpoint's state dict, on the CPU, and its spec if it is the checkpoint of a trial.

    It is read from a path or an object store's URL, in any form of `read_sets`. No code in the file is executed.

    Raises:
        CheckpointError: The file is missing, cannot be loaded as weights only, or holds no state dict or several.
    """
    sets, spec = read_sets(path)
    if len(sets) > 1:
        raise CheckpointError(f"{path} must hold one state dict, got {', '.join(sets)}")
    return next(iter(sets.values())), spec


def write_arrays(path: Path, model: nn.Module, /) -> None:
    """Write a network's state dict as NumPy arrays in a `.npz`, without pickle."""
    state = {name: value.cpu().numpy() for name, value in model.state_dict().items()}
    with path.open("wb") as file:
        np.savez(file, **state)


def load_weights(model: nn.Module, state: Mapping[str, Tensor], /, *, source: Path | str) -> None:
    """Load a state dict into a model that has exactly its names and shapes.

    Args:
        model: The network.
        state: Names to tensors.
        source: Its file, for messages.

    Raises:
        CheckpointError: It does not fit; the message names keys that are missing, unexpected, or of another shape or
            type. The model is unchanged.
    """
    if problem := mismatch(model, state):
        raise CheckpointError(f"{source} does not fit the model: {problem}")
    model.load_state_dict(state, strict=False)


def mismatch(model: nn.Module, state: Mapping[str, Tensor], /, *, optional: Collection[str] = ()) -> str | None:
    """Return why a state dict does not fit a model exactly, or None if it does.

    Batch norm's counters of batches may be missing: they do not affect outputs. So may the names in `optional`.
    """
    expected = model.state_dict()
    missing = [
        name
        for name in expected
        if name not in state and name not in optional and not name.endswith("num_batches_tracked")
    ]
    unexpected = [name for name in state if name not in expected]
    common = [(name, state[name], expected[name]) for name in expected if name in state]
    shapes = [
        f"{name} {tuple(given.shape)} instead of {tuple(own.shape)}"
        for name, given, own in common
        if not without_values(given) and given.shape != own.shape
    ]
    types = [
        f"{name} {without_values(given) or _type(given)} instead of {_type(own)}"
        for name, given, own in common
        if without_values(given)
        or given.is_floating_point() != own.is_floating_point()
        or given.is_complex() != own.is_complex()
    ]
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": shapes, "of another type": types}
    return "; ".join(f"{kind}: {_listed(names)}" for kind, names in problems.items() if names) or None


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
