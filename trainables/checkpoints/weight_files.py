"""Read the sets of weights in a checkpoint of any origin: torch, safetensors or NumPy arrays. No file's code is run."""

from __future__ import annotations

import argparse
import io
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables.checkpoints.files import exists, is_url, physical_memory, read_bytes
from trainables.checkpoints.format import CheckpointError

ARRAYS = ".npz"
"""Suffix of files that hold a state dict as NumPy arrays."""

TOP = "top"
"""Name of a set whose tensors are the file's own entries."""

_KINDS = {
    b"\x89HDF": "it is an HDF5 file, as Keras saves",
    b"\x1f\x8b": "it is compressed with gzip",
    b"PK": "it is a zip archive that torch.save did not write",
}
"""How files begin that torch cannot load, and what they are."""

_MAGIC = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # with which a pickle of torch.save begins that is no zip archive
_DEPTH = 3
_LONGEST_HEADER = 100_000_000  # of a safetensors file, by its definition
_AGAIN = "download or copy it again"
_SHOWN = 3


def read_sets(path: Path | str, /) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any] | None]:
    """Return a checkpoint's sets of weights, on the CPU, and its spec if it is the checkpoint of a trial.

    Args:
        path: A file, or an object store's URL. A `.npz` and safetensors hold one set; a file that torch saved has one
            wherever names are mapped to tensors, down to three levels. Beside them may be plain values, NumPy's
            numbers and argparse's Namespace.

    Returns:
        Names and tensors of each set by its place, such as `state_dict` or `ema/params`; `top` for the file's own
        entries. A trial's checkpoint has one, its `model`.

    Raises:
        CheckpointError: The file is missing or damaged, cannot be loaded as weights only, or holds no state dict.
    """
    try:
        if not exists(path):
            raise CheckpointError(f"checkpoint {path} is not a file")
        content: Any = io.BytesIO(read_bytes(path)) if is_url(path) else path
        with io.BytesIO(content.getvalue()) if is_url(path) else Path(path).open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error}") from error
    if problem := _no_checkpoint(head):
        raise CheckpointError(f"{path} {problem}")
    if str(path).endswith(ARRAYS):
        return {TOP: _read_arrays(content, path)}, None
    if _is_safetensors(head, path):
        return {TOP: _read_safetensors(content, path)}, None
    tree = _load(content, path, head=head)
    spec = _trial_spec(tree)
    found = dict(_sets({"model": tree["model"]} if spec is not None else tree))
    sets = {place: tensors for place, tensors in found.items() if not all(map(without_values, tensors.values()))}
    if not sets:
        got = _type_of(tree)
        for tensors in found.values():
            name, value = next(iter(tensors.items()))
            got = f"{name} {without_values(value)}"
        raise CheckpointError(f"{path} holds no state dict: expected names mapped to tensors, got {got}")
    return sets, spec


def without_values(tensor: Tensor, /) -> str | None:
    """Return why a tensor has no array of values, and what to do; None if it has one."""
    if tensor.is_meta:
        return "without values (on the meta device: load the weights before they are saved)"
    if tensor.layout != torch.strided or tensor.is_nested:
        return "sparse or nested (save it with to_dense())"
    return "quantised (save it with dequantize())" if tensor.is_quantized else None


