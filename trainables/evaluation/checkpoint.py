"""Measurement of a trial's checkpoint on a split, in this process or in a worker of a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.attacks.threat import Ascent, ThreatModel
from trainables.certified.certificate import Certificate, certify
from trainables.checkpoints.format import CheckpointError
from trainables.checkpoints.weights import load_weights, read_weights
from trainables.data.base import ImageData
from trainables.evaluation.evaluate import Measures, evaluate
from trainables.evaluation.flags import Checks
from trainables.evaluation.lipschitz import LocalLipschitz
from trainables.evaluation.progress import Report
from trainables.evaluation.trial import measured_part
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
        seed: The trial's seed, which the checkpoint's spec must have; attacks derive their starts from it.
        attack: Registered attack or `package.module:object`.
        norm: Of the threat model.
        epsilon: Its radius.
        steps: Attack steps.
        restarts: Attack restarts.
        examples: Number of images, the first of the split in the source's order.
        checks: How thoroughly the measurement is checked; see `trainables.evaluation.evaluate.evaluate`.
        lipschitz: The Lipschitz estimate, None for none.
        split: Where the images are from.
    """

    checkpoint: str
    seed: int
    attack: str
    norm: Norm
    epsilon: float
    steps: int
    restarts: int
    examples: int
    checks: Checks
    lipschitz: LipschitzSpec | None
    split: MeasuredSplit = "test"


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
    spec, model, images, labels, index = _load(measurement, data)
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
            report=report,
            on_lipschitz=on_lipschitz,
        )
    return CheckpointMeasurement(
        measures=measures,
        index=index,
        threads=spec.training.threads,
        seconds=time.perf_counter() - started,
        device=images.device.type,
        machine=machine_columns(),
    )


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
    _, model, images, labels, _ = _load(measurement, data)
    with computing(threads=torch.get_num_threads()):
        return certify(model, images, labels, threat=ThreatModel(measurement.norm, measurement.epsilon))


def _load(
    measurement: MeasurementSpec, data: ImageData
) -> tuple[TrialSpec, nn.Module, Tensor, Tensor, NDArray[np.int64]]:
    """Return the trial's spec, its network in eval mode, and the first images, their labels and positions."""
    part = data.val if measurement.split == "val" else data.test
    if part is None:
        raise ValueError(f"data set {data.name} has no {measurement.split} split")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    state, tree = read_weights(measurement.checkpoint)
    if tree is None or tree.get("seed") != measurement.seed:
        actual = "a file without a trial's spec" if tree is None else f"that of seed {tree.get('seed')}"
        raise CheckpointError(
            f"{measurement.checkpoint} must be the checkpoint of seed {measurement.seed}, got {actual}"
        )
    spec = TrialSpec.from_dict(with_former_values(tree, TrialSpec))
    model, layout = network(spec, data, device=device)
    load_weights(model, state, source=measurement.checkpoint)
    images, labels = measured_part(part, measurement.examples, scale=data.scale, layout=layout, device=device)
    return spec, model.eval(), images, labels, part.index[: len(labels)]
