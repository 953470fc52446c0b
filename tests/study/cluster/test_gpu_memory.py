"""The share of a GPU that a trial reserves: the smallest that holds it, measured once, and 0 without GPUs."""

from __future__ import annotations

import json
import types

import pytest
import ray
import torch

from study.cluster.gpu_memory import (
    CACHE_FILE,
    CONTEXT_BYTES,
    HEAD_ROOM,
    gpus_per_trial,
    measured_share,
    share,
    short_trial,
)
from study.config.schema import parse_config
from trainables.data import load_dataset

GB = 10**9


def config(**sections):
    tree = {
        "name": "s",
        "dataset": {"name": "digits", "train_size": 300},
        "search": {"space": "core", "methods": ["natural", "trades"]},
        "resources": {"gpus": "auto"},
    }
    return parse_config({**tree, **sections})


@pytest.fixture(scope="module")
def data():
    return load_dataset(config().dataset).without_test()


@pytest.mark.parametrize("peak", [10**6, 10**8, 3 * 10**9, 10**10, 3 * 10**10, 10**11])
def test_the_share_is_the_smallest_that_holds_a_trial_with_head_room(peak):
    total = 80 * GB
    fraction = share(peak, total)
    trials = round(1 / fraction)
    need = HEAD_ROOM * peak + CONTEXT_BYTES
    assert trials * fraction <= 1
    assert trials == 1 or trials * need <= total
    assert (trials + 1) * need > total


def test_a_trial_that_does_not_fit_gets_a_whole_gpu():
    assert share(None, 80 * GB) == 1


def test_the_method_with_the_largest_need_decides_and_each_is_measured_once(data, tmp_path):
    probed = []

    def measure(spec, sample):
        probed.append((spec.method, spec.training.batch_size, len(sample.train), spec.training.epochs))
        return {"device": "H100", "peak": {"natural": GB, "trades": 4 * GB}[spec.method], "total": 80 * GB}

    cache = tmp_path / CACHE_FILE
    study = config(training={"batch_size": 100})
    first = measured_share(study, cache, data=data, measure=measure)
    assert probed == [("natural", 100, 200, 1), ("trades", 100, 200, 1)]
    rest = data.train.images[200:].nbytes
    assert [measurement["peak"] for measurement in json.loads(cache.read_text())] == [GB + rest, 4 * GB + rest]
    assert first == share(4 * GB + rest, 80 * GB) == pytest.approx(1 / 13, abs=1e-4)
    assert measured_share(study, cache, data=data, measure=measure) == first
    assert len(probed) == 2


def test_the_largest_possible_batch_is_measured(data, tmp_path):
    sizes = []

    def measure(spec, sample):
        sizes.append(spec.training.batch_size)
        return {"device": "H100", "peak": None, "total": 80 * GB}

    study = config(search={"space": "core", "methods": ["natural"], "fixed": {"batch_size": 256}})
    assert measured_share(study, tmp_path / CACHE_FILE, data=data, measure=measure) == 1
    assert sizes == [256]


def test_without_gpus_or_with_a_number_nothing_is_measured(data, tmp_path):
    assert gpus_per_trial(config(), tmp_path, data=data, num_gpus=0) == 0
    assert gpus_per_trial(config(resources={"gpus": 0.5}), tmp_path, data=data, num_gpus=8) == 0.5
    assert not list(tmp_path.iterdir())


class _FakeRay:
    """Records what a task requests; the result is ready after `looks` calls of `wait`."""

    def __init__(self, monkeypatch, *, looks):
        self.requests, self.cancelled, self.looks = [], 0, looks
        for name in ("remote", "wait", "get", "cancel"):
            monkeypatch.setattr(ray, name, getattr(self, name))

    def remote(self, function=None, **options):
        self.requests.append(options)
        return lambda function: types.SimpleNamespace(remote=lambda *arguments: "a reference")

    def wait(self, references, *, timeout):
        assert timeout <= 1
        self.looks -= 1
        return ([], references) if self.looks > 0 else (references, [])

    def get(self, reference):
        return {"device": "A100", "peak": GB, "total": 80 * GB}

    def cancel(self, reference, *, force):
        self.cancelled += 1


def test_the_probe_runs_where_trials_run_and_again_for_another_accelerator(data, tmp_path, monkeypatch, capsys):
    fake = _FakeRay(monkeypatch, looks=1)
    place = {"gpus": "auto", "accelerator_type": "A100", "custom": {"licence": 1}}
    study = config(resources=place, search={"space": "core", "methods": ["natural"]})
    expected = share(GB + data.train.images[256:].nbytes, 80 * GB)
    for _ in range(2):
        assert gpus_per_trial(study, tmp_path, data=data, num_gpus=4) == expected
    assert len(fake.requests) == 1
    assert fake.requests[0]["accelerator_type"] == "A100"
    assert fake.requests[0]["resources"] == {"licence": 1}
    assert fake.requests[0]["num_gpus"] == 1
    assert "measuring the GPU memory of natural" in capsys.readouterr().err
    other = config(resources={**place, "accelerator_type": "H100"}, search={"space": "core", "methods": ["natural"]})
    gpus_per_trial(other, tmp_path, data=data, num_gpus=4)
    assert fake.requests[1]["accelerator_type"] == "H100"


def test_a_probe_that_waits_for_a_gpu_reports_it_and_can_be_stopped(data, tmp_path, monkeypatch, capsys):
    fake = _FakeRay(monkeypatch, looks=1000)
    monkeypatch.setattr("study.cluster.gpu_memory._PATIENCE_SECONDS", -1)
    answers = iter([False, False, True])
    assert gpus_per_trial(config(), tmp_path, data=data, num_gpus=4, stopping=lambda: next(answers)) == 1
    assert (fake.cancelled, fake.looks) == (1, 997)
    assert capsys.readouterr().err.count("waiting for a GPU: another study may be using all") == 1
    assert not (tmp_path / CACHE_FILE).exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_short_trial_on_a_real_gpu_returns_its_peak(data):
    spec = config().trial_spec({"method": "natural"}, number=0)
    result = short_trial(spec.to_dict(), data)
    assert 0 < result["peak"] < result["total"]
    assert result["device"] == torch.cuda.get_device_name()
