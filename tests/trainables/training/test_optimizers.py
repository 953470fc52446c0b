"""Optimisers against torch's own, and the learning rate schedules."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainables.training.optimizers import build_optimizer, learning_rate


def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Tanh(), nn.Linear(7, 3))
    model[3].bias.requires_grad_(requires_grad=False)
    return model


def reference(model: nn.Module, name: str) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if name == "adam":
        return torch.optim.Adam(parameters, weight_decay=0.01, foreach=False)
    return torch.optim.SGD(parameters, lr=0.0, momentum=0.9, weight_decay=0.01, foreach=False)


def backward(model: nn.Module, step: int) -> None:
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(step))
    model(x).square().sum().backward()


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_weights_equal_torchs_bit_for_bit(name):
    ours, theirs = net(), net()
    optimizer, oracle = build_optimizer(ours, name=name, momentum=0.9, weight_decay=0.01), reference(theirs, name)
    for step in range(20):
        lr = 0.1 / (1 + step)
        for model, algorithm in ((ours, optimizer), (theirs, oracle)):
            algorithm.zero_grad()
            backward(model, step)
        oracle.param_groups[0]["lr"] = lr
        optimizer.step(lr)
        oracle.step()
    for value, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(value, expected)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_state_resumes_exactly(name):
    uninterrupted, first, second = net(), net(), net()
    settings = {"name": name, "momentum": 0.9, "weight_decay": 0.01}
    optimizers = [build_optimizer(model, **settings) for model in (uninterrupted, first, second)]
    for step in range(6):
        if step == 3:
            second.load_state_dict(first.state_dict())
            optimizers[2].load_state_dict(optimizers[1].state_dict())
        for model, optimizer in (
            (uninterrupted, optimizers[0]),
            ((first, second)[step >= 3], optimizers[1 + (step >= 3)]),
        ):
            optimizer.zero_grad()
            backward(model, step)
            optimizer.step(0.1)
    assert all(torch.equal(a, b) for a, b in zip(uninterrupted.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [2.0, 2.0, 2.0, 2.0, 2.0]),
        ("cosine", [2.0, 1 + 0.5**0.5, 1.0, 1 - 0.5**0.5, 0.0]),
        ("piecewise", [2.0, 2.0, 0.2, 0.02, 0.02]),
        ("milestones", [2.0, 2.0, 0.2, 0.02, 0.02]),
    ],
)
def test_learning_rate_by_quarters(schedule, expected):
    rates = [learning_rate(quarter / 4, schedule=schedule, initial=2.0, epochs=20) for quarter in range(5)]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(
    ("epochs", "milestones"),
    [(15, [10]), (60, [30, 50]), (70, [40, 60]), (120, [40, 80, 100]), (160, [40, 80, 120, 140]), (61, [40, 60])],
)
def test_milestones_match_torchs_scheduler(epochs, milestones):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=milestones, gamma=0.1)
    for epoch in range(epochs):
        rates = [
            learning_rate((epoch + at) / epochs, schedule="milestones", initial=0.5, epochs=epochs) for at in (0, 0.9)
        ]
        assert rates == pytest.approx([optimizer.param_groups[0]["lr"]] * 2)
        optimizer.step()
        scheduler.step()
