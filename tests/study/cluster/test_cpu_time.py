"""A study for GPUs on a machine without one: what it would take there, and what to do instead."""

from __future__ import annotations

import re

import pytest
import torch
from helpers.networks.image_files import write_parquet

from study.cluster.cpu_time import cpu_training
from study.cluster.preflight import check_data, check_machines, require
from study.cluster.resources import check_here
from study.cluster.start import new_start
from study.config.loading import load_config
from study.errors import UsageError
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
    return cpu_training(config, load_dataset(config.dataset).without_test())


def test_the_time_is_that_of_a_gradient_for_each_image_epoch_and_step(monkeypatch):
    ticks = iter([0.0, 0.8, 1.0, 1.2])
    monkeypatch.setattr("study.cluster.cpu_time.time.perf_counter", lambda: next(ticks))
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    images = len(load_dataset(load_config("quickstart").dataset).train)
    text = estimate(
        "resources.max_concurrent=3", "training.epochs=2", "training.attack_steps=4", "search.num_trials=3000",
        "training.precision=bf16",
    )  # fmt: skip
    one = 0.1 * images * 2 * 5
    assert f"for about {int(one // 60)}m" in text
    in_fp32 = "in fp32, which is another training (--set training.precision=fp32), about"
    assert f"in bf16, 2 epochs, 4 attack steps; {in_fp32} {int(one / 4 // 60)}m" in text
    assert f"the 3000 trials for about {one * 1000 / 86400:.0f} days" in text


def test_without_the_data_too_the_small_preset_is_named():
    for name in ("cifar10", "mine"):
        config = load_config("cifar10", assignments=[f"name={name}"])
        with pytest.raises(UsageError, match=r"this machine has 0: launch the preset cifar10_small, which is made for"):
            check_here(config, None)
    config = load_config("cifar10", assignments=["dataset.name=mnist"])
    with pytest.raises(UsageError, match="launch the preset cifar10_small"):
        check_here(config, None)
    config = load_config("cifar10", assignments=["dataset.name=mnist", "name=mine"])
    with pytest.raises(UsageError, match="this machine has 0: use a cluster"):
        check_here(config, None)


def test_launch_without_data_and_gpu_says_both_and_doctor_each_once(command, tmp_path):
    (tmp_path / "empty").mkdir()
    words = ("cifar10", "--set", f"dataset.name={tmp_path}/empty")
    code, _, err = command("launch", *words)
    assert code == 2
    assert "empty" in err.splitlines()[0]
    assert "launch the preset cifar10_small, which is made for CPUs" in " ".join(err.split())
    _, out, _ = command("doctor", *words)
    assert " ".join(out.split()).count("launch the preset cifar10_small") == 1


def test_the_small_preset_is_not_the_advice_on_itself():
    config = load_config("cifar10_small", assignments=["resources.gpus=1"])
    with pytest.raises(UsageError, match="this machine has 0: use a cluster"):
        check_here(config, None)


def test_fixed_settings_are_those_that_are_timed(monkeypatch):
    monkeypatch.setattr("study.cluster.cpu_time._training_seconds", lambda spec, _: float(spec.training.epochs))
    assert "would train for about 40s (cnn_small in fp32, 40 epochs, 5 attack steps)" in estimate(
        "search.fixed.epochs=40", "search.fixed.attack_steps=5"
    )


@pytest.mark.parametrize("key", ["training.precision", "search.fixed.precision"])
@pytest.mark.parametrize(("precision", "told"), [("bf16", True), ("fp32", False)])
def test_bf16_without_gpus_states_the_time_of_both_and_goes_on(tmp_path, monkeypatch, capsys, key, precision, told):
    seconds = {"bf16": 1e6, "fp32": 1e4}
    monkeypatch.setattr("study.cluster.cpu_time._training_seconds", lambda spec, _: seconds[spec.training.precision])
    given = [f"{key}={precision}"]
    start = new_start("quickstart", assignments=given, out=tmp_path, data_root=None, address=None)
    require(start, [check_data, check_machines])
    text = " ".join(capsys.readouterr().err.split())
    assert ("trials get no GPU of this machine, and most CPUs emulate bf16: on its CPUs a trial" in text) == told
    assert (f"(--set {key}=fp32), about" in text) == told


def test_auto_on_a_machine_without_a_gpu_states_the_time_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("study.cluster.cpu_time._training_seconds", lambda *_: 1e6)
    given = ["resources.gpus=auto"]
    start = new_start("quickstart", assignments=given, out=tmp_path, data_root=None, address=None)
    require(start, [check_data, check_machines])
    text = " ".join(capsys.readouterr().err.split())
    assert (
        "`resources.gpus` is auto and this machine has no GPU: on its CPUs a trial would train for about 12 days"
        in text
    )
