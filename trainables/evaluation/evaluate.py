"""Measure a network: clean and robust accuracy, local Lipschitzness, and flags of suspicious measurements.

Everything runs in fp32 and eval mode on the given images, independently of global state.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables.attacks.base import BATCH_SIZE, input_gradient, is_correct, load_attack, run_attack
from trainables.attacks.fgsm import full_step
from trainables.attacks.losses import cross_entropy, cross_entropy_against, margin_against
from trainables.attacks.threat import Ascent, ThreatModel
from trainables.evaluation.flags import (
    MARGIN_ATTACKS,
    MARGIN_STEPS,
    NOISE_DRAWS,
    ZERO_GRADIENT_SHARE,
    Checks,
    differ,
    gradient_flags,
    lipschitz_flags,
    look_like_probabilities,
    margin_flags,
    strength_flags,
)
from trainables.evaluation.lipschitz import LocalLipschitz, local_lipschitz
from trainables.evaluation.measures import SUMMARIES, Measures
from trainables.evaluation.progress import Report, stage
from trainables.models.modes import mode
from trainables.seeding import derive
from trainables.spec import LipschitzSpec

__all__ = ["SUMMARIES", "AttackResult", "Measures", "attack_images", "clean_measures", "evaluate"]


def clean_measures(model: nn.Module, images: Tensor, labels: Tensor, /) -> tuple[float, float]:
    """Return accuracy and mean cross-entropy (in nats; NaN if any logit is NaN) in eval mode."""
    correct, loss = [], []
    with mode(model), torch.no_grad():
        for begin in range(0, len(images), BATCH_SIZE):
            x, y = images[begin : begin + BATCH_SIZE], labels[begin : begin + BATCH_SIZE]
            logits = model(x)
            correct.append(is_correct(logits, y))
            loss.append(cross_entropy(logits, y).double())
    return float(torch.cat(correct).double().mean()), float(torch.cat(loss).mean())


@dataclass(frozen=True)
class AttackResult:
    """The result of one attack on n images.

    Attributes:
        robust: Correct on the image and at the attack's point, (n,) bool, on the device of the images.
        flags: Flags that the attack or its wrapper raised.
        seconds: Wall time.
    """

    robust: Tensor
    flags: frozenset[str]
    seconds: float


def attack_images(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    /,
    *,
    attack: str,
    ascent: Ascent,
    seed: int,
    report: Report | None = None,
) -> AttackResult:
    """Run one attack as `evaluate` does, with its arguments: with one seed all attacks draw the same random starts."""
    started = time.perf_counter()
    flags: set[str] = set()
    robust, _ = run_attack(
        load_attack(attack),
        model,
        images,
        labels,
        ascent=ascent,
        seed=derive(seed, "attack"),
        flags=flags,
        progress=stage(report, attack, len(images)),
    )
    return AttackResult(robust, frozenset(flags), time.perf_counter() - started)


def evaluate(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    /,
    *,
    ascent: Ascent,
    lipschitz: LipschitzSpec | None,
    seed: int,
    attack: str = "pgd",
    checks: Checks = "cheap",
    margin_check: bool = True,
    report: Report | None = None,
    on_lipschitz: Callable[[LocalLipschitz], None] | None = None,
) -> Measures:
    """Measure a network on the given images.

    Args:
        model: Maps (n, c, h, w) in [0, 1] to logits (n, K); its modes and buffers are unchanged afterwards.
        images: (n, c, h, w) float32 in [0, 1], n at least 1.
        labels: (n,) int64.
        ascent: Ball and box; the attack's steps and restarts. At radius 0 robust accuracy is clean accuracy, and
            Lipschitzness is not measured.
        lipschitz: Steps and restarts of the Lipschitz estimate, and the number of images, the first ones, that it is
            measured on; None for no estimate.
        seed: The result depends on it and the other arguments only.
        attack: Registered attack or `package.module:object`.
        checks: `cheap` ones cost a few per cent, `full` ones three to four times the measurement itself.
        margin_check: Whether `margin_flags` checks an attack that climbs no margins or takes fewer steps than it does.
        report: Called with the progress of each stage.
        on_lipschitz: Called with the Lipschitz estimate and its witnesses, which the measures do not include.
    """
    clean = _clean_pass(model, images, labels, threat=ascent.threat, climbs_margins=attack in MARGIN_ATTACKS)
    started = time.perf_counter()
    options: dict[str, Any] = {"seed": seed, "checks": checks, "report": report}
    robust, flags = _attack_stage(model, images, labels, clean, attack=attack, ascent=ascent, **options)
    if margin_check and (attack not in MARGIN_ATTACKS or ascent.steps < MARGIN_STEPS) and ascent.threat.epsilon > 0:
        check: dict[str, Any] = {"threat": ascent.threat, "checks": checks, "seed": derive(seed, "margin")}
        flags |= margin_flags(model, images, labels, robust=robust, **check)
    seconds_attack = time.perf_counter() - started
    started = time.perf_counter()
    estimate = None
    if lipschitz is not None and ascent.threat.epsilon > 0:
        climbs = Ascent(ascent.threat, lipschitz.steps, lipschitz.restarts)
        part = slice(lipschitz.examples)
        estimate, estimate_flags = _lipschitz_stage(model, images[part], labels[part], ascent=climbs, **options)
        flags |= estimate_flags
        if on_lipschitz is not None:
            on_lipschitz(estimate)
    scale_free = None if estimate is None else estimate.scale_free
    return Measures(
        clean_correct=clean.correct.cpu().numpy(),
        robust_correct=robust.cpu().numpy(),
        loss=clean.loss.double().cpu().numpy(),
        lipschitz=np.empty(0) if estimate is None else estimate.raw.cpu().numpy(),
        lipschitz_scale_free=None if scale_free is None else scale_free.cpu().numpy(),
        flags=tuple(sorted(clean.flags | flags)),
        seconds_attack=seconds_attack,
        seconds_lipschitz=time.perf_counter() - started,
    )


@dataclass(frozen=True)
class _Clean:
    """The clean pass: correctness, loss, correctness both clean and at FGSM's point (each (n,)), and flags."""

    correct: Tensor
    loss: Tensor
    fgsm: Tensor
    flags: set[str]


