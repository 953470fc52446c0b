"""Small data, networks and specs with known answers, for the tests of `trainables`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainables.data.base import ImageData, Split
from trainables.models.modes import frozen
from trainables.spec import DatasetSpec, EvaluationSpec, LipschitzSpec, ModelSpec, TrainingSpec, TrialSpec
from trainables.training.loop import LAST, Trainer

IMAGE_SHAPE = (1, 8, 8)

# Columns that may differ between two runs of one spec.
NONDETERMINISTIC = {
    "started_at", "seconds", "seconds_training", "seconds_attack", "seconds_lipschitz", "examples_per_second",
    "peak_memory_mb", "device",
}  # fmt: skip


def linear(weights: Tensor, bias: Tensor | None = None) -> nn.Module:
    """Return x -> W x + b on flattened images."""
    layer = nn.Linear(weights.shape[1], weights.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weights)
        layer.bias.copy_(torch.zeros(len(weights)) if bias is None else bias)
    return nn.Sequential(nn.Flatten(), layer)


def blobs(*, train: int = 90, val: int = 40, classes: int = 3, noise: float = 0.15, seed: int = 0) -> ImageData:
    """Return 8x8 images that are easy to learn: one random picture per class, plus noise."""
    rng = np.random.RandomState(seed)
    pictures = rng.uniform(0.1, 0.9, size=(classes, *IMAGE_SHAPE))

    def split(size: int, first: int) -> Split:
        labels = np.arange(size) % classes
        pixels = np.clip(pictures[labels] + noise * rng.randn(size, *IMAGE_SHAPE), 0, 1)
        return Split(np.round(16 * pixels).astype(np.uint8), labels.astype(np.int64), np.arange(first, first + size))

    names = tuple(map(str, range(classes)))
    return ImageData("blobs", names, 16, split(train, 0), split(val, train), None, "blobs")


def tiny_spec(method: str = "natural", *, train_epsilon: float | None = None, **changes: Any) -> TrialSpec:
    """Return a spec that trains on `blobs` in a second, with batch norm and dropout.

    Args:
        method: Method name.
        train_epsilon: Radius of training attacks.
        **changes: `params`, `seed`, or fields of the training, evaluation and model specs (`name` is the model).
    """
    training = {"epochs": 2, "batch_size": 16, "lr": 0.05, "attack_steps": 3}
    evaluation = {"epsilon": 0.1, "steps": 3, "examples": 30, "every": 1}
    model = {"name": "cnn_small", "dropout": 0.3}
    trial: dict[str, Any] = {}
    specs = ((TrainingSpec, training), (EvaluationSpec, evaluation), (ModelSpec, model), (TrialSpec, trial))
    for key, value in changes.items():
        next(values for spec, values in specs if key in spec.__dataclass_fields__)[key] = value
    evaluation.setdefault("lipschitz", LipschitzSpec(steps=3, examples=8))
    return TrialSpec(
        dataset=DatasetSpec(name="blobs"), method=method, train_epsilon=train_epsilon, model=ModelSpec(**model),
        training=TrainingSpec(**training), evaluation=EvaluationSpec(**evaluation), **trial,
    )  # fmt: skip


def deterministic(row: dict[str, Any]) -> dict[str, Any]:
    """Return the columns that two runs of one spec must share."""
    return {name: value for name, value in row.items() if name not in NONDETERMINISTIC}


def trainer(spec: TrialSpec, **data: Any) -> Trainer:
    """Return a trial's trainer on `blobs`; a helper that its method asks for is linear and untrained."""
    return Trainer(spec, data=blobs(**data), device="cpu", makers={"helper": linear_helper})


def linear_helper(*, spec: TrialSpec, data: ImageData, device: torch.device) -> nn.Module:
    draws = torch.Generator().manual_seed(2)
    return frozen(linear(torch.randn(data.num_classes, math.prod(data.image_shape), generator=draws)))


def run(spec: TrialSpec, **data: Any) -> Trainer:
    """Return a trial's trainer after all epochs on `blobs`."""
    trained = trainer(spec, **data)
    while not trained.done:
        trained.run_epoch()
    return trained


def assert_equal(a: nn.Module, b: nn.Module) -> None:
    """Check that the states of two networks are equal bit for bit."""
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name]), name


class Killed(Exception):  # noqa: N818 - not an error
    """Ends training between two batches, as the end of its process does."""


def killed_and_resumed(first: Trainer, second: Trainer, batch: int, folder: Path) -> Trainer:
    """End the first trainer's next epoch before so many batches are over; return the second, trained on from there."""
    calls = []

    def between() -> None:
        calls.append(1)
        if len(calls) == batch:
            first.save(folder / LAST)
            raise Killed

    with pytest.raises(Killed):
        first.run_epoch(between=between)
    second.load(folder / LAST)
    while not second.done:
        second.run_epoch()
    return second
