"""Disk space is checked before a study starts, separately for results and for checkpoints."""

from __future__ import annotations

import shutil
from collections import namedtuple

import pytest

from study.config.loading import load_config
from study.directory.disk import check_disk, checkpoint_bytes, disk_need, size_text
from study.errors import UsageError

GB, TRIALS = 10**9, 1000


def config(*assignments):
    return load_config(
        "quickstart", assignments=[f"search.num_trials={TRIALS}", "storage.keep=contenders", *assignments]
    )


@pytest.fixture
def disks(tmp_path, monkeypatch):
    """Two disks, `small` for results and `huge` for checkpoints, whose free space a test may set."""
    free = {"small": 50 * GB, "huge": 10_000 * GB}
    usage = namedtuple("usage", ["free"])
    for name in free:
        (tmp_path / name).mkdir()

    def disk(path):
        return "huge" if "huge" in str(path) else "small"

    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(free[disk(path)]))
    monkeypatch.setattr("study.directory.disk._device", disk)
    return tmp_path, free


def test_the_need_is_the_sum_of_rows_and_checkpoints():
    some = disk_need(config(), trials=TRIALS, checkpoint=GB, val_size=1000)
    everything = disk_need(config("storage.keep=all"), trials=TRIALS, checkpoint=GB, val_size=1000)
    assert some.every == everything.every == everything.kept == 1000 * GB
    assert some.kept == 100 * GB
    assert some.rows == everything.rows == 1000 * (60 * (1000 + config().evaluation.examples) + 40_000)


def test_one_disk_for_both_needs_room_for_both(disks):
    folder, free = disks
    some = disk_need(config(), trials=TRIALS, checkpoint=GB, val_size=1000)
    free["small"] = some.rows + some.every
    assert check_disk(some, config(), folder / "small" / "not" / "there") is None
    free["small"] -= 1
    warning = check_disk(some, config(), folder / "small" / "not" / "there")
    assert "all trials would need 1.0 TB" in warning
    free["small"] = some.rows + some.kept - 1
    with pytest.raises(
        UsageError, match=r"1 GB per trial for checkpoints, but only 100 GB are free: set storage"
    ) as caught:
        check_disk(some, config(), folder / "small")
    # a rule that keeps as many checkpoints is not advised
    assert "storage.keep" not in str(caught.value)
    everything = disk_need(config("storage.keep=all"), trials=TRIALS, checkpoint=GB, val_size=1000)
    with pytest.raises(UsageError, match=r"storage\.keep=contenders"):
        check_disk(everything, config("storage.keep=all"), folder / "small")


def test_checkpoints_on_another_disk_are_checked_there(disks):
    folder, free = disks
    other = config(f"storage.checkpoints={folder}/huge/ckpt")
    need = disk_need(other, trials=TRIALS, checkpoint=GB, val_size=1000)
    assert check_disk(need, other, folder / "small" / "s") is None
    free["huge"] = need.kept - 1
    with pytest.raises(UsageError, match=r"needs about 100 GB in .*huge/ckpt, 1 GB per trial .* only 100 GB are free"):
        check_disk(need, other, folder / "small" / "s")
    free["huge"], free["small"] = 10_000 * GB, need.rows - 1
    with pytest.raises(UsageError, match=r"results need about .* in .*small/s, but only .* are free: choose --out"):
        check_disk(need, other, folder / "small" / "s")


def test_space_in_an_object_store_is_not_checked_and_that_for_results_is(disks):
    folder, free = disks
    store = config("storage.checkpoints=s3://bucket/ckpt")
    need = disk_need(store, trials=TRIALS, checkpoint=GB, val_size=1000)
    assert check_disk(need, store, folder / "small" / "s") is None
    free["small"] = need.rows - 1
    with pytest.raises(UsageError, match="results need about"):
        check_disk(need, store, folder / "small" / "s")


def test_the_size_of_checkpoints_follows_from_the_weights(tmp_path):
    from helpers.networks.toy_problems import blobs, tiny_spec

    from trainables.training.loop import Trainer

    for optimizer, ema in (("sgd", None), ("adam", 0.9)):
        trainer = Trainer(tiny_spec(optimizer=optimizer, ema=ema, lr=0.01), data=blobs(), device="cpu")
        trainer.run_epoch()
        trainer.save_checkpoints(tmp_path)
        weights = sum(tensor.numel() * tensor.element_size() for tensor in trainer.model.state_dict().values())
        ema_text = "null" if ema is None else str(ema)
        study = config(f"training.optimizer={optimizer}", f"training.ema={ema_text}")
        size = sum(path.stat().st_size for path in tmp_path.iterdir())
        assert checkpoint_bytes(weights, study) == pytest.approx(size, rel=0.3)
    assert size_text(1500) == "2 kB"
