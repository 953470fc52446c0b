"""A study for GPUs on a machine without one: what it would take there, and what to do instead."""

from __future__ import annotations

import re

import pytest
import torch
from helpers.networks.image_files import write_parquet

from study.cluster.cpu_time import without_gpu
from study.config.loading import load_config
from trainables.data import load_dataset

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A data root with a few images like CIFAR-10's."""
    root = tmp_path_factory.mktemp("data")
    write_parquet(root / "cifar10", column="img", num_train=100)
    return root


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_cifar10_without_a_gpu_states_its_time_and_names_the_small_preset(
    words, command, images, tmp_path, monkeypatch
):
    # what is timed is below
    monkeypatch.setattr("study.cluster.cpu_time._training_seconds", lambda *_: 1e6)
    code, _, err = command("launch", "cifar10", "--data-root", images, *words)
    text = " ".join(err.split())
    assert code == 2
    assert "`resources.gpus` is 1 for each trial and this machine has 0; on its CPUs a trial would train for" in text
    assert re.search(r"\(preact_resnet18 in bf16, 60 epochs, 10 attack steps\), and the 200 trials for about \d", text)
    assert "launch the preset cifar10_small" in text
    assert not (tmp_path / "studies").exists()


def estimate(*assignments: str) -> str:
    config = load_config("quickstart", assignments=assignments)
    return without_gpu(config, load_dataset(config.dataset).without_test())


def test_the_time_is_that_of_a_gradient_for_each_image_epoch_and_step(monkeypatch):
    ticks = iter([0.0, 0.8])
    monkeypatch.setattr("study.cluster.cpu_time.time.perf_counter", lambda: next(ticks))
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    images = len(load_dataset(load_config("quickstart").dataset).train)
    text = estimate(
        "resources.max_concurrent=3", "training.epochs=2", "training.attack_steps=4", "search.num_trials=3000",
        "training.precision=bf16",
    )  # fmt: skip
    one = 0.1 * images * 2 * 5
    assert f"for about {int(one // 60)}m" in text
    assert "in bf16, 2 epochs, 4 attack steps" in text
    assert f"the 3000 trials for about {one * 1000 / 86400:.0f} days" in text
    assert "small" not in text.replace("cnn_small", "")
