"""What a trial's network is measured with: the split's first images, the spec's attack, and a sentinel."""

from __future__ import annotations

import dataclasses
import time

import torch
from torch import Tensor, nn

from trainables.attacks.base import Attack, run_attack
from trainables.attacks.fgsm import fgsm
from trainables.attacks.pgd import pgd
from trainables.attacks.threat import ThreatModel
from trainables.data.base import Split
from trainables.evaluation.evaluate import Measures, evaluate
from trainables.evaluation.flags import Checks
from trainables.models.inputs import to_device, to_unit
from trainables.seeding import derive
from trainables.spec import EvaluationSpec, TrialSpec

TRAINING_FLAGS = {
    "catastrophic_overfitting": "a single step leaves over a fifth of the images correct that PGD does not",
}
"""Flags that doubt the training rather than the measurement; those of the measurement are `evaluation.FLAGS`."""

OVERFITTING_GAP = 0.2
"""FGSM accuracy minus PGD accuracy beyond which adversarial training has overfitted to single steps."""


def measured_part(
    split: Split, first: int, /, *, scale: int, layout: torch.memory_format, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the first images of a split as float32 in [0, 1], and their labels, on `device`."""
    images = to_device(split.images[:first], device=device)
    return to_unit(images, scale=scale, layout=layout), to_device(split.labels[:first], device=device)


def measure(
    model: nn.Module, images: Tensor, labels: Tensor, /, *, spec: TrialSpec, split: str, checks: Checks = "cheap"
) -> Measures:
    """Measure a trial's network as its spec says.

    Args:
        model: Network from (n, c, h, w) to logits.
        images: (n, c, h, w) float32 in [0, 1].
        labels: (n,) int64.
        spec: The trial's spec.
        split: `train` or `val`; the sentinel for catastrophic overfitting watches `val`.
        checks: How thoroughly the measurement itself is doubted, see `evaluate`.
    """
    wanted = spec.evaluation
    seed = derive(spec.seed, "evaluate", split)
    found = evaluate(
        model,
        images,
        labels,
        attack=ATTACK,
        threat=ThreatModel(wanted.norm, wanted.epsilon),
        steps=wanted.steps,
        restarts=wanted.restarts,
        lipschitz_steps=wanted.lipschitz.steps,
        lipschitz_restarts=wanted.lipschitz.restarts,
        lipschitz_examples=wanted.lipschitz.examples,
        seed=seed,
        checks=checks,
    )
    if split != "val" or not spec.train_epsilon or not wanted.epsilon:
        return found
    begun = time.perf_counter()
    overfitted = catastrophic_overfitting(
        model,
        images,
        labels,
        wanted=wanted,
        train_epsilon=spec.train_epsilon,
        robust_accuracy=float(found.robust_correct.mean()),
        seed=seed,
    )
    return dataclasses.replace(
        found,
        flags=tuple(sorted((*found.flags, *(["catastrophic_overfitting"] if overfitted else [])))),
        seconds_attack=found.seconds_attack + time.perf_counter() - begun,
    )


def catastrophic_overfitting(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    /,
    *,
    wanted: EvaluationSpec,
    train_epsilon: float,
    robust_accuracy: float,
    seed: int,
) -> bool:
    """Tell whether training has learnt to defeat single steps only: FGSM accuracy far above PGD accuracy.

    Judged at the smaller of the training and the measuring radius: beyond its training radius any network is more
    accurate under FGSM than under PGD.

    Args:
        model: Network.
        images: (n, c, h, w) float32 in [0, 1].
        labels: (n,) int64.
        wanted: Norm, radius and effort of the measurement.
        train_epsilon: Radius of the training attack, positive.
        robust_accuracy: PGD accuracy of these images at `wanted.epsilon`.
        seed: Of the attacks.

    Source: Wong et al. 2020, "Fast is better than free" (arXiv 2001.03994), section 5.
    """
    threat = ThreatModel(wanted.norm, min(train_epsilon, wanted.epsilon))

    def accuracy(attack: Attack) -> float:
        standing, _ = run_attack(
            attack, model, images, labels, threat=threat, steps=wanted.steps, restarts=wanted.restarts, seed=seed
        )
        return float(standing.double().mean())

    single = accuracy(fgsm)
    # PGD at a smaller radius leaves no fewer images correct, so it is run only where that could matter.
    if single - robust_accuracy <= OVERFITTING_GAP or train_epsilon >= wanted.epsilon:
        return single - robust_accuracy > OVERFITTING_GAP
    return single - accuracy(pgd) > OVERFITTING_GAP


ATTACK = "pgd"
"""The attack every trial is measured with; stronger ones are run on chosen trials afterwards."""
