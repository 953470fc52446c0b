"""`evaluate --checkpoint` on networks in half precision, on networks that mix a batch, and on few classes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from helpers.studies.in_process import robust_study
from torch import nn

from study.errors import UsageError
from study.evaluation.attack_choice import suitable
from trainables.attacks import ATTACKS

CODE = """
import numpy as np
from torch import nn

from trainables.data.base import RawImages


def own():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


class Half(nn.Sequential):
    def forward(self, x):
        return super().forward(x).half()


class Mixed(nn.Sequential):
    def forward(self, x):
        return super().forward(x).softmax(0)


def half():
    return Half(*own())


def mixed():
    return Mixed(*own())


def gone():
    raise OSError("no such width")


def leaves():
    raise SystemExit(3)


def listed():
    return [own()]


class Breaks(nn.Sequential):
    def forward(self, x):
        raise KeyError("width")


def breaks():
    return Breaks(*own())


def three(root):
    images = np.random.default_rng(0).integers(0, 256, (60, 1, 8, 8), dtype=np.uint8)
    labels = np.arange(60) % 3
    return RawImages(images[:40], labels[:40], images[40:], labels[40:], class_names=tuple("abc"))
"""


@pytest.fixture
def evaluate(tmp_path: Path):
    """Return a function that measures one checkpoint with a model of `CODE`."""
    (tmp_path / "users_few_classes.py").write_text(CODE)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).state_dict(), tmp_path / "own.pt")

    def run(model: str, *words: str):
        line = ["--checkpoint", "own.pt", "--model", f"users_few_classes:{model}", "--dataset"]
        line += ["users_few_classes:three", "--epsilon", "0.05", "--limit", "6", "--steps", "2", "--json", *words]
        return robust_study(tmp_path, "evaluate", *line)

    yield run
    sys.modules.pop("users_few_classes", None)


def test_logits_in_half_precision_are_measured_as_those_in_full(evaluate):
    whole, half = (json.loads(evaluate(model, "--attack", "pgd").stdout) for model in ("own", "half"))
    for key in ("clean_accuracy", "loss", "lipschitz_mean"):
        assert half[key] == pytest.approx(whole[key], rel=1e-2)


def test_a_network_that_mixes_the_images_of_a_batch_is_one_line(evaluate):
    result = evaluate("mixed", "--attack", "pgd")
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line == (
        "robust-study: model 'users_few_classes:mixed', called with images (2, 1, 8, 8), must return for each image "
        "the logits that it has alone, got others: in eval mode no layer may mix a batch (users_few_classes.py:26)"
    )


@pytest.mark.parametrize(
    ("model", "problem", "line"),
    [
        ("gone", "cannot be built: OSError: no such width", '    raise OSError("no such width")'),
        ("leaves", "cannot be built: SystemExit: 3", "    raise SystemExit(3)"),
        ("listed", "must return a torch.nn.Module, got list", "def listed():"),
        ("breaks", "does not take images of 1x8x8: KeyError: 'width'", '        raise KeyError("width")'),
    ],
)
def test_what_a_model_does_wrong_is_named_with_its_place(evaluate, model, problem, line):
    result = evaluate(model, "--attack", "pgd")
    place = f"(users_few_classes.py:{CODE.splitlines().index(line) + 1})"
    expected = f"robust-study: --model users_few_classes:{model} {problem} {place}\n"
    assert (result.returncode, result.stdout, result.stderr) == (2, "", expected)


def test_attacks_that_need_more_classes_are_left_out_of_all_and_refused_alone(evaluate):
    pytest.importorskip("pyautoattack")
    problem = "attack apgd_t needs at least 4 classes, got 3: use multi_targeted"
    result = evaluate("own")
    assert result.returncode == 0, result.stderr
    assert f"left out: {problem}\n" in result.stderr
    assert set(json.loads(result.stdout)["robust_accuracy"]) == set(ATTACKS) - {"apgd_t"}
    result = evaluate("own", "--attack", "apgd_t")
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"robust-study: --attack: {problem}\n")


def test_small_images_leave_the_attacks_of_the_package_out(capsys):
    image = {"image_shape": (1, 4, 4), "num_classes": 10}
    assert suitable(("multi_targeted", "apgd_t", "autoattack"), **image) == ("multi_targeted",)
    assert capsys.readouterr().err.count("takes images (n, c, h, w) of 5x5 and up, got (1, 4, 4)\n") == 2
    with pytest.raises(UsageError, match="--attack: attack autoattack takes images"):
        suitable(("autoattack",), **image)
    assert suitable((), **image) == ()
