"""Checkpoint files: written atomically, without code, and one clear error for any other file."""

from __future__ import annotations

import pickle

import pytest
import torch

from trainables.checkpoints.format import CheckpointError, check_spec, read_checkpoint, write_checkpoint


class Executed:
    def __reduce__(self):
        return (print, ("executed",))


def test_round_trip_leaves_no_other_file(tmp_path):
    path = tmp_path / "deep" / "last.pt"
    state = {"model": {"w": torch.eye(2)}, "epoch": 3, "reason": None, "history": [{"loss": 0.5}]}
    write_checkpoint(path, state)
    restored = read_checkpoint(path)
    assert torch.equal(restored["model"]["w"], torch.eye(2))
    assert restored["history"] == state["history"]
    assert [file.name for file in path.parent.iterdir()] == ["last.pt"]


def test_failed_write_does_not_change_the_old_file(tmp_path):
    path = tmp_path / "last.pt"
    write_checkpoint(path, {"epoch": 1})
    with pytest.raises(Exception, match="pickle"):
        write_checkpoint(path, {"epoch": lambda: 2})
    assert read_checkpoint(path)["epoch"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def truncated(path):
    write_checkpoint(path, {"weights": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:2000])


BAD_FILES = {
    "missing": lambda path: None,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not a checkpoint"),
    "truncated": truncated,
    "a torch file of another kind": lambda path: torch.save({"weights": torch.zeros(2)}, path),
    "a tensor": lambda path: torch.save(torch.zeros(2), path),
    "code": lambda path: torch.save({"format": Executed()}, path),
    "a pickle": lambda path: path.write_bytes(pickle.dumps({"format": 1}, protocol=2)),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files_are_one_clear_error(kind, tmp_path, capsys):
    path = tmp_path / "last.pt"
    BAD_FILES[kind](path)
    with pytest.raises(CheckpointError, match=r"last\.pt (cannot be read as|is not) a checkpoint"):
        read_checkpoint(path)
    assert "executed" not in capsys.readouterr().out


def test_spec_must_agree_except_for_the_data_root():
    expected = {"seed": 1, "dataset": {"name": "mnist", "root": "/data"}}
    check_spec("x.pt", {"seed": 1, "dataset": {"name": "mnist", "root": None}}, expected)
    message = r"x\.pt belongs to another spec: `seed` is 2 in the checkpoint and 1 in the trial"
    with pytest.raises(CheckpointError, match=message):
        check_spec("x.pt", {"seed": 2, "dataset": {"name": "mnist", "root": None}}, expected)
