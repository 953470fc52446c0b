"""Measurement of a trial's checkpoint on a split, in this process or in a worker of a cluster."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.attacks.threat import Ascent, ThreatModel
from trainables.certified.certificate import Certificate, certify
from trainables.checkpoints.format import CheckpointError, check_spec
from trainables.checkpoints.weights import load_weights, read_weights
from trainables.data.base import ImageData
from trainables.evaluation.adversarial_distances import AdversarialDistances, adversarial_distances
from trainables.evaluation.evaluate import Measures, evaluate
from trainables.evaluation.flags import Checks
from trainables.evaluation.lipschitz import LocalLipschitz
from trainables.evaluation.progress import Report
from trainables.evaluation.trial import certified, measured_part
from trainables.models.network import network
from trainables.runtime import computing, machine_columns
from trainables.seeding import derive
from trainables.settings import with_former_values
from trainables.spec import LipschitzSpec, Norm, TrialSpec

MeasuredSplit = Literal["val", "test"]


@dataclass(frozen=True, kw_only=True)
class MeasurementSpec:
    """One measurement; equal specs give equal results on the same kind of machine.

    Attributes:
        checkpoint: The trial's file, a path or an object store's URL.
        trial: The trial's spec, which the checkpoint must have; attacks derive their starts from its seed, and its
            `evaluation.margin_check` holds here too.
        attack: Registered attack or `package.module:object`.
        norm: Of the threat model.
        epsilon: Its radius.
        steps: Attack steps.
        restarts: Attack restarts.
        examples: Number of images, the first of the split in the source's order.
        checks: How thoroughly the measurement is checked; see `trainables.evaluation.evaluate.evaluate`.
        lipschitz: The Lipschitz estimate, None for none.
        split: Where the images are from.
        certify_seconds: Time after which no more of the images are certified; None certifies none.
    """

    checkpoint: str
    trial: TrialSpec
    attack: str
    norm: Norm
    epsilon: float
    steps: int
    restarts: int
    examples: int
    checks: Checks
    lipschitz: LipschitzSpec | None
    split: MeasuredSplit = "test"
    certify_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class CheckpointMeasurement:
    """The measurement of a checkpoint.

    Attributes:
        measures: Accuracies, Lipschitzness, flags.
        index: Position of each image in the source's order, (n,).
        threads: CPU threads of torch.
        seconds: Wall time, including loading the network.
        device: Device that it ran on.
        machine: Host and versions.
    """

    measures: Measures
    index: NDArray[np.int64]
    threads: int
    seconds: float
    device: str
    machine: dict[str, str]


def measure_checkpoint(
    measurement: MeasurementSpec,
    data: ImageData,
    /,
    *,
    report: Report | None = None,
    on_lipschitz: Callable[[LocalLipschitz], None] | None = None,
) -> CheckpointMeasurement:
    """Measure a trial's checkpoint on the first images of a split.

    Args:
        measurement: The checkpoint, and how to measure it.
        data: The data set of the trial's spec, with that split.
        report: Called with the progress.
        on_lipschitz: Called with the Lipschitz estimate and its witnesses, which the measures do not include.

    Raises:
        CheckpointError: The file is missing, damaged, or of another trial.
        ValueError: The data set has no such split.
    """
    started = time.perf_counter()
    spec = measurement.trial
    model, images, labels, index = _load(measurement, data)
    threat = ThreatModel(measurement.norm, measurement.epsilon)
    with computing(threads=spec.training.threads):
        measures = evaluate(
            model,
            images,
            labels,
            attack=measurement.attack,
            ascent=Ascent(threat, measurement.steps, measurement.restarts),
            lipschitz=measurement.lipschitz,
            seed=derive(spec.seed, "evaluate", measurement.split),
            checks=measurement.checks,
            margin_check=spec.evaluation.margin_check,
            report=report,
            on_lipschitz=on_lipschitz,
        )
        if measurement.certify_seconds is not None:
            limit: dict[str, Any] = {"effort": "full", "seconds": measurement.certify_seconds}
            measures = certified(measures, model, images, labels, threat=threat, **limit)
    return CheckpointMeasurement(
        measures=measures,
        index=index,
        threads=spec.training.threads,
        seconds=time.perf_counter() - started,
        device=images.device.type,
        machine=machine_columns(),
    )


def checkpoint_distances(
    measurement: MeasurementSpec, data: ImageData, /, *, cap: float, report: Report | None = None
) -> tuple[AdversarialDistances, NDArray[np.int64]]:
    """Measure how near to the first images of a split a trial's network is fooled.

    Args:
        measurement: The checkpoint, and the attack; its radius is not used.
        data: The data set of the trial's spec, with that split.
        cap: The largest radius searched.
        report: Called with the progress.

    Returns:
        The distances, and the position of each image in the source's order, (n,).

    Raises:
        CheckpointError: The file is missing, damaged, or of another trial.
        ValueError: The data set has no such split.
    """
    spec = measurement.trial
    model, images, labels, index = _load(measurement, data)
    with computing(threads=spec.training.threads):
        found = adversarial_distances(
            model,
            images,
            labels,
            attack=measurement.attack,
            ascent=Ascent(ThreatModel(measurement.norm, cap), measurement.steps, measurement.restarts),
            seed=derive(spec.seed, "evaluate", measurement.split),
            report=report,
        )
    return found, index


def certify_checkpoint(measurement: MeasurementSpec, data: ImageData, /) -> Certificate:
    """Certify a trial's checkpoint on the first images of a split; nothing is random.

    Args:
        measurement: The checkpoint, norm, radius and number of images; the other settings are not used.
        data: The data set of the trial's spec, with that split.

    Raises:
        CheckpointError: The file is missing, damaged, or of another trial.
        UnsupportedModuleError: The network has a module that cannot be bounded; the message names it.
        ValueError: The data set has no such split.
    """
    model, images, labels, _ = _load(measurement, data)
    with computing(threads=torch.get_num_threads()):
        return certify(model, images, labels, threat=ThreatModel(measurement.norm, measurement.epsilon))


def load_trial(
    path: Path | str, trial: TrialSpec, data: ImageData, /, *, device: torch.device
) -> tuple[nn.Module, torch.memory_format]:
    """Return the network of a trial's checkpoint in eval mode, and its memory format.

    Args:
        path: The file, a path or an object store's URL.
        trial: The trial's spec, which the checkpoint must have.
        data: The data set of the spec.
        device: Of the network.

    Raises:
        CheckpointError: The file is missing, damaged, or of another trial.
    """
    state, tree = read_weights(path)
    if tree is None:
        raise CheckpointError(f"{path} must be the checkpoint of a trial, got a file without a spec")
    check_spec(path, with_former_values(tree, TrialSpec), json.loads(trial.to_json()))
    model, layout = network(trial, data, device=device)
    load_weights(model, state, source=path)
    return model.eval(), layout


def _load(measurement: MeasurementSpec, data: ImageData) -> tuple[nn.Module, Tensor, Tensor, NDArray[np.int64]]:
    """Return the trial's network in eval mode, and the first images, their labels and positions."""
    part = data.val if measurement.split == "val" else data.test
    if part is None:
        raise ValueError(f"data set {data.name} has no {measurement.split} split")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, layout = load_trial(measurement.checkpoint, measurement.trial, data, device=device)
    images, labels = measured_part(part, measurement.examples, scale=data.scale, layout=layout, device=device)
    return model, images, labels, part.index[: len(labels)]
