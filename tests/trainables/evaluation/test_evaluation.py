"""Evaluation: measures, their summary, and the cheap flags."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.networks.toy_problems import linear
from torch import nn

from trainables.attacks.threat import Ascent, ThreatModel
from trainables.evaluation.evaluate import SUMMARIES, Measures, clean_measures, evaluate
from trainables.spec import LipschitzSpec

SHAPE = (1, 3, 4)


def measure(model, *, n=40, epsilon=0.1, labels=None) -> Measures:
    draws = torch.Generator().manual_seed(0)
    x = torch.rand(n, *SHAPE, generator=draws)
    y = torch.arange(n) % 3 if labels is None else labels(x)
    ascent = Ascent(ThreatModel("linf", epsilon), steps=5, restarts=1)
    return evaluate(model, x, y, ascent=ascent, lipschitz=LipschitzSpec(steps=4, restarts=2, examples=10), seed=0)


def healthy() -> nn.Module:
    return linear(torch.randn(3, 12, generator=torch.Generator().manual_seed(1)))


def own_labels(model):
    return lambda x: model(x).argmax(1)


class Saturated(nn.Module):
    """Correct on every image; for a share of them logits are so large that cross-entropy's gradient is exactly zero."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.net, self.share = healthy(), share

    def forward(self, x):
        logits = self.net(x)
        huge = torch.nn.functional.one_hot(logits.argmax(1), 3) * 1e4
        saturated = torch.arange(len(x)) < self.share * len(x)
        return torch.where(saturated[:, None], huge.to(logits), logits)


class NanFor(nn.Module):
    """NaN logits for the first images of a batch."""

    def forward(self, x):
        logits = x.flatten(1)[:, :3].clone()
        logits[: min(2, len(x))] = torch.nan
        return logits


def test_healthy_network_raises_no_flag_and_has_every_summary():
    model = healthy()
    measures = measure(model, labels=own_labels(model))
    assert measures.flags == ()
    assert list(measures.summary()) == list(SUMMARIES)
    assert all(value is not None for value in measures.summary().values())


@pytest.mark.parametrize(("share", "flagged"), [(1.0, True), (0.05, True), (0.0, False)])
def test_zero_gradient_flag(share, flagged):
    model = Saturated(share)
    assert ("zero_gradient" in measure(model, labels=own_labels(model)).flags) == flagged


def test_zero_gradient_flag_allows_one_percent():
    model = Saturated(1 / 200)
    assert measure(model, n=200, labels=own_labels(model)).flags == ()


def test_nan_logits_are_flagged_and_misclassified():
    model = NanFor()
    measures = measure(model, labels=lambda x: x.flatten(1)[:, :3].argmax(1))
    assert "nan_logits" in measures.flags
    assert not measures.clean_correct[:2].any()
    assert measures.clean_correct[2:].all()
    summary = measures.summary()
    assert summary["loss"] is None
    assert summary["lipschitz_mean"] is None
    assert summary["clean_accuracy"] == pytest.approx(38 / 40)


def test_constant_network_has_lipschitz_zero_and_no_scale_free_form():
    measures = measure(linear(torch.zeros(3, 12)))
    assert measures.flags == ("scale_free_undefined", "zero_gradient")
    assert measures.summary()["lipschitz_max"] == 0
    assert measures.summary()["lipschitz_scale_free_mean"] is None


def test_robust_is_clean_at_radius_zero_and_never_more_elsewhere():
    model = healthy()
    at_zero, elsewhere = measure(model, epsilon=0.0), measure(model, epsilon=0.2)
    assert np.array_equal(at_zero.robust_correct, at_zero.clean_correct)
    assert len(at_zero.lipschitz) == 0
    assert at_zero.summary()["lipschitz_mean"] is None
    assert at_zero.flags == ()
    assert not (elsewhere.robust_correct & ~elsewhere.clean_correct).any()
    assert np.array_equal(elsewhere.clean_correct, at_zero.clean_correct)


def test_summary_and_examples_agree_with_the_arrays():
    measures = measure(healthy())
    summary = measures.summary()
    assert summary["robust_accuracy"] == measures.robust_correct.mean()
    assert summary["lipschitz_p95"] == np.percentile(measures.lipschitz, 95)
    columns = measures.examples(np.arange(100, 140))
    assert {len(values) for values in columns.values()} == {40}
    assert np.array_equal(columns["lipschitz"][:10], measures.lipschitz)
    assert np.isnan(columns["lipschitz"][10:]).all()
    assert columns["index"][0] == 100


def test_measures_round_trip_through_a_checkpoint():
    measures = measure(healthy())
    restored = Measures.from_dict(measures.to_dict())
    assert all(np.array_equal(value, vars(restored)[name]) for name, value in vars(measures).items())


def test_clean_measures_agree_with_evaluate():
    model, x = healthy(), torch.rand(300, *SHAPE, generator=torch.Generator().manual_seed(0))
    y = torch.arange(300) % 3
    accuracy, loss = clean_measures(model, x, y)
    measures = measure(model, n=300)
    assert accuracy == measures.clean_correct.mean()
    assert loss == pytest.approx(measures.loss.mean(), rel=1e-12)


def test_model_and_random_state_are_unchanged():
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5), healthy()).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    measure(model)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
