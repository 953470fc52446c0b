"""One training step on a small network with batch norm and dropout, for the tests of methods."""

from __future__ import annotations

import torch
from helpers.networks.toy_problems import linear
from torch import nn

from trainables.attacks.threat import ThreatModel
from trainables.methods.base import LossTerms, Method, Step
from trainables.seeding import generator, seeded


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.4), nn.Linear(144, 3)
        ).train()


def make_step(model: nn.Module, method: Method, *, norm: str = "linf", epsilon: float = 0.1, **changes) -> Step:
    draws = torch.Generator().manual_seed(7)
    values = {
        "model": model,
        "x": torch.rand(6, 1, 8, 8, generator=draws),
        "y": torch.tensor([0, 1, 2, 0, 1, 2]),
        "norm": norm,
        "threat": ThreatModel(norm, epsilon) if method.attacks else None,
        "attack_steps": 3,
        "bn": "eval",
        "dropout": "eval",
        "generator": generator(0, "craft"),
        "craft_seed": 11,
    }
    if getattr(method, "helper", False):
        values["helper"] = linear(torch.randn(3, 64, generator=torch.Generator().manual_seed(2)))
    return Step(**(values | changes))


def run(method: Method, model: nn.Module, **changes) -> LossTerms:
    with seeded(0, "dropout"):
        return method(make_step(model, method, **changes))
