"""Load the weights of any torch checkpoint into a registered network or a user's own."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor, nn

from trainables.checkpoints.files import exists, is_url, physical_memory, read_bytes
from trainables.checkpoints.format import CheckpointError

_NESTED = ("model", "state_dict", "model_state_dict")
"""Keys under which training scripts save a state dict beside other data."""

ARRAYS = ".npz"
"""Suffix of files that hold a state dict as NumPy arrays."""

_SHOWN = 3


def read_weights(path: Path | str, /) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Return a checkpoint's state dict, on the CPU, and its spec if it is the checkpoint of a trial.

    It is read from a path or an object store's URL. A file saved by torch holds a state dict, possibly under `model`,
    `state_dict` or `model_state_dict`; a `.npz` holds arrays alone, as `write_arrays` writes it. The prefix `module.`
    of a data-parallel wrapper is dropped. No code in the file is executed.

    Raises:
        CheckpointError: The file is missing, cannot be loaded as weights only, or holds no state dict.
    """
    name = str(path).rpartition("/")[2]
    try:
        if not exists(path):
            raise CheckpointError(f"checkpoint {path} is not a file")
        content: Any = io.BytesIO(read_bytes(path)) if is_url(path) else path
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error}") from error
    if name.endswith(ARRAYS):
        return _read_arrays(content, path), None
    try:
        tree = torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has no common class for the errors of unreadable files
        raise CheckpointError(
            f"{path} cannot be loaded as weights only ({type(error).__name__}); "
            f"save a state dict: torch.save(model.state_dict(), {name!r})"
        ) from error
    spec = _trial_spec(tree)
    state = tree if isinstance(tree, Mapping) else {}
    state = next((state[key] for key in _NESTED if isinstance(state.get(key), Mapping)), state)
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds no state dict: expected names mapped to tensors, got {_type_of(tree)}")
    state = dict(state)
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state, spec


def write_arrays(path: Path, model: nn.Module, /) -> None:
    """Write a network's state dict as NumPy arrays in a `.npz`, without pickle."""
    state = {name: value.cpu().numpy() for name, value in model.state_dict().items()}
    with path.open("wb") as file:
        np.savez(file, **state)


def load_weights(model: nn.Module, state: Mapping[str, Tensor], /, *, source: Path | str) -> str | None:
    """Load a state dict into a model, or into its only child with parameters, such as a wrapped network.

    Args:
        model: The network; a wrapped one, such as `trainables.models.build_model` returns, has the bare network as
            a child.
        state: Names to tensors.
        source: Its file, for messages.

    Returns:
        None if it fits the model, or else the name of the child that it fits. The other children are unchanged.

    Raises:
        CheckpointError: It fits neither; the message names keys that are missing, unexpected, or of another shape.
    """
    problem = mismatch(model, state)
    if problem is None:
        model.load_state_dict(state, strict=False)
        return None
    for name, child in model.named_children():
        if mismatch(child, state) is None and _has_all_state(child, model):
            child.load_state_dict(state, strict=False)
            return name
    inner = dict(model.named_children()).get("network")
    bare = not any(key.startswith("network.") for key in state)
    raise CheckpointError(f"{source} does not fit the model: {mismatch(inner, state) if inner and bare else problem}")


def mismatch(model: nn.Module, state: Mapping[str, Tensor], /) -> str | None:
    """Return why a state dict does not fit a model exactly, or None if it does.

    Batch norm's counters of batches may be missing: they do not affect outputs.
    """
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    actual = {name: tuple(value.shape) for name, value in state.items()}
    missing = [name for name in expected if name not in actual and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in actual if name not in expected]
    shapes = [
        f"{name} {actual[name]} instead of {expected[name]}"
        for name in expected
        if name in actual and actual[name] != expected[name]
    ]
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    return "; ".join(f"{kind}: {_listed(names)}" for kind, names in problems.items() if names) or None


def _read_arrays(content: Any, path: Path | str) -> dict[str, Tensor]:
    try:
        with np.load(content, allow_pickle=False) as arrays:
            # a few bytes of a compressed file can stand for any number
            size = sum(member.file_size for member in arrays.zip.infolist())
            if size > physical_memory():
                raise CheckpointError(f"{path} holds {size:,} bytes of arrays, more than this machine's memory")
            return {name: torch.from_numpy(np.array(arrays[name])) for name in arrays.files}
    except (OSError, ValueError, TypeError, EOFError, AttributeError, MemoryError, BadZipFile) as error:
        raise CheckpointError(f"{path} cannot be read as NumPy arrays without a pickle: {error}") from error


def _has_all_state(child: nn.Module, model: nn.Module) -> bool:
    """Return whether `child` has all the model's parameters and running statistics, and at least one parameter."""
    inside = {id(module) for module in child.modules()}
    outside = [module for module in model.modules() if id(module) not in inside]
    parameters = {id(parameter) for parameter in child.parameters()}
    statistics = any("running_mean" in dict(module.named_buffers(recurse=False)) for module in outside)
    return bool(parameters) and parameters == {id(parameter) for parameter in model.parameters()} and not statistics


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _trial_spec(tree: object) -> dict[str, Any] | None:
    """Return a trial's spec; None if a checkpoint from elsewhere has something else under that key."""
    text = tree.get("spec") if isinstance(tree, Mapping) else None
    try:
        spec = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None
    model = spec.get("model") if isinstance(spec, dict) else None
    return spec if isinstance(model, dict) and "name" in model else None


def _type_of(tree: object) -> str:
    if not isinstance(tree, Mapping):
        return type(tree).__name__
    return f"a mapping of {_listed([str(key) for key in tree]) or 'nothing'}"
