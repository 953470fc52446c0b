"""What `evaluate --checkpoint` measures: a network with its weights, and the test images, made to fit each other."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from analysis.data.proof_results import refusal, trained_on_test
from study.console import notes, quoted
from study.directory.checkpoint_folder import checkpoint_root
from study.directory.data_notes import data_notes
from study.directory.layout import open_config
from study.directory.seed_plan import PLAN_FILE
from study.errors import UsageError, short, usage_errors
from trainables.checkpoints.files import is_url
from trainables.data.roots import expanded
from trainables.registry import UnknownNameError, place_of, takes
from trainables.spec import DatasetSpec, Norm

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainables.checkpoints.fitting import Fit, Sets
    from trainables.data.base import ImageData


@dataclass(frozen=True, kw_only=True)
class CheckpointRequest:
    """What to measure.

    Attributes:
        checkpoint: A torch checkpoint: a path, or an s3:// or gs:// URL.
        model: Registered model, or `package.module:object`, which is called without arguments.
        dataset: Registered data set, folder of Parquet files, or `package.module:object`.
        data_root: Where its files lie; None for the usual places.
        norm: Of the threat model.
        epsilon: Its radius, in input units.
        attacks: Attacks run beside FGSM and PGD.
        steps: Of PGD and the multi-targeted attack.
        restarts: Theirs.
        limit: The first so many test images in file order; None for all.
        examples: Where each image's outcomes are written; None for nowhere.
        normalisation: What a bare network gets before it: `none` takes pixels in [0, 1] as they are, `data` subtracts
            the training split's mean and divides by its deviation; None is what the checkpoint brings, or else `none`.
        weights: Which set of weights, where several fit and differ; None for the only one.
    """

    checkpoint: Path | str
    model: str
    dataset: str
    data_root: Path | None
    norm: Norm
    epsilon: float
    attacks: tuple[str, ...]
    steps: int
    restarts: int
    limit: int | None
    examples: Path | None
    normalisation: Literal["none", "data"] | None
    weights: str | None


def prepare(request: CheckpointRequest, /) -> tuple[nn.Module, Tensor, Tensor]:
    """Return the network with its weights, and the test images and labels, on the device.

    Raises:
        UsageError: A study's own checkpoint; no such checkpoint, model or data set, or ones that do not fit each other.
    """
    refuse_own(request.checkpoint)
    import torch

    from trainables.checkpoints.format import CheckpointError
    from trainables.checkpoints.weight_files import read_sets
    from trainables.data import DataError, load_dataset
    from trainables.models import MODELS
    from trainables.models.inputs import memory_format, to_device, to_unit
    from trainables.models.own import OwnNetwork, logits_apart
    from trainables.runtime import computing

    root = None if request.data_root is None else str(request.data_root)
    with usage_errors(CheckpointError, DataError, UnknownNameError):
        sets, spec = read_sets(request.checkpoint)
        if trained_on_test(spec):
            raise UsageError(refusal(request.checkpoint))
        data = load_dataset(DatasetSpec(name=request.dataset, root=root))
        trained = None if spec is None else spec["model"]["name"]
        if trained not in (None, request.model):
            raise UsageError(f"{request.checkpoint} holds model {trained}, got --model {request.model}")
        model = _network(request, data, sets)
    if data.test is None:
        raise UsageError(f"data set {data.name} has no test split")
    check_radius(request.epsilon, norm=request.norm, data=data)
    for line in data_notes(data):
        notes().print(line)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    layout = memory_format(model)
    model = cast("nn.Module", model.to(device).to(memory_format=layout)).eval()  # type: ignore[call-overload]
    images = to_unit(to_device(data.test.images[: request.limit], device=device), scale=data.scale, layout=layout)
    labels = to_device(data.test.labels[: request.limit], device=device)
    _check_logits(model, images, classes=data.num_classes, name=request.model)
    if request.model not in MODELS:
        children = OrderedDict(network=model)
        model = OwnNetwork(children, name=request.model, num_classes=data.num_classes).eval()
        with computing(threads=torch.get_num_threads()):
            logits_apart(model, images[:2], name=request.model)
    return model, images, labels


def refuse_own(checkpoint: Path | str, /) -> None:
    """Refuse a trial's file among a study's checkpoints: only `evaluate STUDY_DIR` counts the use of its test data.

    Raises:
        UsageError: It is one: in a study's folder, or where a study in ./studies keeps its checkpoints.
    """
    from trainables.training.loop import BEST, LAST, PARTIAL

    place = str(checkpoint) if is_url(checkpoint) else expanded(checkpoint).resolve().as_posix()
    folder, _, name = place.rpartition("/")
    root, _, trial = folder.rpartition("/")
    if name not in (LAST, BEST, PARTIAL):
        return
    around = [] if is_url(root) else [Path(root).parent]
    for study_dir in [*around, *Path("studies").glob("*"), *Path("studies").glob("*/confirm")]:
        # a confirmation keeps its checkpoints among those of its study, and alone names trials 00007-s1
        if (study_dir / PLAN_FILE).is_file() == ("-s" in trial) and _checkpoints_of(study_dir) == root:
            shown = study_dir.relative_to(Path.cwd()) if study_dir.is_relative_to(Path.cwd()) else study_dir
            best = " --checkpoint best" if name == BEST else ""
            raise UsageError(
                f"this is trial {trial} of {shown}: "
                f"measure it with `robust-study evaluate {quoted(shown)} --trial {trial}{best}`"
            )


def _checkpoints_of(study_dir: Path) -> str | None:
    """Return where a study keeps its checkpoints; None where the folder holds no readable study."""
    try:
        return str(checkpoint_root(open_config(study_dir), study_dir)).rstrip("/")
    except UsageError:
        return None


def _network(request: CheckpointRequest, data: ImageData, sets: Sets) -> nn.Module:
    from torch import nn

    from trainables.checkpoints.fitting import fit_weights
    from trainables.models import MODELS, build_model
    from trainables.models.normalize import Normalize

    zeros, ones = [0.0] * data.image_shape[0], [1.0] * data.image_shape[0]
    mean, std = (data.mean, data.std) if request.normalisation == "data" else (zeros, ones)
    try:
        if MODELS.check(request.model) in MODELS:
            shapes = {"image_shape": data.image_shape, "num_classes": data.num_classes}
            model = build_model(request.model, dropout=0.0, mean=mean, std=std, **shapes)  # type: ignore[arg-type]
        else:
            model = MODELS.load(request.model, check=takes(0))()
            if not isinstance(model, nn.Module):
                got = f"{type(model).__name__}{place_of(request.model)}"
                raise UsageError(f"--model {request.model} must return a torch.nn.Module, got {got}")
            if request.normalisation == "data":
                model = nn.Sequential(Normalize(mean, std), model)
    except (UnknownNameError, UsageError):
        raise
    except (Exception, SystemExit) as error:  # a user's own model may raise anything
        problem = f"{_first_line(error)}{place_of(request.model, error)}"
        raise UsageError(f"--model {request.model} cannot be built: {problem}") from error
    fit = fit_weights(model, sets, source=request.checkpoint, name=request.weights)
    fit.load()
    before = None if request.normalisation is not None else fit.normalisation
    if before is not None and fit.kept and request.model not in MODELS:
        raise UsageError(
            f"{request.checkpoint} has a normalisation beside the network and --model has its own: give "
            "--normalize none for the model's alone"
        )
    _say(request, fit, before)
    return model if before is None else nn.Sequential(Normalize(*_constants(request, data, before)), model)


def _say(request: CheckpointRequest, fit: Fit, before: tuple[Tensor, Tensor] | None) -> None:
    """Tell which weights are measured, where the file leaves a choice, and what comes before the network."""
    from trainables.models import MODELS

    file = request.checkpoint
    if fit.equal or request.weights is not None:
        equal = f"; {', '.join(fit.equal)} hold{'s' * (len(fit.equal) == 1)} the same" if fit.equal else ""
        notes().print(f"{file}: weights {fit.name}{equal}")
    expects = "none: pixels in [0, 1]"
    if request.normalisation == "data":
        expects = "the training split's mean and deviation"
    elif before is not None:
        mean, std = (", ".join(f"{value:.4g}" for value in values.flatten().tolist()) for values in before)
        expects = f"the file's mean {mean} and deviation {std}"
    elif fit.kept and request.model not in MODELS:
        notes().print(f"{file} has no {', '.join(fit.kept)}: those of --model are kept")
        return
    if fit.child is not None or fit.normalisation is not None:
        notes().print(f"{file} is a bare network; normalisation before it: {expects} (--normalize)")


def _constants(
    request: CheckpointRequest, data: ImageData, found: tuple[Tensor, Tensor]
) -> tuple[list[float], list[float]]:
    """Return a file's mean and deviation, one a channel."""
    channels = data.image_shape[0]
    mean, std = ([float(value) for value in values.flatten()] for values in found)
    if not {len(mean), len(std)} <= {1, channels} or not all(0 <= value <= 1 for value in mean) or min(std) <= 0:
        raise UsageError(
            f"{request.checkpoint}: its normalisation must have a mean in [0, 1] and a deviation above 0 for each of "
            f"{channels} channels, got {mean[:3]} and {std[:3]}: name a --model that has it, or give --normalize"
        )
    return mean * (channels // len(mean)), std * (channels // len(std))


def check_radius(epsilon: float, /, *, norm: Norm, data: ImageData) -> None:
    """Check that a radius lies inside the box of a data set's images.

    Raises:
        UsageError: It does not.
    """
    largest = 1.0 if norm == "linf" else math.sqrt(math.prod(data.image_shape))
    if not 0 < epsilon <= largest:
        hint = f" (did you mean {epsilon:g}/255?)" if largest < epsilon <= 255 else ""
        raise UsageError(f"--epsilon must be in (0, {largest:g}] for {norm}, got {epsilon:g}{hint}")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines and isinstance(error, (RuntimeError, TypeError, ValueError)) else short(error)


def _check_logits(model: nn.Module, images: Tensor, *, classes: int, name: str) -> None:
    import torch

    try:
        with torch.no_grad():
            logits = model(images[:2])
    except (Exception, SystemExit) as error:  # a user's own model may raise anything
        shape, problem = "x".join(map(str, images.shape[1:])), f"{_first_line(error)}{place_of(name, error)}"
        raise UsageError(f"--model {name} does not take images of {shape}: {problem}") from error
    found, wanted = tuple(getattr(logits, "shape", ())), (len(images[:2]), classes)
    if found != wanted:
        got = f"got shape {found}{place_of(name)}"
        raise UsageError(f"--model {name} must map {wanted[0]} images to logits {wanted}, {got}")