def _clean_pass(
    model: nn.Module, images: Tensor, labels: Tensor, *, threat: ThreatModel, climbs_margins: bool
) -> _Clean:
    """Measure the images themselves, and one step on the attack's kind of objective.

    Cross-entropy's gradient vanishes where logits are large, which is no doubt about an attack on margins.
    """
    objective = margin_against if climbs_margins else cross_entropy_against
    correct, loss, fgsm, zero, probable, flags = [], [], [], [], [], set()
    with mode(model):
        for begin in range(0, len(images), BATCH_SIZE):
            x, y = images[begin : begin + BATCH_SIZE], labels[begin : begin + BATCH_SIZE]
            gradient, _, logits = input_gradient(model, x, objective(y))
            with torch.no_grad():
                if begin == 0 and differ(logits, model(x)):
                    flags.add("nondeterministic")
                fgsm.append(is_correct(logits, y) & is_correct(model(full_step(x, gradient, threat=threat)), y))
            correct.append(is_correct(logits, y))
            loss.append(cross_entropy(logits, y))
            zero.append((gradient == 0).flatten(1).all(1))
            probable.append(look_like_probabilities(logits))
            if logits.isnan().any():
                flags.add("nan_logits")
    correct_clean = torch.cat(correct)
    if (torch.cat(zero) & correct_clean).sum() > ZERO_GRADIENT_SHARE * correct_clean.sum():
        flags.add("zero_gradient")
    if all(probable):
        flags.add("probabilities")
    return _Clean(correct_clean, torch.cat(loss), torch.cat(fgsm), flags)


def _attack_stage(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    clean: _Clean,
    *,
    attack: str,
    ascent: Ascent,
    seed: int,
    checks: Checks,
    report: Report | None,
) -> tuple[Tensor, set[str]]:
    """Return which images are correct both clean and under the attack, (n,) bool, and the attack's flags."""
    result = attack_images(model, images, labels, attack=attack, ascent=ascent, seed=seed, report=report)
    robust, flags = result.robust & clean.correct, set(result.flags)
    if ascent.threat.epsilon == 0:
        return robust, flags
    flags |= gradient_flags(
        model,
        images,
        labels,
        clean=clean.correct,
        robust=result.robust,
        fgsm=clean.fgsm,
        threat=ascent.threat,
        draws=NOISE_DRAWS[checks],
        seed=derive(seed, "noise"),
    )
    if checks == "full":
        options: dict[str, Any] = {"ascent": ascent, "seed": derive(seed, "strength"), "report": report}
        flags |= strength_flags(load_attack(attack), model, images, labels, robust=robust, **options)
    return robust, flags


def _lipschitz_stage(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    ascent: Ascent,
    seed: int,
    checks: Checks,
    report: Report | None,
) -> tuple[LocalLipschitz, set[str]]:
    """Return the estimate and its flags."""
    seed = derive(seed, "lipschitz")
    progress = stage(report, "Lipschitz", len(images))
    estimate = local_lipschitz(model, images, labels, ascent=ascent, seed=seed, progress=progress)
    flags = {"scale_free_undefined"} if estimate.scale_free is None else set()
    if checks == "full":
        flags |= lipschitz_flags(estimate, model, images, labels, ascent=ascent, seed=seed, report=report)
    return estimate, flags
