"""A user's own objects in running studies: the documented examples, and those that fail in the middle of training."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
from helpers.networks.toy_problems import blobs, tiny_spec
from helpers.studies.small_study import SmallStudy

from analysis.data.results import read_results
from search_spaces.dimensions import Dimension, from_setting
from search_spaces.space import build_space
from study.driver.callbacks import _last_line
from study.driver.result_writer import ResultWriter
from study.driver.tune_run import _write_error
from trainables.data import DataError
from trainables.registry import OwnCodeError
from trainables.settings import setting, settings_of
from trainables.spec import EvaluationSpec, ModelSpec
from trainables.training.fit import fit

EXAMPLES = Path(__file__).resolve().parents[3] / "docs" / "extending"


def test_the_documented_examples_pass_the_checks_of_a_start(tmp_path, command, monkeypatch):
    shutil.copytree(EXAMPLES, tmp_path, dirs_exist_ok=True)
    monkeypatch.syspath_prepend(tmp_path)
    code, out, err = command("launch", "study.yaml", "--dry-run")
    assert code == 0, out + err


@pytest.mark.chaos  # for its length
def test_the_documented_examples_run_as_a_study(tmp_path):
    shutil.copytree(EXAMPLES, tmp_path, dirs_exist_ok=True)
    line = [sys.executable, "-m", "study", "launch", "study.yaml", "--set", "training.epochs=2"]
    line += ["--set", "front.strong_images=0", "--set", "tracking.models=1"]
    result = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=420, check=False)
    assert result.returncode == 0, result.stderr
    rows = read_results(tmp_path / "studies" / "own").to_pylist()
    assert [row["status"] for row in rows] == ["completed"] * 2
    assert {row[key] for row in rows for key in ("method", "model", "dataset", "attack")} == {
        "own_method:SmoothedLabels", "own_model:one_hidden_layer", "own_data:halves", "own_attack:sign_steps"
    }  # fmt: skip
    assert len({row["param.lr"] for row in rows}) == 2
    assert "MLflow gets no model" not in result.stderr


# In the middle of training: the network's dropout rate decides what fails.

BROKEN = """
from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.nn.functional import cross_entropy

from trainables.methods.base import LossTerms


class Net(nn.Module):
    def __init__(self, *, image_shape, num_classes, dropout):
        super().__init__()
        self.rate, self.linear = dropout, nn.Linear(64, num_classes)

    def forward(self, x):
        if self.rate == 0.1 and len(x) > 8:
            raise RuntimeError("a bad batch")  # model
        return self.linear(x.flatten(1))


@dataclass(frozen=True)
class Method:
    attacks: ClassVar[bool] = False

    def __call__(self, step):
        if step.model.network.rate == 0.2 and len(step.x) > 8:
            raise KeyError("beta")  # method
        return LossTerms({"clean": cross_entropy(step.model(step.x), step.y, reduction="none")})


def attack(model, x, y, /, *, ascent, generator):
    if model.network.rate == 0.3 and len(x) > 8:
        raise ZeroDivisionError  # attack
    return x
