"""A user's own network in odd precisions, and one whose logits of an image depend on the rest of the batch."""

from __future__ import annotations

import sys

import pytest
import torch
from helpers.networks.toy_problems import blobs, tiny_spec
from torch import nn

from trainables.models import build_model
from trainables.models.own import logits_apart
from trainables.registry import OwnCodeError
from trainables.training.first_step import take_first_step
from trainables.training.fit import fit


class Net(nn.Module):
    """A linear network whose last step a subclass changes."""

    def __init__(self, *, image_shape, num_classes, dropout):
        super().__init__()
        self.linear = nn.Linear(64, num_classes)

    def forward(self, x):
        return self.last(self.linear(x.flatten(1)))


class Half(Net):
    def last(self, logits):
        return logits.half()


class Brain(Net):
    def last(self, logits):
        return logits.bfloat16()


class Double(Net):
    def last(self, logits):
        return logits.double()


class BatchNorm(Net):
    def __init__(self, **shape):
        super().__init__(**shape)
        self.norm = nn.BatchNorm1d(shape["num_classes"])

    def last(self, logits):
        return self.norm(logits)


class Noisy(Net):
    def last(self, logits):
        return logits + torch.rand_like(logits)


class Zeros(Net):
    """Its first logits are zeros, as those of many networks are."""

    def __init__(self, **shape):
        super().__init__(**shape)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def last(self, logits):
        return logits


class BatchStatistics(Net):
    def __init__(self, **shape):
        super().__init__(**shape)
        self.norm = nn.BatchNorm1d(shape["num_classes"], track_running_stats=False)

    def last(self, logits):
        return self.norm(logits) if len(logits) > 1 else logits


class Softmax(Net):
    """A softmax over the images in place of the classes."""

    def last(self, logits):
        return logits.softmax(0)


class Attention(Net):
    """Each image attends to the others, a little."""

    def last(self, logits):
        return logits + 0.1 * (logits @ logits.T).softmax(1) @ logits


class ZerosAndMean(Zeros):
    def last(self, logits):
        return logits - logits.mean(0)


class NoBatchOfOne(Net):
    def last(self, logits):
        return nn.BatchNorm1d(logits.shape[1]).to(logits.device)(logits)


class NoStatistics(Net):
    def __init__(self, **shape):
        super().__init__(**shape)
        self.norm = nn.BatchNorm1d(shape["num_classes"], track_running_stats=False)

    def last(self, logits):
        return self.norm(logits)


class NotANumber(Net):
    def last(self, logits):
        return logits.sum() * 0 / 0 + logits


def steps(model, x, y, /, *, ascent, generator):
    """The documented attack, which keeps losses in a tensor of the images' dtype."""
    from trainables.attacks.base import input_gradient
    from trainables.attacks.losses import cross_entropy_against

    worst, highest = x.clone(), torch.full_like(y, -torch.inf, dtype=x.dtype)
    gradient, loss, _ = input_gradient(model, x, cross_entropy_against(y))
    better = loss > highest
    worst[better], highest[better] = (x + ascent.threat.epsilon * gradient.sign())[better], loss[better]
    return ascent.threat.project(worst, x)


@pytest.fixture(autouse=True)
def _module(monkeypatch):
    monkeypatch.setitem(sys.modules, "users_odd_networks", sys.modules[__name__])


def spec_of(model, **changes):
    return tiny_spec("natural", name=f"users_odd_networks:{model}", attack="users_odd_networks:steps", **changes)


@pytest.mark.parametrize("model", ["Half", "Brain", "Double"])
def test_logits_of_another_precision_are_measured_in_that_of_the_images(model):
    data = blobs()
    take_first_step(spec_of(model), data)
    outcome = fit(spec_of(model, epochs=1), data=data, device="cpu")
    assert (outcome.status, outcome.reason) == ("completed", None)
    assert 0 < outcome.row["val_robust_accuracy"] <= outcome.row["val_clean_accuracy"]


def test_autocast_keeps_its_own_precision():
    network = build_model(
        "users_odd_networks:Zeros", image_shape=(1, 8, 8), num_classes=3, dropout=0.0, mean=[0.5], std=[0.5]
    )
    images = torch.rand(4, 1, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network(images).dtype == torch.bfloat16
    assert network(images).dtype == torch.float32


@pytest.mark.parametrize("model", ["BatchNorm", "Noisy", "Zeros"])
def test_batch_norm_in_eval_mode_and_noise_mix_nothing(model):
    take_first_step(spec_of(model), blobs())


@pytest.mark.parametrize("model", ["BatchStatistics", "Softmax", "Attention", "ZerosAndMean"])
def test_a_network_that_mixes_the_images_of_a_batch_is_refused(model):
    line = (
        rf"^model 'users_odd_networks:{model}', called with images \(2, 1, 8, 8\), must return for each image the "
        r"logits that it has alone, got others: in eval mode no layer may mix a batch \(.*test_own_networks.py:\d+\)$"
    )
    with pytest.raises(OwnCodeError, match=line):
        take_first_step(spec_of(model), blobs())


def test_a_network_that_takes_no_single_image_is_refused():
    with pytest.raises(OwnCodeError, match=r"called with images \(1, 1, 8, 8\), raised ValueError: Expected more than"):
        take_first_step(spec_of("NoBatchOfOne"), blobs())


@pytest.mark.parametrize("model", ["NoBatchOfOne", "NoStatistics"])
def test_the_rule_is_told_of_a_network_that_takes_no_single_image(model):
    with pytest.raises(
        OwnCodeError, match=r"; it must take an image alone, since in eval mode no layer may mix a batch,"
    ):
        take_first_step(spec_of(model), blobs())


def test_logits_that_are_not_finite_before_training_are_refused():
    with pytest.raises(OwnCodeError, match=r"before its training, must return finite logits, got NaN or infinity"):
        take_first_step(spec_of("NotANumber"), blobs())


def test_rounding_is_no_mixing():
    """Logits of large sums, computed in the order that a batch's size decides."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), *(nn.Linear(64, 64) for _ in range(8)))
    for dtype in (torch.float32, torch.bfloat16):
        images = torch.rand(2, 1, 8, 8, dtype=dtype)
        assert logits_apart(network.to(dtype), images, name="mlp").dtype == dtype
