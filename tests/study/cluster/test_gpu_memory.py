"""The share of a GPU a trial asks for: the smallest that holds it, measured once, and nothing where there is no GPU."""

from __future__ import annotations

import json
import types

import pytest
import ray
import torch

from study.cluster.gpu_memory import CACHE_FILE, CONTEXT_BYTES, HEAD_ROOM, gpus_per_trial, proposed, share, short_trial
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
    found = share(peak, total)
    trials = round(1 / found)
    need = HEAD_ROOM * peak + CONTEXT_BYTES
    assert trials * found <= 1
    assert trials == 1 or trials * need <= total
    assert (trials + 1) * need > total


def test_what_does_not_fit_gets_a_whole_gpu():
    assert share(None, 80 * GB) == 1


def test_the_neediest_method_decides_and_each_is_measured_once(data, tmp_path):
    asked = []

    def measure(spec, few):
        asked.append((spec.method, spec.training.batch_size, len(few.train), spec.training.epochs))
        return {"device": "H100", "peak": {"natural": GB, "trades": 4 * GB}[spec.method], "total": 80 * GB}

    cache = tmp_path / CACHE_FILE
    study = config(training={"batch_size": 100})
    first = proposed(study, cache, data=data, measure=measure)
    assert asked == [("natural", 100, 200, 1), ("trades", 100, 200, 1)]
    rest = data.train.images[200:].nbytes
    assert [one["peak"] for one in json.loads(cache.read_text())] == [GB + rest, 4 * GB + rest]
    assert first == share(4 * GB + rest, 80 * GB) == pytest.approx(1 / 13, abs=1e-4)
    assert proposed(study, cache, data=data, measure=measure) == first
    assert len(asked) == 2


def test_the_largest_batch_that_may_be_drawn_is_measured(data, tmp_path):
    sizes = []

    def measure(spec, few):
        sizes.append(spec.training.batch_size)
        return {"device": "H100", "peak": None, "total": 80 * GB}

    study = config(search={"space": "core", "methods": ["natural"], "fixed": {"batch_size": 256}})
    assert proposed(study, tmp_path / CACHE_FILE, data=data, measure=measure) == 1
    assert sizes == [256]


def test_without_gpus_nothing_is_measured_and_a_number_is_taken_as_it_is(data, tmp_path):
    assert gpus_per_trial(config(), tmp_path, data=data, num_gpus=0) == 0
    assert gpus_per_trial(config(resources={"gpus": 0.5}), tmp_path, data=data, num_gpus=8) == 0.5
    assert not list(tmp_path.iterdir())


class _FakeRay:
    """Notes what a task asks for; its answer is there after so many looks."""

    def __init__(self, monkeypatch, *, looks):
        self.asked, self.cancelled, self.looks = [], 0, looks
        for name in ("remote", "wait", "get", "cancel"):
            monkeypatch.setattr(ray, name, getattr(self, name))

    def remote(self, function=None, **options):
        self.asked.append(options)
        return lambda given: types.SimpleNamespace(remote=lambda *arguments: "a reference")

    def wait(self, references, *, timeout):
        assert timeout <= 1
        self.looks -= 1
        return ([], references) if self.looks > 0 else (references, [])

    def get(self, reference):
        return {"device": "A100", "peak": GB, "total": 80 * GB}

    def cancel(self, reference, *, force):
        self.cancelled += 1


def test_the_probe_runs_where_trials_will_and_is_measured_again_for_another_kind(data, tmp_path, monkeypatch, capsys):
    fake = _FakeRay(monkeypatch, looks=1)
    place = {"gpus": "auto", "accelerator_type": "A100", "custom": {"licence": 1}}
    study = config(resources=place, search={"space": "core", "methods": ["natural"]})
    expected = share(GB + data.train.images[256:].nbytes, 80 * GB)
    for _ in range(2):
        assert gpus_per_trial(study, tmp_path, data=data, num_gpus=4) == expected
    assert len(fake.asked) == 1
    assert fake.asked[0]["accelerator_type"] == "A100"
    assert fake.asked[0]["resources"] == {"licence": 1}
    assert fake.asked[0]["num_gpus"] == 1
    assert "measuring the GPU memory of natural" in capsys.readouterr().err
    other = config(resources={**place, "accelerator_type": "H100"}, search={"space": "core", "methods": ["natural"]})
    gpus_per_trial(other, tmp_path, data=data, num_gpus=4)
    assert fake.asked[1]["accelerator_type"] == "H100"


def test_a_probe_that_waits_for_a_gpu_says_so_and_hears_a_stop(data, tmp_path, monkeypatch, capsys):
    fake = _FakeRay(monkeypatch, looks=1000)
    monkeypatch.setattr("study.cluster.gpu_memory._PATIENCE_SECONDS", -1)
    answers = iter([False, False, True])
    found = gpus_per_trial(config(), tmp_path, data=data, num_gpus=4, stopping=lambda: next(answers))
    assert found == 1
    assert (fake.cancelled, fake.looks) == (1, 997)
    assert capsys.readouterr().err.count("waiting for a GPU: another study may hold all") == 1
    assert not (tmp_path / CACHE_FILE).exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_short_trial_on_a_real_gpu_says_what_it_took(data):
    spec = config().trial_spec({"method": "natural"}, number=0)
    found = short_trial(spec.to_dict(), data)
    assert 0 < found["peak"] < found["total"]
    assert found["device"] == torch.cuda.get_device_name()
