"""A method from outside, `package.module:object`, that uses the training's progress and a helper network."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from helpers.networks.toy_problems import assert_equal, blobs, tiny_spec
from torch.nn.functional import cross_entropy

from trainables.methods.base import LossTerms, Step
from trainables.registry import OwnCodeError
from trainables.settings import setting
from trainables.training import pseudo_labels
from trainables.training.first_step import take_first_step
from trainables.training.fit import fit, trainer_for
from trainables.training.loop import LAST

SEEN: list[Step] = []


@dataclass(frozen=True)
class Taught:
    """Cross-entropy, and with a weight that rises over the training that of the helper's classes."""

    attacks: ClassVar[bool] = False
    helper: ClassVar[bool] = True
    most: float = setting(0.5, low=0.0, high=1.0, search=(0.1, 1.0), doc="largest weight of the helper's classes")

    def __call__(self, step: Step, /) -> LossTerms:
        """Return the loss in the parts `clean` and `taught`."""
        SEEN.append(step)
        with torch.no_grad():
            classes = step.helper(step.x).argmax(1)
        logits = step.model(step.x)
        parts = {"clean": cross_entropy(logits, step.y, reduction="none")}
        parts["taught"] = cross_entropy(logits, classes, reduction="none")
        return LossTerms(parts, {"taught": self.most * step.progress})


class WithoutHelper(Taught):
    helper: ClassVar[bool] = False


SPEC = tiny_spec("users_method:Taught", epochs=3, every=3, ramp=0.0)


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "users_method", sys.modules[__name__])
    SEEN.clear()


def test_progress_is_the_share_of_the_steps_taken_and_the_helper_is_natural_and_frozen():
    outcome = fit(SPEC, data=blobs(), device="cpu")
    assert outcome.status == "completed"
    assert [step.progress for step in SEEN] == pytest.approx([taken / 18 for taken in range(18)])
    assert [row["part.taught"] is not None for row in outcome.epochs] == [True] * 3
    helper = SEEN[0].helper
    assert {id(step.helper) for step in SEEN} == {id(helper)}
    assert_equal(helper, pseudo_labels.teacher(SPEC, data=blobs(), device=torch.device("cpu")))
    images, labels = torch.from_numpy(blobs().val.images) / 16, torch.from_numpy(blobs().val.labels)
    assert (helper(images).argmax(1) == labels).float().mean() > 0.9
    assert not any(module.training for module in helper.modules())
    assert not any(parameter.requires_grad for parameter in helper.parameters())


@pytest.mark.parametrize("cache", ["kept", "lost"])
def test_a_killed_trial_resumes_with_the_same_helper(cache, tmp_path):
    """Elsewhere than where it began its cache is empty, and the helper is trained again to the same bits."""
    whole, first = (trainer_for(SPEC, data=blobs(), device="cpu") for _ in range(2))
    while not whole.done:
        whole.run_epoch()
    first.run_epoch()
    first.save(tmp_path / LAST)
    if cache == "lost":
        (path,) = (tmp_path / "cache").rglob("*.pt")
        path.unlink()
    second = trainer_for(SPEC, data=blobs(), device="cpu")
    second.load(tmp_path / LAST)
    while not second.done:
        second.run_epoch()
    assert_equal(whole.model, second.model)


def test_the_dry_run_trains_no_helper(monkeypatch):
    monkeypatch.setattr(pseudo_labels, "teacher", None)
    take_first_step(SPEC, blobs())
    assert len(SEEN) == 1


def test_a_method_that_asks_for_no_helper_gets_none():
    spec = replace(SPEC, method="users_method:WithoutHelper")
    with pytest.raises(OwnCodeError, match=r"`step\.helper` needs `helper = True` on the method's class"):
        fit(spec, data=blobs(), device="cpu")
