"""The unlabelled pool of robust self-training: its images, its labels, and the cached model that labels it."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers.networks.image_files import cyclic_labels, encode, parquet_table
from helpers.networks.toy_problems import blobs, deterministic, tiny_spec

from trainables.data import DataError
from trainables.data.base import RawImages
from trainables.data.unlabelled import check_images, load_images
from trainables.settings import settings_of
from trainables.spec import CraftMode, TrainingSpec, TrialSpec
from trainables.training import pseudo_labels as teacher_module
from trainables.training.batches import Pool, TrainingBatches
from trainables.training.fit import trainer_for
from trainables.training.loop import LAST, Trainer
from trainables.training.pseudo_labels import labelled_pool, teacher, teacher_file, teacher_spec

CPU = torch.device("cpu")
POOL = "test_pseudo_labels:pool"
RECIPE = {"warmup", "ramp", "clip_norm", "give_up_after"}
DATA = blobs(train=60, val=30)


def pool(root: Path) -> RawImages:
    """Return more pictures of the same classes, and all of the trial's training and validation images."""
    more = blobs(train=120, val=2, seed=0)
    noise = np.random.RandomState(5).randint(0, 3, size=more.train.images.shape)
    new = np.clip(more.train.images.astype(int) - noise, 0, 16).astype(np.uint8)
    images = np.concatenate([DATA.train.images, DATA.val.images, new])
    labels = np.zeros(len(images), dtype=np.int64)
    names = ("unknown", "unused")
    return RawImages(
        train_images=images, train_labels=labels, test_images=images[:2], test_labels=labels[:2],
        class_names=names, scale=16,
    )  # fmt: skip


def colour(root: Path) -> RawImages:
    images, labels = np.zeros((20, 3, 8, 8), np.uint8), np.zeros(20, np.int64)
    return RawImages(
        train_images=images, train_labels=labels, test_images=images, test_labels=labels, class_names=("a",)
    )


