"""A stored network is measured as its trial was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trainables.data import load_dataset
from trainables.evaluation.checkpoint import MeasurementSpec, measure_checkpoint
from trainables.spec import DatasetSpec, EvaluationSpec, LipschitzSpec, ModelSpec, TrainingSpec, TrialSpec
from trainables.training.fit import fit

EVALUATION = EvaluationSpec(
    epsilon=0.15, attack="pgd", steps=1, examples=200, every=2, lipschitz=LipschitzSpec(steps=1, examples=5)
)
TRIAL = TrialSpec(
    dataset=DatasetSpec(name="digits"),
    method="natural",
    model=ModelSpec(name="mlp"),
    training=TrainingSpec(epochs=2, batch_size=50, lr=0.05),
    evaluation=EVALUATION,
    seed=3,
)


@pytest.mark.parametrize("check", [True, False])
def test_a_trial_whose_attack_is_not_checked_by_a_margin_is_not_later_either(tmp_path, check):
    """One step of PGD leaves so much of a natural network that the check, where it is made, finds more."""
    trial = replace(TRIAL, evaluation=replace(EVALUATION, margin_check=check))
    data = load_dataset(trial.dataset)
    row = fit(trial, data=data, device="cpu", checkpoint_dir=tmp_path).row
    measurement = MeasurementSpec(
        checkpoint=str(tmp_path / "last.pt"), trial=trial, attack="pgd", norm="linf", epsilon=0.15, steps=1, restarts=1,
        examples=200, checks="cheap", lipschitz=None, split="val",
    )  # fmt: skip
    found = measure_checkpoint(measurement, data).measures
    assert found.robust_correct.mean() == row["val_robust_accuracy"]
    for flags in (row["flags"], found.flags):
        assert ("margin_stronger" in flags) == check
