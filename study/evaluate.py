"""The command `evaluate` on a checkpoint: any torch network measured on a test split, without a study."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from rich.table import Table

from study.configfile import with_numbers
from study.console import notes, results
from study.errors import UsageError
from study.progress import duration
from study.stages import Stages
from trainables.attacks import ATTACKS
from trainables.registry import UnknownNameError
from trainables.spec import DatasetSpec, LipschitzSpec, Norm

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainables.data.base import ImageData
    from trainables.evaluation import Attacked, Measures

ALL = "all"
ALWAYS = ("fgsm", "pgd")
SEED = 0

Normalisation = Literal["none", "data"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to measure.

    Attributes:
        checkpoint: A torch checkpoint.
        model: Registered model, or `package.module:object`, which is called without arguments.
        dataset: Registered data set, folder of Parquet files, or `package.module:object`.
        data_root: Where its files lie; None for the usual places.
        norm: Of the threat model.
        epsilon: Its radius, in input units.
        attacks: Attacks run beside FGSM and PGD.
        steps: Of PGD and the multi-targeted attack.
        restarts: Theirs.
        limit: The first so many test images in file order; None for all.
        normalisation: What a bare network, whose checkpoint brings none, gets before it: `none` takes pixels in
            [0, 1] as they are, `data` subtracts the training split's mean and divides by its deviation.
    """

    checkpoint: Path
    model: str
    dataset: str
    data_root: Path | None
    norm: Norm
    epsilon: float
    attacks: tuple[str, ...]
    steps: int
    restarts: int
    limit: int | None
    normalisation: Normalisation


@dataclass(frozen=True)
class Evaluation:
    """What was measured: n images, each attack's outcome on them, and the flags of all of it."""

    measures: Measures
    attacks: dict[str, Attacked]
    flags: tuple[str, ...]

    @property
    def worst(self) -> float:
        """Share of images that are correct under every attack."""
        standing = [found.robust.cpu().numpy() for found in self.attacks.values()]
        return float(np.logical_and.reduce([self.measures.robust_correct, *standing]).mean())


def evaluate_checkpoint(request: Request, /, *, as_json: bool) -> None:
    """Measure a checkpoint and print a table, or one JSON object.

    Raises:
        UsageError: No such checkpoint, model or data set, or ones that do not fit each other.
    """
    model, images, labels = _prepare(request)
    found = _measure(request, model, images, labels)
    if as_json:
        results().print_json(json.dumps(_as_dict(request, found)))
    else:
        _print(request, found)


def parse_attacks(name: str, /) -> tuple[str, ...]:
    """Return the attacks that `--attack` asks for, beside FGSM and PGD.

    Raises:
        UsageError: Unknown attack, or one whose package is missing.
    """
    from trainables.attacks.autoattack import MissingExtraError, require_package

    try:
        wanted = tuple(ATTACKS) if name == ALL else (ATTACKS.check(name),)
    except UnknownNameError as error:
        raise UsageError(f"--attack: {error}, or {ALL}") from error
    try:
        if "autoattack" in wanted:
            require_package()
    except MissingExtraError as error:
        if name != ALL:
            raise UsageError(str(error)) from error
        notes().print(f"left out: {error}")
        wanted = tuple(attack for attack in wanted if attack != "autoattack")
    return tuple(attack for attack in wanted if attack not in ALWAYS)


def parse_radius(text: str, /) -> float:
    """Return a radius written as a number or a fraction such as 8/255.

    Raises:
        UsageError: It is neither.
    """
    value = with_numbers(text)
    try:
        return float(value)
    except ValueError as error:
        raise UsageError(f"--epsilon must be a number or a fraction such as 8/255, got {text!r}") from error


