"""Flags: signs that a measurement reflects a weak attack or a bug rather than the network.

Sources: Carlini et al. 2019, "On Evaluating Adversarial Robustness" (arXiv 1902.06705); Athalye, Carlini & Wagner
2018, "Obfuscated Gradients Give a False Sense of Security" (arXiv 1802.00420); the checks of AutoAttack's package.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from trainables.attacks.base import BATCH_SIZE, Attack, is_correct, run_attack
from trainables.attacks.margin import margin
from trainables.attacks.threat import Ascent, ThreatModel
from trainables.evaluation.lipschitz import LocalLipschitz, local_lipschitz
from trainables.evaluation.progress import Report, stage
from trainables.models.modes import mode
from trainables.seeding import generator

Checks = Literal["cheap", "full"]

FLAGS = {
    "zero_gradient": "more than 1% of the attacked images have an exactly zero input gradient of cross-entropy (of the "
    "margin for attacks on margins)",
    "nan_logits": "some logits are NaN; those images count as misclassified",
    "scale_free_undefined": "the mean margin is 0, so scale-free Lipschitzness is undefined",
    "probabilities": "the outputs are probabilities, not logits: their gradients vanish where the network is confident",
    "nondeterministic": "two passes over the same images give different logits",
    "radius_exceeded": "the attack returned points outside ball or box; they were projected back before they counted",
    "robust_above_clean": "some images that the clean pass misclassifies count as correct under the attack",
    "noise_stronger": "random noise in the ball fools images that the attack does not, more than 0.5% of all",
    "fgsm_stronger": "a single step, as FGSM's, fools more images than the attack, by more than 0.5% of all",
    "margin_stronger": "a short ascent on the margin fools images that the attack does not, more than 2% of all",
    "large_radius_survived": "accuracy stays above chance at a radius that reaches a plain grey image",
    "steps_not_converged": "doubling the attack steps fools more than another 2% of all images",
    "lipschitz_not_converged": "doubling the steps raises the mean Lipschitz estimate by more than 5%",
    "autoattack_zero_gradient": "AutoAttack found images where the gradient of its own loss is exactly zero",
    "autoattack_square_stronger": "AutoAttack's black-box Square fools images that its gradient attacks do not",
    "autoattack_dynamic": "AutoAttack detected that the network computes gradients in its forward pass",
    "autoattack_reduced": "with fewer than 4 classes AutoAttack ran without its targeted DLR attack",
    "autoattack_warning": "AutoAttack gave a warning that this version does not recognise",
}
"""What each flag means for the measurement."""

ZERO_GRADIENT_SHARE = 0.01
STRONGER_SHARE = 0.005
STEPS_SHARE = 0.02
MARGIN_SHARE = 0.02
LIPSCHITZ_RISE = 0.05

NOISE_DRAWS = {"cheap": 2, "full": 20}
"""Random points for each image that is correct under the attack."""

MARGIN_STEPS = 5
"""Steps of the ascent that attacks on other objectives than margins, or of fewer steps, are checked with."""

MARGIN_IMAGES = {"cheap": 256, "full": 10_000}
"""Most images that it is tried on."""

MARGIN_ATTACKS = frozenset({"margin", "reachable_targets", "multi_targeted", "apgd_t", "autoattack"})
"""Attacks that climb margins themselves."""

LARGE_RADIUS = 0.5
"""In linf; in l2 times the square root of the number of pixels. The grey image is this near to any point in the box."""

LARGE_RADIUS_IMAGES = 256
"""Most images that the large radius is tried on."""

_SUM_SLACK = 1e-4
_REPEAT_SLACK = 1e-4


def look_like_probabilities(logits: Tensor, /) -> bool:
    """Return whether all outputs (n, K) are non-negative and each row sums to 1, to within 1e-4."""
    return bool((logits >= 0).all() and ((logits.sum(1) - 1).abs() <= _SUM_SLACK).all())


def differ(first: Tensor, second: Tensor, /) -> bool:
    """Return whether the logits (n, K) of two passes differ by more than 1e-4 of an example's largest.

    Entries that are not finite in both passes count as equal.
    """
    first, second = (torch.nan_to_num(logits.double()) for logits in (first, second))
    size = first.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny)
    return bool(((first - second).abs().amax(1) > _REPEAT_SLACK * size).any())


def noticeable(images: int, of: int, /, *, share: float) -> bool:
    """Return whether `images` is more than `share` of `of`, and more than one image."""
    return images > max(1.0, share * of)


def gradient_flags(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    /,
    *,
    clean: Tensor,
    robust: Tensor,
    fgsm: Tensor,
    threat: ThreatModel,
    draws: int,
    seed: int,
) -> set[str]:
    """Return the flags of anything that should be weaker than the attack but is not.

    Args:
        model: Maps (n, ...) to logits (n, K).
        images: (n, ...) in [0, 1].
        labels: (n,) int64.
        clean: Correct on the image, (n,) bool.
        robust: Correct under the attack according to its wrapper, (n,) bool.
        fgsm: Correct on the image and at FGSM's point, (n,) bool.
        threat: Ball and box.
        draws: Random points for each image that is correct under the attack.
        seed: Seed of the random points.
    """
    flags = set()
    if (robust & ~clean).any():
        flags.add("robust_above_clean")
    robust = robust & clean
    if noticeable(int(robust.sum() - fgsm.sum()), len(images), share=STRONGER_SHARE):
        flags.add("fgsm_stronger")
    fooled = _fooled_by_noise(model, images[robust], labels[robust], threat=threat, draws=draws, seed=seed)
    if noticeable(fooled, len(images), share=STRONGER_SHARE):
        flags.add("noise_stronger")
    return flags


@torch.no_grad()
def _fooled_by_noise(
    model: nn.Module, images: Tensor, labels: Tensor, *, threat: ThreatModel, draws: int, seed: int
) -> int:
    fooled = 0
    with mode(model):
        for batch, begin in enumerate(range(0, len(images), BATCH_SIZE)):
            x, y = images[begin : begin + BATCH_SIZE], labels[begin : begin + BATCH_SIZE]
            source = generator(seed, "noise", batch, device=x.device)
            correct = torch.ones_like(y, dtype=torch.bool)
            for _ in range(draws):
                correct &= is_correct(model(threat.random_start(x, generator=source)), y)
            fooled += int((~correct).sum())
    return fooled


def margin_flags(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    /,
    *,
    robust: Tensor,
    threat: ThreatModel,
    checks: Checks,
    seed: int,
) -> set[str]:
    """Return `margin_stronger` if a short margin attack fools images that the attack does not, over 2% of all.

    See `strength_flags` for the arguments; `checks` says on how many of the images it is tried.
    """
    part = slice(MARGIN_IMAGES[checks])
    x, y = images[part][robust[part]], labels[part][robust[part]]
    left, _ = run_attack(margin, model, x, y, ascent=Ascent(threat, MARGIN_STEPS, 1), seed=seed)
    fooled = noticeable(int((~left).sum()), len(robust[part]), share=MARGIN_SHARE)
    return {"margin_stronger"} if fooled else set()


def strength_flags(
    attack: Attack,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    /,
    *,
    robust: Tensor,
    ascent: Ascent,
    seed: int,
    report: Report | None = None,
) -> set[str]:
    """Return the flags of an attack that more steps or a larger ball show to be weak; takes about three times its cost.

    Args:
        attack: The attack that was run.
        model: Maps (n, ...) to logits (n, K).
        images: (n, ...) in [0, 1].
        labels: (n,) int64.
        robust: Correct on the image and under the attack, (n,) bool.
        ascent: Its ball, steps and restarts.
        seed: Its seed.
        report: Called with the progress.
    """
    flags, threat = set(), ascent.threat
    # On robust images only, so that those fooled by the first run do not count as fooled by more steps.
    x, y = images[robust], labels[robust]
    progress = stage(report, "check: twice the steps", len(x))
    twice = replace(ascent, steps=2 * ascent.steps)
    longer, _ = run_attack(attack, model, x, y, ascent=twice, seed=seed, progress=progress)
    if noticeable(int((~longer).sum()), len(images), share=STEPS_SHARE):
        flags.add("steps_not_converged")
    x, y = images[:LARGE_RADIUS_IMAGES], labels[:LARGE_RADIUS_IMAGES]
    unit = 1.0 if threat.norm == "linf" else x[0].numel() ** 0.5
    large = replace(ascent, threat=replace(threat, epsilon=max(LARGE_RADIUS * unit, threat.epsilon)))
    progress = stage(report, "check: a large radius", len(x))
    survived, _ = run_attack(attack, model, x, y, ascent=large, seed=seed, progress=progress)
    with torch.no_grad(), mode(model):
        classes = model(x[:1]).shape[1]
    if noticeable(int(survived.sum()), len(x), share=1 / classes):
        flags.add("large_radius_survived")
    return flags


def lipschitz_flags(
    estimate: LocalLipschitz,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    /,
    *,
    ascent: Ascent,
    seed: int,
    report: Report | None = None,
) -> set[str]:
    """Return `lipschitz_not_converged` if doubling the steps raises the mean of either form by more than 5%.

    Args:
        estimate: The estimate.
        model: Its model.
        images: Its images.
        labels: Their labels.
        ascent: Its ball, steps and restarts.
        seed: Its seed.
        report: Called with the progress.
    """
    progress = stage(report, "check: twice the Lipschitz steps", len(images))
    twice = replace(ascent, steps=2 * ascent.steps)
    longer = local_lipschitz(model, images, labels, ascent=twice, seed=seed, progress=progress)
    pairs = [(estimate.raw, longer.raw)]
    if estimate.scale_free is not None and longer.scale_free is not None:
        pairs.append((estimate.scale_free, longer.scale_free))
    risen = any(bool(more.mean() > (1 + LIPSCHITZ_RISE) * less.mean()) for less, more in pairs)
    return {"lipschitz_not_converged"} if risen else set()
