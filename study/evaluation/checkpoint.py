"""The command `evaluate` on a checkpoint: any torch network measured on a test split, without a study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from study.config.values import parsed_number
from study.console import StageProgress, duration, notes, results
from study.errors import UsageError
from study.evaluation.attack_choice import suitable
from study.evaluation.bounds import CERTIFIED_EXAMPLES, bracket
from study.evaluation.checkpoint_input import CheckpointRequest, prepare
from trainables.spec import LipschitzSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainables.certified.certificate import Certificate
    from trainables.evaluation.evaluate import AttackResult, Measures
    from trainables.evaluation.lipschitz import LocalLipschitz
    from trainables.evaluation.progress import Report

SEED = 0


@dataclass(frozen=True)
class Evaluation:
    """What was measured: n images, each attack's outcome on them, bounds on the first, and the flags of all of it."""

    measures: Measures
    lipschitz: LocalLipschitz
    certificate: Certificate | None
    attacks: dict[str, AttackResult]
    flags: tuple[str, ...]

    @property
    def standing(self) -> NDArray[np.bool_]:
        """Images that are correct under every attack, (n,)."""
        standing = [attack.robust.cpu().numpy() for attack in self.attacks.values()]
        under_all: NDArray[np.bool_] = np.logical_and.reduce([self.measures.robust_correct, *standing])
        return under_all


def evaluate_checkpoint(request: CheckpointRequest, /, *, as_json: bool) -> None:
    """Measure a checkpoint and print a table, or one JSON object; on request, write each image's outcomes.

    Raises:
        UsageError: A study's own checkpoint; no such checkpoint, model or data set, or ones that do not fit each other.
    """
    import torch

    model, images, labels = prepare(request)
    with torch.no_grad():
        classes = model(images[:1]).shape[1]
    attacks = suitable(request.attacks, image_shape=tuple(images.shape[1:]), num_classes=classes)
    request = replace(request, attacks=attacks)
    evaluation = _measure(request, model, images, labels)
    if request.examples is not None:
        correct = {"clean": evaluation.measures.clean_correct, "pgd": evaluation.measures.robust_correct}
        correct |= {name: one.robust.cpu().numpy() for name, one in evaluation.attacks.items()}
        write_examples(request.examples, correct, evaluation.lipschitz, evaluation.certificate)
    if as_json:
        results().print_json(data=_as_dict(request, evaluation))
    else:
        _print(request, evaluation)


def parse_radius(text: str, /) -> float:
    """Return a radius written as a number or a fraction such as 8/255.

    Raises:
        UsageError: It is neither.
    """
    number = parsed_number(text)
    try:
        return float(text) if number is None else number
    except ValueError as error:
        raise UsageError(f"--epsilon must be a number or a fraction such as 8/255, got {text!r}") from error


def _measure(request: CheckpointRequest, model: nn.Module, images: Tensor, labels: Tensor) -> Evaluation:
    import torch

    from trainables.attacks.threat import Ascent, ThreatModel
    from trainables.evaluation.evaluate import attack_images, evaluate
    from trainables.runtime import computing

    estimates: list[LocalLipschitz] = []
    threat = ThreatModel(request.norm, request.epsilon)
    options: dict[str, Any] = {"ascent": Ascent(threat, request.steps, request.restarts), "seed": SEED}
    with StageProgress() as progress, computing(threads=torch.get_num_threads()):
        report = progress.report
        fgsm = attack_images(model, images, labels, attack="fgsm", report=report, **options)
        measures = evaluate(
            model,
            images,
            labels,
            lipschitz=LipschitzSpec(),
            checks="full",
            report=report,
            on_lipschitz=estimates.append,
            **options,
        )
        others = {
            name: attack_images(model, images, labels, attack=name, report=report, **options)
            for name in request.attacks
        }
        certificate = _certificate(request, model, images, labels, report=report)
    flags = set(measures.flags).union(*(attack.flags for attack in others.values()))
    return Evaluation(measures, estimates[0], certificate, {"fgsm": fgsm, **others}, tuple(sorted(flags)))


def _certificate(
    request: CheckpointRequest, model: nn.Module, images: Tensor, labels: Tensor, *, report: Report
) -> Certificate | None:
    """Return bounds for the first images, or None for a network that has layers without bounds."""
    from trainables.attacks.threat import ThreatModel
    from trainables.certified.certificate import certify
    from trainables.certified.translation import UnsupportedModuleError

    count = min(CERTIFIED_EXAMPLES, len(images))
    report("certify", 0, count)
    try:
        certificate = certify(model, images[:count], labels[:count], threat=ThreatModel(request.norm, request.epsilon))
    except UnsupportedModuleError as error:
        notes().print(f"no certified bounds: {error}")
        return None
    report("certify", count, count)
    return certificate


def _accuracies(evaluation: Evaluation) -> dict[str, tuple[float, float]]:
    """Return each attack's robust accuracy and the seconds it took, weakest attack first."""
    values = {name: (float(one.robust.double().mean()), one.seconds) for name, one in evaluation.attacks.items()}
    pgd = (float(evaluation.measures.robust_correct.mean()), evaluation.measures.seconds_attack)
    return {"fgsm": values.pop("fgsm"), "pgd": pgd, **values}