def same(root: Path) -> RawImages:
    images = np.concatenate([DATA.train.images, DATA.val.images])
    labels = np.zeros(len(images), dtype=np.int64)
    return RawImages(
        train_images=images, train_labels=labels, test_images=images, test_labels=labels, class_names=("a",), scale=16
    )


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Use a temporary cache folder, and make this file's loaders importable as a user's."""
    import sys

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "test_pseudo_labels", sys.modules[__name__])
    teacher_module._unlabelled.cache_clear()
    return tmp_path / "cache" / "robust-study" / "teachers"


def spec(**changes):
    params = {"pool": POOL, **changes.pop("params", {})}
    return tiny_spec("robust_self_training", train_epsilon=0.1, params=params, epochs=4, **changes)


def test_pool_holds_new_images_only_and_the_teachers_labels():
    labelled = labelled_pool(POOL, spec=spec(), data=DATA, device=CPU, made_by=teacher)
    of_splits = {image.tobytes() for image in (*DATA.train.images, *DATA.val.images)}
    assert 60 < len(labelled.images) <= 120
    assert not [image for image in labelled.images if image.tobytes() in of_splits]
    model = teacher(spec(), data=DATA, device=CPU).eval()
    with torch.no_grad():
        predicted = model(torch.from_numpy(labelled.images).float() / 16).argmax(1)
    assert np.array_equal(labelled.labels, predicted.numpy())
    # The pool's own labels are all 0 and are not used; the pictures are of three classes.
    assert set(labelled.labels) == {0, 1, 2}


def test_teacher_is_natural_training_on_the_training_split_only(cache):
    of_teacher = teacher_spec(spec(seed=5, dropout=0.3))
    assert (of_teacher.method, of_teacher.train_epsilon) == ("natural", None)
    assert (of_teacher.seed, of_teacher.model.dropout) == (0, 0.0)
    first = teacher(spec(), data=DATA, device=CPU)
    other = dataclasses.replace(DATA, val=blobs(train=60, val=30, seed=9).val)
    (cache / teacher_file(spec(), data=DATA, device=CPU).name).unlink()
    second = teacher(spec(), data=other, device=CPU)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_teacher_is_trained_once_for_all_trials_that_share_its_spec(cache, epochs, caplog):
    first = teacher(spec(), data=DATA, device=CPU)
    assert len(epochs) == 4
    second = teacher(spec(seed=7, dropout=0.1, params={"lambda": 2.0}), data=DATA, device=CPU)
    assert len(epochs) == 4
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    teacher(spec(lr=0.01), data=DATA, device=CPU)
    assert len(epochs) == 8
    assert len(list(cache.glob("*.pt"))) == 2
    # A damaged file is replaced.
    path = teacher_file(spec(), data=DATA, device=CPU)
    path.write_bytes(path.read_bytes()[:100])
    with caplog.at_level(logging.WARNING):
        teacher(spec(), data=DATA, device=CPU)
    assert "retraining the natural model" in caplog.text
    assert len(epochs) == 12


def test_pools_that_cannot_be_used_are_refused():
    shapes = r"`pool` must hold images of shape \(1, 8, 8\), test_pseudo_labels:colour has \(3"
    with pytest.raises(DataError, match=shapes):
        labelled_pool("test_pseudo_labels:colour", spec=spec(), data=DATA, device=CPU, made_by=teacher)
    with pytest.raises(DataError, match="`pool` must hold images that are not in the trial's splits; all 90 are"):
        labelled_pool("test_pseudo_labels:same", spec=spec(), data=DATA, device=CPU, made_by=teacher)


@pytest.mark.parametrize("where", ["one file", "folder", "split"])
def test_a_pool_of_parquet_files_needs_neither_labels_nor_a_test_split(tmp_path, where):
    stored = np.random.RandomState(3).randint(0, 256, size=(7, 1, 8, 8)).astype(np.uint8)
    table = parquet_table([encode(image) for image in stored], cyclic_labels(7)).drop_columns(["label"])
    path = tmp_path / ("train-0.parquet" if where == "split" else "more.parquet")
    pq.write_table(table, path)
    name = str(path if where == "one file" else tmp_path)
    check_images(name, root=None)
    images, scale = load_images(name, root=None)
    assert scale == 255
    assert np.array_equal(images, stored)


def test_errors_about_a_missing_pool_name_the_setting():
    for broken in ("nowhere/pool.parquet", "mnits"):
        with pytest.raises(DataError, match="`pool`"):
            check_images(broken, root=None)


def test_a_teacher_that_diverges_is_an_error():
    with pytest.raises(RuntimeError, match=r"the method asks for diverged: lower `training\.lr`"):
        teacher(spec(name="mlp", lr=100.0, momentum=0.99, schedule="constant", clip_norm=None), data=DATA, device=CPU)


@pytest.fixture
def epochs(monkeypatch) -> list[str]:
    """Collect the method of each epoch that is run."""
    ran: list[str] = []
    run_epoch = Trainer.run_epoch
    monkeypatch.setattr(Trainer, "run_epoch", lambda self: ran.append(self.spec.method) or run_epoch(self))
    return ran


ONE_SIDED = dataclasses.replace(DATA, train=dataclasses.replace(DATA.train, labels=np.zeros_like(DATA.train.labels)))


def test_a_teacher_that_gives_all_images_one_class_is_an_error_and_is_trained_once(epochs):
    for seed in range(3):
        with pytest.raises(RuntimeError, match=r"one class for all 30 validation images: lower `training\.lr`"):
            teacher(spec(seed=seed), data=ONE_SIDED, device=CPU)
    assert len(epochs) == 4


def test_such_a_teacher_is_a_warning_in_a_trial_that_gives_up_on_no_network(epochs, caplog):
    with caplog.at_level(logging.WARNING):
        first, second = (teacher(spec(give_up_after=None, seed=n), data=ONE_SIDED, device=CPU) for n in range(2))
    assert caplog.text.count("predicts one class for all 30 validation images") == 2
    assert all(torch.equal(first.state_dict()[name], value) for name, value in second.state_dict().items())
    assert len(epochs) == 4


def test_a_collapsed_teacher_is_ended_early_and_trained_on_by_a_trial_that_gives_up_on_none(epochs, monkeypatch):
    monkeypatch.setattr(teacher_module, "_collapsed", lambda *_: None)
    monkeypatch.setattr("trainables.training.collapse.predicts_one_class", lambda *_: True)
    monkeypatch.setattr("trainables.training.collapse.ABOVE", 100.0)
    settings = {"lr": 0.0, "give_up_after": 0.75, "warmup": 0.0}
    for _ in range(2):
        with pytest.raises(RuntimeError, match="asks for predicts one class for all 30 images after epoch 3 of 4"):
            teacher(spec(**settings), data=DATA, device=CPU)
    assert len(epochs) == 3
    for _ in range(2):
        teacher(spec(**settings | {"give_up_after": None}), data=DATA, device=CPU)
    assert len(epochs) == 7
    with pytest.raises(RuntimeError, match="one class"):  # whichever trial comes first
        teacher(spec(**settings), data=DATA, device=CPU)
    assert len(epochs) == 7


def test_trials_that_differ_in_what_natural_training_does_not_use_share_a_teacher(epochs):
    unused = [{}, {"ramp": 0.6}, {"attack_steps": 3}, {"bounds_power": 2.0}, {"awp": 0.01}]
    unused.append({"craft_mode": CraftMode(bn="train", dropout="train")})
    states = [teacher(spec(**settings), data=DATA, device=CPU).state_dict() for settings in unused]
    assert len(epochs) == 4
    # and rightly so: each would be the same network
    for settings, state in zip(unused, states, strict=True):
        trainer = Trainer(tiny_spec("natural", dropout=0.0, epochs=4, **settings), data=DATA, device=CPU)
        while not trainer.done:
            trainer.run_epoch()
        for name, value in trainer.measured.state_dict().items():
            assert torch.equal(state[name], value), (settings, name)


def test_a_setting_that_is_added_later_changes_no_teachers_file(monkeypatch):
    former = {name: one.before for name, one in settings_of(TrainingSpec).items() if name in RECIPE}
    kept = teacher_file(spec(**former), data=DATA, device=CPU)
    was = TrialSpec.to_dict

    def before_the_recipe(self):
        tree = was(self)
        training = {name: value for name, value in tree["training"].items() if name not in RECIPE}
        return {**tree, "training": training}

    monkeypatch.setattr(TrialSpec, "to_dict", before_the_recipe)
    assert teacher_file(spec(**former), data=DATA, device=CPU) == kept


def test_a_trial_with_a_pool_is_repeatable_resumes_and_differs_from_one_without(tmp_path):
    def run(trial, stop=None):
        trainer = trainer_for(trial, data=DATA, device=CPU)
        while not trainer.done and trainer.epoch != stop:
            trainer.run_epoch()
        return trainer

    own = spec(every=4)
    uninterrupted = run(own)
    half = run(own, stop=2)
    half.save(tmp_path / LAST)
    resumed = trainer_for(own, data=DATA, device=CPU)
    resumed.load(tmp_path / LAST)
    while not resumed.done:
        resumed.run_epoch()
    ours, theirs = uninterrupted.outcome().row, resumed.outcome().row
    assert deterministic(ours) == deterministic(theirs)
    assert ours["options"] == f'{{"pool": "{POOL}"}}'
    without = run(tiny_spec("robust_self_training", train_epsilon=0.1, epochs=4, every=4))
    assert without.outcome().row["val_loss"] != ours["val_loss"]
    assert without.outcome().row["options"] is None


def test_each_batch_has_as_many_images_of_the_pool_as_of_the_split():
    data = blobs(train=50, val=3)
    images = np.stack([np.full((1, 8, 8), number, np.uint8) for number in range(20)])

    def batches(seed: int = 0):
        return TrainingBatches(
            data.train, scale=16, size=16, augmentation="none", seed=seed, device=CPU,
            layout=torch.contiguous_format, keep_single=True, pool=Pool(images, np.arange(20), 20),
        )  # fmt: skip

    served = batches()
    assert (len(served), served.num_images) == (4, 100)
    plain = TrainingBatches(
        data.train, scale=16, size=16, augmentation="none", seed=0, device=CPU,
        layout=torch.contiguous_format, keep_single=True,
    )  # fmt: skip
    used = []
    for (x, y), (plain_x, plain_y) in zip(served.epoch(3), plain.epoch(3), strict=True):
        count = len(plain_x)
        assert len(x) == len(y) == 2 * count
        assert torch.equal(x[:count], plain_x)
        assert torch.equal(y[:count], plain_y)
        # The pool's images have their own scale, and each has its own label.
        assert torch.allclose(x[count:, 0, 0, 0], y[count:] / 20)
        used += y[count:].tolist()
    # 20 images fill 50 places, each two or three times, in an order that depends on the epoch and the seed.
    assert set(np.bincount(used)) == {2, 3}
    orders = [[label for _, y in source.epoch(epoch) for label in y[len(y) // 2 :].tolist()] for source, epoch in
              ((batches(), 3), (batches(), 4), (batches(1), 3))]  # fmt: skip
    assert orders[0] == used
    assert used not in orders[1:]


def test_a_trainer_without_pool_labels_refuses_a_method_with_a_pool():
    with pytest.raises(ValueError, match=r"this trainer cannot make it: use `trainables\.training\.fit\.trainer_for`"):
        Trainer(spec(), data=DATA, device=CPU)
