"""Checkpoints in an object store: trials resume from them, and damaged or missing objects are clear errors."""

from __future__ import annotations

import pytest
import torch
from helpers.services.object_store import bucket

from study.cluster.preflight import check_machines, require
from study.cluster.start import Start
from study.config.schema import parse_config
from study.errors import UsageError
from trainables.checkpoints import files
from trainables.checkpoints.format import CheckpointError, read_checkpoint, write_checkpoint
from trainables.checkpoints.weights import read_weights
from trainables.spec import DatasetSpec, EvaluationSpec, LipschitzSpec, ModelSpec, TrainingSpec, TrialSpec
from trainables.training.fit import fit
from trainables.training.loop import Trainer

SPEC = TrialSpec(
    dataset=DatasetSpec(name="digits", train_size=64),
    model=ModelSpec(name="mlp"),
    training=TrainingSpec(epochs=2, batch_size=32),
    evaluation=EvaluationSpec(steps=1, examples=16, every=1, lipschitz=LipschitzSpec(steps=1, restarts=1, examples=8)),
    method="natural",
    seed=3,
)


@pytest.fixture(scope="module")
def store():
    with bucket("studies") as url:
        yield url


def test_a_trial_resumed_from_the_store_has_the_row_of_an_uninterrupted_one(store):
    folder = f"{store}/small/00000"
    interrupted = Trainer(SPEC)
    interrupted.run_epoch()
    interrupted.save_checkpoints(folder)
    assert files.exists(f"{folder}/last.pt")
    assert files.exists(f"{folder}/best.pt")
    resumed, uninterrupted = fit(SPEC, resume_from=f"{folder}/last.pt"), fit(SPEC)
    for name in ("val_clean_accuracy", "val_robust_accuracy", "val_loss", "val_lipschitz_mean", "epochs"):
        assert resumed.row[name] == uninterrupted.row[name]


def test_weights_are_read_from_the_store(store):
    trainer = Trainer(SPEC)
    trainer.save(f"{store}/weights.pt")
    state, spec = read_weights(f"{store}/weights.pt")
    assert spec["method"] == "natural"
    assert all(torch.equal(value, state[name]) for name, value in trainer.model.state_dict().items())


def test_an_object_can_be_replaced_and_its_folder_deleted(store):
    for number in (1, 2):
        write_checkpoint(f"{store}/replaced/last.pt", {"number": number})
    assert read_checkpoint(f"{store}/replaced/last.pt")["number"] == 2
    assert "replaced" in files.folders(store)
    assert files.folders(f"{store}/never") == []
    files.remove_folder(f"{store}/replaced")
    files.remove_folder(f"{store}/replaced")
    assert "replaced" not in files.folders(store)
    assert not files.exists(f"{store}/replaced/last.pt")


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_truncated_object_is_a_checkpoint_error(store, size):
    write_checkpoint(f"{store}/cut.pt", {"values": torch.zeros(2000)})
    content = files.read_bytes(f"{store}/cut.pt")
    assert len(content) > size
    files.write_bytes(f"{store}/cut.pt", content[:size])
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        read_checkpoint(f"{store}/cut.pt")


def test_a_missing_object_or_bucket_is_a_checkpoint_error(store):
    assert not files.exists(f"{store}/none.pt")
    for url in (f"{store}/none.pt", "s3://no-such-bucket/none.pt"):
        with pytest.raises(CheckpointError):
            read_checkpoint(url)
        with pytest.raises(CheckpointError):
            read_weights(url)


def test_names_are_joined_to_urls_and_to_paths(tmp_path):
    assert files.join("s3://bucket/a/", "b", "c.pt") == "s3://bucket/a/b/c.pt"
    assert files.join(tmp_path, "b") == tmp_path / "b"
    files.write_bytes(tmp_path / "deep" / "file", b"12")
    assert files.read_bytes(tmp_path / "deep" / "file") == b"12"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file"]


def test_a_trial_resumes_from_the_store_and_restarts_if_the_object_is_truncated(store):
    from trainables.training.tune_trainable import TrialTrainable

    folder = f"{store}/tune/00001"
    earlier = Trainer(SPEC)
    earlier.run_epoch()
    earlier.save_checkpoints(folder)
    config = {"spec": SPEC.to_dict(), "checkpoint_dir": folder}
    assert TrialTrainable(config=config)._trainer.epoch == 1
    content = files.read_bytes(f"{folder}/last.pt")
    files.write_bytes(f"{folder}/last.pt", content[: len(content) // 2])
    worker = TrialTrainable(config=config)
    assert worker._failure is None
    assert worker._trainer.epoch == 0


def test_a_misspelt_bucket_is_named_before_a_study_starts(store, tmp_path):
    tree = {"name": "s", "dataset": {"name": "digits"}, "search": {"space": "core"}}
    existing, misspelt = (
        Start(parse_config({**tree, "storage": {"checkpoints": place}}), tmp_path, is_new=True)
        for place in (f"{store}/s", "s3://studeis/s")
    )
    require(existing, [check_machines])
    with pytest.raises(
        UsageError, match=r"`storage.checkpoints`: this machine cannot write to s3://studeis/s \(.*bucket"
    ):
        require(misspelt, [check_machines])