"""


def line_of(text: str, marker: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if line.endswith(f"# {marker}"))


@pytest.mark.chaos
def test_a_trial_that_fails_in_the_middle_has_that_line_as_its_reason_and_the_study_goes_on(tmp_path):
    (tmp_path / "broken.py").write_text(BROKEN)
    changes = {
        "dataset": {"train_size": 128},
        "model": {"name": "broken:Net"},
        "training": {"epochs": 1},
        "evaluation": {"attack": "broken:attack"},
        "search": {
            "methods": ["broken:Method"],
            "sampler": "grid",
            "ranges": {"dropout": {"values": [0, 0.1, 0.2, 0.3]}},
        },
    }
    study = SmallStudy(tmp_path, changes)
    result = study.call("launch", "study.yaml")
    assert result.returncode == 0, result.stderr
    reasons = {row["param.dropout"]: (row["status"], row["reason"]) for row in study.rows()}
    raised = {
        0.1: "model 'broken:Net', called with images (64, 1, 8, 8), raised RuntimeError: a bad batch",
        0.2: "method 'broken:Method', called with a step of 64 images (64, 1, 8, 8), raised KeyError: 'beta'",
        0.3: "attack 'broken:attack', called with images (N, 1, 8, 8), steps=2, restarts=1, raised ZeroDivisionError",
    }
    places = {0.1: line_of(BROKEN, "model"), 0.2: line_of(BROKEN, "method"), 0.3: line_of(BROKEN, "attack")}
    assert reasons.pop(0) == ("completed", None)
    assert {
        rate: (status, re.sub(r"images \(\d+, (?=.*steps)", "images (N, ", reason))
        for rate, (status, reason) in reasons.items()
    } == {rate: ("failed", f"{raised[rate]} (broken.py:{places[rate]})") for rate in raised}
    assert "Traceback" not in result.stderr


@dataclass(frozen=True)
class Pooled:
    """A method whose unlabelled images cannot be read."""

    attacks = False
    pool: str = "users_broken_code:pool"

    def __call__(self, step):
        raise AssertionError


def pool(root):
    raise FileNotFoundError("unlabelled.npz")


@dataclass(frozen=True, kw_only=True)
class Failing(Dimension):
    """A dimension that is drawn once."""

    def draw(self, trial):
        if trial.number:
            raise OSError("quota")
        return super().draw(trial)


def space(*, methods, evaluation):
    return [Failing(**vars(from_setting(settings_of(ModelSpec)["dropout"])))]


@pytest.fixture
def broken_code(monkeypatch):
    monkeypatch.setitem(sys.modules, "users_broken_code", sys.modules[__name__])


def test_unlabelled_images_that_a_worker_cannot_read_are_the_trials_reason(broken_code):
    with pytest.raises(DataError) as raised:
        fit(tiny_spec("users_broken_code:Pooled"), data=blobs(), device="cpu")
    line = _last_line(f"Traceback\ntrainables.data.roots.DataError: {raised.value}")
    assert re.fullmatch(
        r"`pool`: data set 'users_broken_code:pool', called with the data root .*, "
        r"raised FileNotFoundError: unlabelled.npz \(.*test_own_code_running.py:\d+\)",
        line,
    )


def test_a_space_that_fails_in_a_later_draw_ends_the_run_with_its_line(broken_code, tmp_path):
    name, evaluation = "users_broken_code:space", EvaluationSpec()
    drawn = build_space(name, methods=["natural"], evaluation=evaluation, ranges={}, fixed={})
    study = optuna.create_study()
    drawn.draw(study.ask())
    with pytest.raises(OwnCodeError) as raised:
        drawn.draw(study.ask())
    assert _write_error(raised.value, tmp_path).startswith(
        "search space 'users_broken_code:space', called with a draw for method natural, raised OSError: quota ("
    )


@dataclass(frozen=True)
class Picky:
    """A method that refuses some of its settings."""

    attacks = False
    beta: float = setting(0.5, low=0.0, high=1.0, doc="a number")

    def __post_init__(self):
        if self.beta > 0.5:
            raise ValueError("beta")

    def __call__(self, step):
        raise AssertionError


def test_the_driver_writes_the_row_of_a_trial_whose_method_cannot_be_created(broken_code, tmp_path):
    spec = tiny_spec("users_broken_code:Picky", params={"beta": 0.75})
    with pytest.raises(OwnCodeError, match=r"called with beta=0.75, raised ValueError: beta \(.*test_\w+.py:\d+\)"):
        fit(spec, data=blobs(), device="cpu")
    tree = {"trial_id": "00000", "number": 0, "proposal": "random", "spec": spec.to_dict()}
    row = ResultWriter(tmp_path, study="s").record_failure(tree, reason="x", traceback="", run_id=None)
    assert (row["method"], row["param.beta"], row["status"]) == ("users_broken_code:Picky", 0.75, "failed")
