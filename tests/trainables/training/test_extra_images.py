"""Further images with labels of their own, which join each batch of any method by a share."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers.networks.image_files import cyclic_labels, encode, parquet_table
from helpers.networks.toy_problems import assert_equal, blobs, deterministic, tiny_spec

from trainables.data import DataError
from trainables.data.base import RawImages, Split
from trainables.data.unlabelled import load_labelled, new_labelled
from trainables.spec import TrainingSpec
from trainables.training import pseudo_labels
from trainables.training.batches import Pool, TrainingBatches
from trainables.training.first_step import take_first_step
from trainables.training.fit import trainer_for
from trainables.training.loop import LAST

CPU = torch.device("cpu")
DATA = blobs(train=60, val=30)
EXTRA = "test_extra_images:generated"


def raw(images, labels, names) -> RawImages:
    return RawImages(
        train_images=images, train_labels=labels, test_images=images[:2], test_labels=labels[:2], class_names=names,
        scale=16,
    )  # fmt: skip


def generated(root: Path) -> RawImages:
    """Return pictures of the trial's classes in another order, one of them of its validation split."""
    more = blobs(train=41, val=2)
    images = more.train.images.copy()
    images[:40] = np.clip(images[:40].astype(int) - 1, 0, 16)
    images[40] = DATA.val.images[0]
    return raw(images, 2 - more.train.labels, ("2", "1", "0"))


def foreign(root: Path) -> RawImages:
    return raw(generated(root).train_images, np.zeros(41, np.int64), ("0", "cat"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "test_extra_images", sys.modules[__name__])
    pseudo_labels._labelled.cache_clear()


def new(name: str):
    return new_labelled(load_labelled(name, root=None), name=name, data=DATA)


def test_classes_are_matched_by_name_and_images_of_the_splits_left_out():
    extra = new(EXTRA)
    assert len(extra.images) == 40
    assert extra.labels.tolist() == blobs(train=41, val=2).train.labels[:40].tolist()
    assert (extra.labels.dtype, extra.scale) == (np.int64, 16)
    with pytest.raises(DataError, match="`extra` must have classes of blobs only, test_extra_images:foreign has 'cat'"):
        new("test_extra_images:foreign")
    with pytest.raises(DataError, match="`extra` must be a data set, a Parquet file or a folder of them"):
        new("nowhere/generated.parquet")


@pytest.mark.parametrize("classes", [3, 4])
def test_a_parquet_file_with_labels_needs_no_test_split(tmp_path, classes):
    stored = np.random.RandomState(3).randint(0, 256, size=(8, 1, 8, 8)).astype(np.uint8)
    path = tmp_path / "generated.parquet"
    pq.write_table(parquet_table([encode(image) for image in stored], cyclic_labels(8, classes)), path)
    if classes == 4:
        with pytest.raises(DataError, match=r"`extra` must have labels in 0\.\.2, .*generated\.parquet has others"):
            new(str(path))
        return
    extra = new(str(path))
    assert np.array_equal(extra.images, stored)
    assert extra.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.7])
def test_each_batch_has_its_share_and_all_images_are_served_alike(share):
    images, labels = np.arange(50, dtype=np.uint8).repeat(64).reshape(50, 1, 8, 8), np.zeros(50, np.int64)
    pool = Pool(np.full((12, 1, 8, 8), 9, np.uint8), np.arange(100, 112), 10, share=share)
    source = TrainingBatches(
        Split(images, labels, np.arange(50)), scale=255, size=16, augmentation="none", seed=0, device=CPU,
        layout=torch.contiguous_format, keep_single=False, pool=pool,
    )  # fmt: skip
    batches = list(source.epoch(0))
    ours = [int((y < 100).sum()) for _, y in batches]
    assert ours == [16, 16, 16, 2]
    joined = [int((y >= 100).sum()) for _, y in batches]
    assert sum(joined) == round(50 * share / (1 - share)) == source.num_images - 50
    assert all(abs(extra - count * share / (1 - share)) <= 1 for count, extra in zip(ours, joined, strict=True))
    served = np.bincount(torch.cat([y[y >= 100] for _, y in batches]).numpy() - 100, minlength=12)
    assert served.max() - served.min() <= 1


@pytest.mark.parametrize("method", ["natural", "trades", "hat"])
def test_every_method_trains_on_them_and_resumes(method, tmp_path):
    radius = None if method == "natural" else 0.1
    spec = tiny_spec(method, train_epsilon=radius, extra=EXTRA, extra_share=0.4, epochs=3, every=3)
    whole, first = (trainer_for(spec, data=DATA, device=CPU) for _ in range(2))
    rows = []
    while not whole.done:
        rows.append(whole.run_epoch())
    first.run_epoch()
    first.save(tmp_path / LAST)
    second = trainer_for(spec, data=DATA, device=CPU)
    second.load(tmp_path / LAST)
    while not second.done:
        second.run_epoch()
    assert_equal(whole.model, second.model)
    assert deterministic(whole.history[-1]) == deterministic(second.history[-1])
    without = dataclasses.replace(spec, training=dataclasses.replace(spec.training, extra=None))
    assert trainer_for(without, data=DATA, device=CPU).run_epoch()["loss"] != rows[0]["loss"]


def test_the_dry_run_of_a_users_own_code_reads_none_of_them():
    take_first_step(tiny_spec("natural", extra="nowhere/generated.parquet"), DATA)


def test_a_pool_of_the_methods_own_excludes_them():
    spec = tiny_spec("robust_self_training", train_epsilon=0.1, params={"pool": "digits"}, extra=EXTRA)
    with pytest.raises(ValueError, match=r"`training\.extra` test_extra.* and `pool` digits of method .* exclude each"):
        trainer_for(spec, data=DATA, device=CPU)


@pytest.mark.parametrize("share", [0.0, 0.96, float("nan")])
def test_the_share_leaves_images_of_the_split(share):
    with pytest.raises(ValueError, match=r"`extra_share` must be in \[0\.01, 0\.95\]"):
        TrainingSpec(extra_share=share)