def _prepare(request: Request) -> tuple[nn.Module, Tensor, Tensor]:
    """Return the network with its weights, and the test images and labels, on the device."""
    import torch

    from trainables.checkpoints import CheckpointError
    from trainables.data import DataError, load_dataset
    from trainables.inputs import memory_format, to_device, to_unit
    from trainables.weights import read_weights

    root = None if request.data_root is None else str(request.data_root)
    try:
        state, spec = read_weights(request.checkpoint)
        data = load_dataset(DatasetSpec(name=request.dataset, root=root))
        trained = None if spec is None else spec["model"]["name"]
        if trained not in (None, request.model):
            raise UsageError(f"{request.checkpoint} holds model {trained}, got --model {request.model}")
        model = _network(request, data, state)
    except (CheckpointError, DataError, UnknownNameError) as error:
        raise UsageError(str(error)) from error
    if data.test is None:
        raise UsageError(f"data set {data.name} has no test split")
    _check_radius(request, data)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    layout = memory_format(model)
    model = cast("nn.Module", model.to(device).to(memory_format=layout)).eval()  # type: ignore[call-overload]
    images = to_unit(to_device(data.test.images[: request.limit], device=device), scale=data.scale, layout=layout)
    labels = to_device(data.test.labels[: request.limit], device=device)
    _check_logits(model, images, classes=data.num_classes, name=request.model)
    return model, images, labels


def _network(request: Request, data: ImageData, state: dict[str, Tensor]) -> nn.Module:
    from torch import nn

    from trainables.models import MODELS, build_model
    from trainables.models.normalize import Normalize
    from trainables.weights import load_weights

    zeros, ones = [0.0] * data.image_shape[0], [1.0] * data.image_shape[0]
    mean, std = (data.mean, data.std) if request.normalisation == "data" else (zeros, ones)
    try:
        if MODELS.check(request.model) in MODELS:
            shapes = {"image_shape": data.image_shape, "num_classes": data.num_classes}
            model = build_model(request.model, dropout=0.0, mean=mean, std=std, **shapes)  # type: ignore[arg-type]
        else:
            model = MODELS.load(request.model)()
            if not isinstance(model, nn.Module):
                raise UsageError(f"--model {request.model} must return a torch.nn.Module, got {type(model).__name__}")
            if request.normalisation == "data":
                model = nn.Sequential(Normalize(mean, std), model)
    except (TypeError, ValueError) as error:
        if isinstance(error, UnknownNameError):
            raise
        raise UsageError(f"--model {request.model} cannot be built: {error}") from error
    child = load_weights(model, state, source=request.checkpoint)
    if child is not None:
        takes = (
            "the training split's mean and deviation" if request.normalisation == "data" else "none: pixels in [0, 1]"
        )
        notes().print(f"{request.checkpoint} is a bare network; normalisation before it: {takes} (--normalize)")
    return model


def _check_radius(request: Request, data: ImageData) -> None:
    largest = 1.0 if request.norm == "linf" else math.sqrt(math.prod(data.image_shape))
    if not 0 < request.epsilon <= largest:
        hint = f" (did you mean {request.epsilon:g}/255?)" if largest < request.epsilon <= 255 else ""
        raise UsageError(f"--epsilon must be in (0, {largest:g}] for {request.norm}, got {request.epsilon:g}{hint}")


def _check_logits(model: nn.Module, images: Tensor, *, classes: int, name: str) -> None:
    import torch

    try:
        with torch.no_grad():
            logits = model(images[:2])
    except RuntimeError as error:
        shape = "x".join(map(str, images.shape[1:]))
        raise UsageError(f"--model {name} does not take images of {shape}: {str(error).splitlines()[0]}") from error
    found, wanted = tuple(getattr(logits, "shape", ())), (len(images[:2]), classes)
    if found != wanted:
        raise UsageError(f"--model {name} must map {wanted[0]} images to logits {wanted}, got shape {found}")