def _no_checkpoint(head: bytes) -> str | None:
    if not head:
        return f"is empty: {_AGAIN}"
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`"
    if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        return "is a web page, not a checkpoint: download the file itself"
    return None


def _load(content: Any, path: Path | str, *, head: bytes) -> Any:
    name = str(path).rpartition("/")[2]
    try:
        with torch.serialization.safe_globals(_plain_types()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch thinks of pickles: the error, if any, is one line
            return torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has no common class for the errors of unreadable files
        text = str(error)
        if isinstance(error, EOFError | OSError) or re.search("truncated|unexpected EOF|central directory", text):
            raise CheckpointError(f"{path} is cut off or damaged: {_AGAIN}") from error
        raise CheckpointError(
            f"{path} cannot be loaded as weights only ({_reason(error, head)}); "
            f"save a state dict: torch.save(model.state_dict(), {name!r})"
        ) from error


def _reason(error: Exception, head: bytes) -> str:
    text = str(error)
    if head.startswith(b"\x80") and _MAGIC not in head:
        return "it is a plain pickle, not written by torch.save"
    if code := re.search(r"(?i)unsupported (?:global: )?(?:GLOBAL|class) (\S+)", text):
        return f"it needs the code of {code[1]}"
    if "TorchScript" in text:
        return "it is a program of TorchScript"
    if f"Unsupported operand {pickle.FRAME[0]}" in text:
        return "it was saved with a pickle_protocol above 3: leave that out"
    is_torchs = isinstance(error, pickle.UnpicklingError) and head.startswith(b"PK")
    return (None if is_torchs else _other_kind(head)) or type(error).__name__


def _other_kind(head: bytes) -> str | None:
    """Return what a file that torch cannot load is, if its first bytes tell."""
    kind = next((kind for begin, kind in _KINDS.items() if head.startswith(begin)), None)
    is_text = all(byte >= 32 or byte in b"\t\n\r\f" for byte in head)
    return kind or ("it is text" if is_text else None)


def _plain_types() -> list[Any]:
    """Return what a file may hold beside weights: NumPy's numbers and argparse's Namespace, which run no code."""
    scalar = np.float64(0).__reduce__()[0]
    dtypes = {type(np.dtype(code)) for code in "?bBhHiIlLqQefdg"}
    former = "numpy.core.multiarray.scalar"  # before NumPy 2
    return [scalar, (scalar, former), np.dtype, *dtypes, argparse.Namespace]


def _sets(tree: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Tensor]]]:
    items = dict(enumerate(tree)) if isinstance(tree, list | tuple) else tree
    if not isinstance(items, Mapping):
        return
    tensors = {key: value for key, value in items.items() if isinstance(value, Tensor)}
    if any(isinstance(key, str) for key in tensors):  # not the numbered entries of an optimizer
        yield "/".join(place) or TOP, {str(key): value for key, value in tensors.items()}
    if len(place) < _DEPTH:
        for key, value in items.items():
            yield from _sets(value, (*place, str(key)))


def _is_safetensors(head: bytes, path: Path | str) -> bool:
    """Return whether a file has the suffix, or begins with the length of a header and the header's brace."""
    begins = head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _LONGEST_HEADER
    return str(path).endswith(".safetensors") or begins


def _read_safetensors(content: Any, path: Path | str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load, load_file

    try:
        tensors: dict[str, Tensor] = load(content.getvalue()) if is_url(path) else load_file(content)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors ({error}): {_AGAIN}") from error
    return tensors


def _read_arrays(content: Any, path: Path | str) -> dict[str, Tensor]:
    try:
        with np.load(content, allow_pickle=False) as arrays:
            # a few bytes of a compressed file can stand for any number
            size = sum(member.file_size for member in arrays.zip.infolist())
            if size > physical_memory():
                raise CheckpointError(f"{path} holds {size:,} bytes of arrays, more than this machine's memory")
            return {name: torch.from_numpy(np.array(arrays[name])) for name in arrays.files}
    except (OSError, ValueError, TypeError, EOFError, AttributeError, MemoryError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} cannot be read as NumPy arrays without a pickle: {error}") from error


def _trial_spec(tree: object) -> dict[str, Any] | None:
    """Return a trial's spec; None if a checkpoint from elsewhere has something else under that key."""
    text = tree.get("spec") if isinstance(tree, Mapping) and "model" in tree else None
    try:
        spec = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None
    model = spec.get("model") if isinstance(spec, dict) else None
    return spec if isinstance(model, dict) and "name" in model else None


def _type_of(tree: object) -> str:
    if not isinstance(tree, Mapping):
        return type(tree).__name__
    keys = [str(key) for key in tree]
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"a mapping of {', '.join(keys[:_SHOWN]) or 'nothing'}{more}"
