"""Small networks trained on the digits, once per test session."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from trainables.data import load_dataset
from trainables.models.inputs import to_device, to_unit
from trainables.spec import DatasetSpec, EvaluationSpec, LipschitzSpec, ModelSpec, TrainingSpec, TrialSpec
from trainables.training.loop import Trainer


@functools.cache
def trained_digits(*, robust: bool = True, model: str = "mlp") -> tuple[nn.Module, Tensor, Tensor]:
    """Return a network trained on the digits, in eval mode, and the 360 test images with their labels.

    Args:
        robust: Adversarial training at 0.1 in linf if true, or else natural training.
        model: Registered model.
    """
    dataset = DatasetSpec(name="digits")
    data = load_dataset(dataset)
    spec = TrialSpec(
        dataset=dataset,
        method="adversarial_training" if robust else "natural",
        train_epsilon=0.1 if robust else None,
        model=ModelSpec(name=model),
        training=TrainingSpec(epochs=6, batch_size=64, lr=0.05, attack_steps=5),
        evaluation=EvaluationSpec(steps=1, examples=1, every=100, lipschitz=LipschitzSpec(steps=1, examples=1)),
    )
    trainer = Trainer(spec, data=data, device="cpu")
    while not trainer.done:
        trainer.run_epoch()
    assert data.test is not None
    images = to_unit(to_device(data.test.images, device=torch.device("cpu")), scale=data.scale)
    return trainer.model.eval(), images, torch.from_numpy(data.test.labels)