def _measure(request: Request, model: nn.Module, images: Tensor, labels: Tensor) -> Evaluation:
    import torch

    from trainables.evaluation import attacked, evaluate
    from trainables.runtime import computing
    from trainables.threat import ThreatModel

    lipschitz = LipschitzSpec()
    options: dict[str, Any] = {
        "threat": ThreatModel(request.norm, request.epsilon),
        "steps": request.steps,
        "restarts": request.restarts,
        "seed": SEED,
    }
    with Stages(unit="images") as shown, computing(threads=torch.get_num_threads()):

        def report(stage: str, done: int, total: int) -> None:
            if done == 0:
                shown.begin(stage, total=total)
            else:
                shown.at(done)

        fgsm = attacked(model, images, labels, attack="fgsm", report=report, **options)
        measures = evaluate(
            model,
            images,
            labels,
            lipschitz_steps=lipschitz.steps,
            lipschitz_restarts=lipschitz.restarts,
            lipschitz_examples=lipschitz.examples,
            checks="full",
            report=report,
            **options,
        )
        others = {
            name: attacked(model, images, labels, attack=name, report=report, **options) for name in request.attacks
        }
    flags = set(measures.flags).union(*(found.flags for found in others.values()))
    return Evaluation(measures, {"fgsm": fgsm, **others}, tuple(sorted(flags)))


def _accuracies(found: Evaluation) -> dict[str, tuple[float, float]]:
    """Return each attack's robust accuracy and the seconds it took, weakest attack first."""
    values = {name: (float(one.robust.double().mean()), one.seconds) for name, one in found.attacks.items()}
    pgd = (float(found.measures.robust_correct.mean()), found.measures.seconds_attack)
    return {"fgsm": values.pop("fgsm"), "pgd": pgd, **values}


def _settings(request: Request, attack: str) -> str:
    budget = f"{request.steps} steps x {request.restarts} restarts"
    known = {
        "fgsm": "1 step from the image",
        "multi_targeted": f"{budget} towards each wrong class",
        "autoattack": f"standard set on what PGD ({budget}) leaves",
    }
    return known.get(attack, budget)


def _as_dict(request: Request, found: Evaluation) -> dict[str, Any]:
    from trainables.flags import FLAGS

    summary, lipschitz = found.measures.summary(), LipschitzSpec()
    accuracies = _accuracies(found)
    return {
        "checkpoint": str(request.checkpoint),
        "model": request.model,
        "dataset": request.dataset,
        "split": "test",
        "examples": len(found.measures.clean_correct),
        "norm": request.norm,
        "epsilon": request.epsilon,
        "seed": SEED,
        "steps": request.steps,
        "restarts": request.restarts,
        "clean_accuracy": summary["clean_accuracy"],
        "loss": summary["loss"],
        "robust_accuracy": {name: accuracy for name, (accuracy, _) in accuracies.items()},
        "robust_accuracy_worst_case": found.worst,
        "seconds": {name: seconds for name, (_, seconds) in accuracies.items()},
        "lipschitz_examples": len(found.measures.lipschitz),
        "lipschitz_steps": lipschitz.steps,
        "lipschitz_restarts": lipschitz.restarts,
        **{name: value for name, value in summary.items() if name.startswith("lipschitz")},
        "flags": {flag: FLAGS[flag] for flag in found.flags},
    }


def _print(request: Request, found: Evaluation) -> None:
    from trainables.flags import FLAGS

    console, summary, lipschitz = results(), found.measures.summary(), LipschitzSpec()
    images = len(found.measures.clean_correct)
    console.print(f"{request.checkpoint}: {request.model} on {request.dataset}, the first {images} test images")
    console.print(f"within {request.epsilon:.6g} in {request.norm}")
    table = Table("measure", "value", "how")
    table.add_row("clean accuracy", f"{summary['clean_accuracy']:.4f}", "")
    for name, (accuracy, seconds) in _accuracies(found).items():
        table.add_row(f"under {name}", f"{accuracy:.4f}", f"{_settings(request, name)} · {duration(seconds)}")
    table.add_row("under all of them", f"{found.worst:.4f}", "each image counts as its worst attack leaves it")
    budget = f"{len(found.measures.lipschitz)} images, {lipschitz.steps} steps x {lipschitz.restarts} restarts"
    for name, value in summary.items():
        if name.startswith("lipschitz"):
            shown = "undefined" if value is None else f"{value:.5g}"
            table.add_row(name.replace("_", " "), shown, f"empirical lower bound · {budget}")
    console.print(table)
    console.print("no flags" if not found.flags else "flags:")
    for flag in found.flags:
        console.print(f"  {flag}: {FLAGS[flag]}")
