"""Measurement of a trial's network as its spec says, with a check for catastrophic overfitting."""

from __future__ import annotations

import dataclasses
import math
import time

import torch
from torch import Tensor, nn

from trainables.attacks.base import Attack, load_attack, run_attack
from trainables.attacks.fgsm import fgsm, margin_step
from trainables.attacks.threat import Ascent, ThreatModel
from trainables.certified.certificate import Effort, certified_correct
from trainables.certified.translation import UnsupportedModuleError
from trainables.data.base import Split
from trainables.evaluation.evaluate import Measures, attack_images, clean_measures, evaluate
from trainables.evaluation.flags import MARGIN_ATTACKS, Checks
from trainables.models.inputs import to_device, to_unit
from trainables.seeding import derive
from trainables.spec import EvaluationSpec, TrialSpec

TRAINING_FLAGS = {
    "catastrophic_overfitting": "accuracy under one step, as FGSM's, exceeds that under the attack by more than 0.2",
}
"""Flags of the training rather than the measurement, whose flags are `trainables.evaluation.flags.FLAGS`."""

TRAIN_CURVE = ("train_clean_accuracy", "train_robust_accuracy")
"""Columns of an epoch's row on training images."""

TRAIN_IMAGES = 100
"""Most training images measured within training, the first ones: robust overfitting shows in their mean."""

OVERFITTING_GAP = 0.2
"""Accuracy under a single step minus the attack's, above which adversarial training has overfitted to single steps."""


def measured_part(
    split: Split, first: int, /, *, scale: int, layout: torch.memory_format, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the first images of a split as float32 in [0, 1], and their labels, on `device`."""
    images = to_device(split.images[:first], device=device)
    return to_unit(images, scale=scale, layout=layout), to_device(split.labels[:first], device=device)


def certified(
    measures: Measures,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    /,
    *,
    threat: ThreatModel,
    effort: Effort,
    seconds: float = math.inf,
) -> Measures:
    """Return the measures with those images that are proved correct; none if the network cannot be bounded.

    Images that the attack fools are not tried.

    Args:
        measures: Of these images.
        model: Network from (n, c, h, w) to logits.
        images: (n, c, h, w) float32 in [0, 1].
        labels: (n,) int64.
        threat: Ball and box.
        effort: How tightly the network is bounded.
        seconds: Time after which no more images are started; those left count as not proved.
    """
    started = time.perf_counter()
    robust = torch.from_numpy(measures.robust_correct).to(images.device)
    proved = torch.zeros_like(robust)
    try:
        proved[robust] = certified_correct(
            model, images[robust], labels[robust], threat=threat, effort=effort, seconds=seconds
        )
    except UnsupportedModuleError:
        return measures
    took = time.perf_counter() - started
    return dataclasses.replace(measures, certified_correct=proved.cpu().numpy(), seconds_certify=took)


def measure(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    /,
    *,
    spec: TrialSpec,
    split: str,
    checks: Checks = "cheap",
    last: bool = True,
) -> Measures:
    """Measure a trial's network as its spec says.

    Args:
        model: Network from (n, c, h, w) to logits.
        images: (n, c, h, w) float32 in [0, 1].
        labels: (n,) int64.
        spec: The trial's spec.
        split: `train` or `val`; certificates and catastrophic overfitting are of `val` alone.
        checks: How thoroughly the measurement itself is checked, see `evaluate`.
        last: Whether all epochs have run: until then `evaluation.certify: full`, which takes a fraction of a second an
            image, bounds as `ibp` does.
    """
    evaluation = spec.evaluation
    seed = derive(spec.seed, "evaluate", split)
    threat = ThreatModel(evaluation.norm, evaluation.epsilon)
    measures = evaluate(
        model,
        images,
        labels,
        attack=evaluation.attack,
        ascent=Ascent(threat, evaluation.steps, evaluation.restarts),
        lipschitz=evaluation.lipschitz,
        seed=seed,
        checks=checks,
        margin_check=evaluation.margin_check,
    )
    if split == "val" and evaluation.certify != "none":
        effort: Effort = evaluation.certify if last else "ibp"
        measures = certified(measures, model, images, labels, threat=threat, effort=effort)
    if split != "val" or not spec.train_epsilon or not evaluation.epsilon:
        return measures
    started = time.perf_counter()
    overfitted = catastrophic_overfitting(
        model,
        images,
        labels,
        evaluation=evaluation,
        train_epsilon=spec.train_epsilon,
        robust_accuracy=float(measures.robust_correct.mean()),
        seed=seed,
    )
    return dataclasses.replace(
        measures,
        flags=tuple(sorted((*measures.flags, *(["catastrophic_overfitting"] if overfitted else [])))),
        seconds_attack=measures.seconds_attack + time.perf_counter() - started,
    )


def train_accuracies(model: nn.Module, images: Tensor, labels: Tensor, /, *, spec: TrialSpec) -> dict[str, float]:
    """Return `TRAIN_CURVE` of a network: accuracies on training images, clean and under the trial's attack.

    Args:
        model: Network from (n, c, h, w) to logits.
        images: (n, c, h, w) float32 in [0, 1].
        labels: (n,) int64.
        spec: The trial's spec.
    """
    evaluation, seed = spec.evaluation, derive(spec.seed, "evaluate", "train")
    ascent = Ascent(ThreatModel(evaluation.norm, evaluation.epsilon), evaluation.steps, evaluation.restarts)
    clean, _ = clean_measures(model, images, labels)
    attacked = attack_images(model, images, labels, attack=evaluation.attack, ascent=ascent, seed=seed)
    return dict(zip(TRAIN_CURVE, (clean, float(attacked.robust.double().mean())), strict=True))


def catastrophic_overfitting(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    /,
    *,
    evaluation: EvaluationSpec,
    train_epsilon: float,
    robust_accuracy: float,
    seed: int,
) -> bool:
    """Return whether training only protects against single steps: accuracy under one is far above the attack's.

    The step is FGSM's or, for attacks on margins, one on the margin.

    Compared at the smaller of the training and the evaluation radius: beyond its training radius any network is more
    accurate under FGSM than under an attack of many steps.

    Args:
        model: Network.
        images: (n, c, h, w) float32 in [0, 1].
        labels: (n,) int64.
        evaluation: Attack, norm, radius, steps and restarts of the measurement.
        train_epsilon: Radius of the training attack, positive.
        robust_accuracy: Accuracy under the attack on these images at `evaluation.epsilon`.
        seed: Seed of the attacks.

    Source: Wong et al. 2020, "Fast is better than free" (arXiv 2001.03994), section 5.
    """
    threat = ThreatModel(evaluation.norm, min(train_epsilon, evaluation.epsilon))
    ascent = Ascent(threat, evaluation.steps, evaluation.restarts)

    def accuracy(attack: Attack) -> float:
        robust, _ = run_attack(attack, model, images, labels, ascent=ascent, seed=seed)
        return float(robust.double().mean())

    # a step on cross-entropy is weak where logits are large, which would count as protection against single steps
    single = accuracy(margin_step if evaluation.attack in MARGIN_ATTACKS else fgsm)
    # An attack at a smaller radius leaves no fewer images correct, so it runs only if that could change the answer.
    if single - robust_accuracy <= OVERFITTING_GAP or train_epsilon >= evaluation.epsilon:
        return single - robust_accuracy > OVERFITTING_GAP
    return single - accuracy(load_attack(evaluation.attack)) > OVERFITTING_GAP
