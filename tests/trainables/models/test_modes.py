"""Modes are set and restored module by module."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainables.models.modes import frozen_statistics, has_batch_statistics, mode


@pytest.fixture
def model() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5), nn.Sequential(nn.Dropout2d(0.5)))
    model.train()
    model[2].eval()
    return model


def flags(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


@pytest.mark.parametrize("bn", ["eval", "train"])
@pytest.mark.parametrize("dropout", ["eval", "train"])
def test_mode_affects_norm_and_dropout_modules_only(model, bn, dropout):
    before = flags(model)
    with mode(model, bn=bn, dropout=dropout):
        root, conv, norm, first, inner, second = model.modules()
        assert norm.training == (bn == "train")
        assert first.training == second.training == (dropout == "train")
        assert not any(module.training for module in (root, conv, inner))
    assert flags(model) == before


def test_mode_is_restored_after_an_exception(model):
    before = flags(model)
    with pytest.raises(KeyError), mode(model):
        raise KeyError
    assert flags(model) == before


def test_frozen_statistics_use_the_batch_and_are_not_updated(model):
    x = torch.randn(5, 1, 6, 6)
    norm = model[1]
    model[0](x)
    model.train()
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    hidden = model[0](x)
    with frozen_statistics(model):
        frozen = norm(hidden)
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    assert torch.equal(frozen, norm(hidden))
    assert norm.num_batches_tracked == before["num_batches_tracked"] + 1


def test_batch_statistics_are_detected(model):
    assert has_batch_statistics(model)
    assert not has_batch_statistics(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))
