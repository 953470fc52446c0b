"""`launch --dry-run`: what cannot be trained is refused, and what diverges is reported."""

from __future__ import annotations

import sys

import pytest

NOT_FINITE = """
from torch import nn


class Net(nn.Module):
    def __init__(self, **_):
        super().__init__()
        self.layer, self.steps = nn.Linear(64, 10), 0

    def forward(self, x):
        self.steps += self.training
        return self.layer(x.flatten(1)) / (self.steps < 5)
"""


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
@pytest.mark.parametrize(("setting", "got"), [("training.batch_size", "1 of 1078"), ("dataset.train_size", "64 of 1")])
def test_batches_of_one_image_are_refused_before_the_start(command, tmp_path, setting, got, words):
    code, _, err = command("launch", "quickstart", "--set", f"{setting}=1", *words)
    assert code == 2
    assert f"`training.batch_size` must leave batch norm 2 or more images, got {got} training images" in err
    assert not (tmp_path / "studies").exists()


@pytest.mark.parametrize("method", ["natural", "hat"])
def test_an_estimate_of_a_trial_that_diverges_says_so(command, tmp_path, monkeypatch, method):
    (tmp_path / "not_finite.py").write_text(NOT_FINITE)
    monkeypatch.syspath_prepend(tmp_path)
    words = ["--set", "model.name=not_finite:Net", "--set", f"search.methods=[{method}]", "--dry-run"]
    code, out, err = command("launch", "quickstart", *words)
    assert code == 0, err
    assert f"{method}: the trial of the estimate ended after epoch " in err
    assert ": diverged" in err
    assert f"{method}: about" in out
    sys.modules.pop("not_finite")


def test_an_estimate_trains_no_helper(command, tmp_path, monkeypatch):
    """Six steps of training would often leave one that predicts one class, which a trial gives up on."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ["--set", "search.methods=[hat]", "--set", "training.lr=100", "--dry-run"]
    code, out, err = command("launch", "quickstart", *words)
    assert code == 0, err
    assert "hat: about" in out
    assert not list((tmp_path / "cache").rglob("*.pt"))