def _settings(request: CheckpointRequest, attack: str) -> str:
    from trainables.attacks.square import QUERIES

    budget = f"{request.steps} steps x {request.restarts} restarts"
    budgets = {
        "fgsm": "1 step from the image",
        "reachable_targets": f"{budget} towards each class within reach",
        "multi_targeted": f"{budget} towards each wrong class",
        "square": f"{QUERIES} queries x {request.restarts} restarts, without gradients",
        "apgd_t": f"{budget} towards each of the likeliest wrong classes",
        "autoattack": f"standard set on what PGD ({budget}) leaves",
    }
    return budgets.get(attack, budget)


def _as_dict(request: CheckpointRequest, evaluation: Evaluation) -> dict[str, Any]:
    from trainables.evaluation.flags import FLAGS

    summary, lipschitz = evaluation.measures.summary(), LipschitzSpec()
    accuracies = _accuracies(evaluation)
    return {
        "checkpoint": str(request.checkpoint),
        "model": request.model,
        "dataset": request.dataset,
        "split": "test",
        "examples": len(evaluation.measures.clean_correct),
        "norm": request.norm,
        "epsilon": request.epsilon,
        "seed": SEED,
        "steps": request.steps,
        "restarts": request.restarts,
        "clean_accuracy": summary["clean_accuracy"],
        "loss": summary["loss"],
        "robust_accuracy": {name: accuracy for name, (accuracy, _) in accuracies.items()},
        "robust_accuracy_worst_case": float(evaluation.standing.mean()),
        "seconds": {name: seconds for name, (_, seconds) in accuracies.items()},
        "lipschitz_examples": len(evaluation.measures.lipschitz),
        "lipschitz_steps": lipschitz.steps,
        "lipschitz_restarts": lipschitz.restarts,
        **{name: value for name, value in summary.items() if name.startswith("lipschitz")},
        **_certified(evaluation),
        "flags": {flag: FLAGS[flag] for flag in evaluation.flags},
    }


def _certified(evaluation: Evaluation) -> dict[str, float]:
    """Return what is proved of the first images, beside what was found on the same ones; empty where nothing is."""
    if evaluation.certificate is None:
        return {}
    return bracket(evaluation.certificate, robust=evaluation.standing, lipschitz=evaluation.measures.lipschitz)


def write_examples(
    path: Path,
    correct: Mapping[str, NDArray[np.bool_]],
    lipschitz: LocalLipschitz | None,
    certificate: Certificate | None,
    /,
) -> None:
    """Write each image's outcomes as NumPy arrays: accuracies of n images, Lipschitzness of the first m, bounds of k.

    `clean`, `fgsm`, `pgd` and each other attack's name: correct, (n,) bool. `lipschitz`, `lipschitz_scale_free` (m,)
    and the points where they were found, `witness` and `witness_scale_free`, (m, c, h, w). `certified` (k,) bool and
    `certified_lipschitz` (k,).
    """
    tensors: dict[str, Tensor | None] = {}
    if lipschitz is not None:
        tensors |= {"lipschitz": lipschitz.raw, "lipschitz_scale_free": lipschitz.scale_free}
        tensors |= {"witness": lipschitz.points, "witness_scale_free": lipschitz.points_scale_free}
    if certificate is not None:
        tensors |= {"certified": certificate.certified_correct, "certified_lipschitz": certificate.lipschitz_upper}
    arrays: dict[str, Any] = {name: tensor.cpu().numpy() for name, tensor in tensors.items() if tensor is not None}
    arrays |= correct
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)
    notes().print(f"wrote {path}")


def _print(request: CheckpointRequest, evaluation: Evaluation) -> None:
    from trainables.evaluation.flags import FLAGS

    console, summary, lipschitz = results(), evaluation.measures.summary(), LipschitzSpec()
    images = len(evaluation.measures.clean_correct)
    console.print(f"{request.checkpoint}: {request.model} on {request.dataset}, the first {images} test images")
    console.print(f"within {request.epsilon:.6g} in {request.norm}")
    table = Table("measure", "value", "how")
    table.add_row("clean accuracy", f"{summary['clean_accuracy']:.4f}", "")
    for name, (accuracy, seconds) in _accuracies(evaluation).items():
        table.add_row(f"under {name}", f"{accuracy:.4f}", f"{_settings(request, name)} · {duration(seconds)}")
    table.add_row(
        "under all of them", f"{evaluation.standing.mean():.4f}", "each image counts as its worst attack leaves it"
    )
    budget = f"{len(evaluation.measures.lipschitz)} images, {lipschitz.steps} steps x {lipschitz.restarts} restarts"
    for name, value in summary.items():
        if name.startswith("lipschitz"):
            shown = "undefined" if value is None else f"{value:.5g}"
            table.add_row(name.replace("_", " "), shown, f"empirical lower bound · {budget}")
    certified = _certified(evaluation)
    first = f"first {certified.pop('certified_examples', 0):g} images"
    for name, value in certified.items():
        how = f"found on the {first}" if name.endswith("of_these") else f"proved bound · {first}"
        table.add_row(name.replace("_", " ").replace("of these", "there"), f"{value:.5g}", how)
    console.print(table)
    console.print("no flags" if not evaluation.flags else "flags:")
    for flag in evaluation.flags:
        console.print(f"  {flag}: {FLAGS[flag]}")
