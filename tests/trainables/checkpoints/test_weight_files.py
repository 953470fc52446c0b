"""Files that hold no weights, or more than weights: one line that says what they are and what to do."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from trainables.checkpoints.fitting import fit_weights
from trainables.checkpoints.format import CheckpointError
from trainables.checkpoints.weight_files import read_sets

STATE = nn.Conv2d(16, 64, 3).state_dict()


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refusal(path):
    with pytest.raises(CheckpointError) as caught:
        read_sets(path)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(str(path))
    return line


class Runs:
    """An object that would write a file when it is loaded."""

    def __reduce__(self):
        return Path.touch, (Path("ran"),)


class Commands:
    """An object of a module that torch refuses as a whole, in other words than other code."""

    def __reduce__(self):
        return os.system, ("touch ran",)


@pytest.mark.parametrize(
    ("beside", "code"),
    [
        (Runs(), "getattr"),
        (Commands(), "posix.system"),
        (Path("a"), "pathlib.PosixPath"),
        (np.zeros(2), "numpy._core.multiarray._reconstruct"),
        (nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        (np.dtype(object), None),
    ],
)
def test_code_beside_the_weights_is_named_and_not_run(beside, code):
    torch.save({"state_dict": STATE, "beside": beside}, "net.pt")
    line = refusal("net.pt")
    assert (f"net.pt cannot be loaded as weights only (it needs the code of {code});" in line) == (code is not None)
    assert "save a state dict: torch.save(model.state_dict(), 'net.pt')" in line
    assert not Path("ran").exists()


def test_tensors_without_values_are_no_weights():
    meta, sparse = torch.zeros(2, device="meta"), torch.zeros(2, 2).to_sparse()
    torch.save({"meta": {"weight": meta}, "sparse": {"weight": sparse}, "model": {"weight": torch.ones(2)}}, "net.pt")
    assert list(read_sets("net.pt")[0]) == ["model"]


@pytest.mark.parametrize("key", [1, (1, 2)])
def test_a_tensor_whose_key_is_no_text_is_one_of_the_mapping(key):
    torch.save({key: torch.ones(2), **STATE}, "net.pt")
    with pytest.raises(CheckpointError) as caught:
        fit_weights(nn.Conv2d(16, 64, 3), read_sets("net.pt")[0], source="net.pt")
    assert str(caught.value).startswith(f"net.pt does not fit the model: unexpected: {key} (leave them out of the file")
    torch.save({"state_dict": STATE, "optimizer": {"state": {0: {"step": torch.ones(1)}, 1: torch.ones(1)}}}, "net.pt")
    assert fit_weights(nn.Conv2d(16, 64, 3), read_sets("net.pt")[0], source="net.pt").name == "state_dict"


HOLLOW = {
    "meta": (lambda x: x.to("meta"), "without values (on the meta device: load the weights before they are saved)"),
    "coo": (lambda x: x.to_sparse(), "sparse or nested (save it with to_dense())"),
    "csr": (lambda x: x.flatten(1).to_sparse_csr(), "sparse or nested (save it with to_dense())"),
    "nested": (lambda x: torch.nested.nested_tensor([x]), "sparse or nested (save it with to_dense())"),
    "quantised": (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), "quantised (save it with dequantize())"),
}


@pytest.mark.filterwarnings("ignore")  # torch warns of each of these kinds
@pytest.mark.parametrize("kind", HOLLOW)
def test_a_tensor_without_an_array_of_values_is_named_with_what_to_do(kind):
    change, words = HOLLOW[kind]
    torch.save({"state_dict": {name: change(value) for name, value in STATE.items() if name == "weight"}}, "all.pt")
    assert refusal("all.pt") == f"all.pt holds no state dict: expected names mapped to tensors, got weight {words}"
    torch.save({**STATE, "weight": change(STATE["weight"])}, "one.pt")
    expected = f"one.pt does not fit the model: of another type: weight {words} instead of float32"
    with pytest.raises(CheckpointError) as caught:
        fit_weights(nn.Conv2d(16, 64, 3), read_sets("one.pt")[0], source="one.pt")
    assert str(caught.value) == expected
    torch.save({**STATE, "mean": change(torch.ones(1, 2)), "std": torch.ones(1)}, "beside.pt")
    with pytest.raises(CheckpointError, match=r"beside.pt does not fit the model: unexpected: mean, std"):
        fit_weights(nn.Conv2d(16, 64, 3), read_sets("beside.pt")[0], source="beside.pt")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "is empty: download or copy it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n", "is a pointer of Git LFS, not the"),
        (b"<!DOCTYPE html><html>sign in</html>", "is a web page, not a checkpoint: download the file itself"),
        (b"\n<HTML>", "is a web page, not a checkpoint: download the file itself"),
    ],
)
@pytest.mark.parametrize("name", ["net.pt", "net.npz", "net.safetensors"])
def test_what_is_no_checkpoint_is_named(name, content, line):
    Path(name).write_bytes(content)
    assert refusal(name).startswith(f"{name} {line}")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_file_that_is_cut_off_says_so(zipped, share):
    torch.save(STATE, "net.pt", _use_new_zipfile_serialization=zipped)
    content = Path("net.pt").read_bytes()
    Path("net.pt").write_bytes(content[: int(len(content) * share)])
    assert refusal("net.pt") == "net.pt is cut off or damaged: download or copy it again"


def test_a_program_of_torchscript_is_named():
    torch.jit.script(nn.Linear(2, 2)).save("net.pt")
    assert "(it is a program of TorchScript)" in refusal("net.pt")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_plain_pickle_and_a_late_protocol_are_named_without_a_warning(protocol):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Path("plain.pkl").write_bytes(pickle.dumps(STATE, protocol=protocol))
        assert "(it is a plain pickle, not written by torch.save); save a state dict" in refusal("plain.pkl")
        torch.save(STATE, "net.pt", pickle_protocol=protocol)
        if protocol > 3:
            assert "(it was saved with a pickle_protocol above 3: leave that out)" in refusal("net.pt")
        else:
            assert set(read_sets("net.pt")[0]["top"]) == {"weight", "bias"}


def zipped(name: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(name, "x")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"epoch 3: accuracy 0.9\n", "text"),
        ("épreuve\n".encode("latin-1"), "text"),
        (b"long words " * 100, "text"),
        (b'{"weight": [1, 2]}', "text"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "text"),
        (gzip.compress(b"weights", mtime=0), "compressed with gzip"),
        (b"\x89HDF\r\n\x1a\n" + bytes(200), "an HDF5 file, as Keras saves"),
        (zipped("net/model.txt"), "a zip archive that torch.save did not write"),
    ],
)
def test_a_file_of_another_kind_is_named(content, kind):
    Path("net.pt").write_bytes(content)
    assert refusal("net.pt").startswith(f"net.pt cannot be loaded as weights only (it is {kind}); save a state dict: ")
