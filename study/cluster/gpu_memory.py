"""The share of a GPU that a trial reserves, from its memory, measured once per method, model and batch size."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from study.config.schema import StudyConfig
from study.console import notes
from trainables.data.base import ImageData, Split
from trainables.spec import TrialSpec

CACHE_FILE = "gpu_memory.json"
CONTEXT_BYTES = 800_000_000
"""Memory that CUDA takes in every process and torch does not count."""
HEAD_ROOM = 1.25
"""Factor on the peak: torch's allocator holds more than is in use, and batches differ."""

_PROBE_BATCHES = 2
_RAY_STEPS = 10_000

_SLICE_SECONDS = 1.0
_PATIENCE_SECONDS = 60.0
"""Longest that a probe takes once a GPU is free and its worker has started."""


class MeasurementStoppedError(Exception):
    """The study was stopped before a measurement ended."""


@dataclass(frozen=True)
class MemoryMeasurement:
    """Memory that a trial took on one kind of GPU.

    Attributes:
        device: The GPU's name.
        method: Training method.
        model: Network.
        batch_size: Images a batch.
        peak: Most bytes allocated; None if the GPU did not have enough.
        total: Bytes the GPU has.
        asked: The accelerator type that the study requests, as Ray names it; None for any.
    """

    device: str
    method: str
    model: str
    batch_size: int
    peak: int | None
    total: int
    asked: str | None = None


def gpus_per_trial(
    config: StudyConfig,
    study_dir: Path,
    /,
    *,
    data: ImageData,
    num_gpus: float,
    stopping: Callable[[], bool] = lambda: False,
) -> float:
    """Return the GPUs that each trial reserves: the config's number, or for `auto` the measured share.

    Measurements are stored in the study's folder, so that a resumed study reserves the same.

    Args:
        config: The study's config.
        study_dir: Its folder.
        data: Its data set.
        num_gpus: GPUs of the connected cluster; with none, `auto` is 0 and nothing is measured.
        stopping: Returns whether the study is stopping; a measurement that waits is then cancelled and a whole GPU
            returned, with which no trial will start.
    """
    gpus = config.resources.gpus
    if gpus != "auto":
        return gpus
    if not num_gpus:
        return 0.0
    measure = partial(_on_a_gpu, config=config, stopping=stopping)
    try:
        return measured_share(config, study_dir / CACHE_FILE, data=data, measure=measure)
    except MeasurementStoppedError:
        return 1.0


def measured_share(
    config: StudyConfig,
    cache: Path,
    /,
    *,
    data: ImageData,
    measure: Callable[[TrialSpec, ImageData], Mapping[str, Any]],
) -> float:
    """Return the share of a GPU that holds a trial of any of the study's methods.

    Args:
        config: The study's config.
        cache: JSON file of earlier measurements.
        data: The data set.
        measure: Runs a short trial on a GPU; returns `device`, `peak` and `total`, see `MemoryMeasurement`.
    """
    measurements = [MemoryMeasurement(**values) for values in json.loads(cache.read_text())] if cache.exists() else []
    shares = []
    for spec in _largest_specs(config):
        key = (spec.method, spec.model.name, spec.training.batch_size)
        kind = config.resources.accelerator_type
        earlier = (m for m in measurements if (m.method, m.model, m.batch_size, m.asked) == (*key, kind))
        measurement = next(earlier, None)
        if measurement is None:
            notes().print(f"measuring the GPU memory of {spec.method} ...")
            sample = first_images(data, _PROBE_BATCHES * spec.training.batch_size)
            result = measure(_shortened(spec), sample)
            peak = result["peak"]
            if peak is not None:
                # the probe held a few images on the device; a trial holds all of them
                peak += max(0, data.train.images.nbytes - sample.train.images.nbytes)
            measurement = MemoryMeasurement(result["device"], *key, peak, result["total"], kind)
            measurements.append(measurement)
            cache.write_text(json.dumps([asdict(each) for each in measurements], indent=1) + "\n")
        shares.append(share(measurement.peak, measurement.total))
        total = f"{measurement.total / 1e9:.1f} GB"
        used = f"more than {total}" if measurement.peak is None else f"{measurement.peak / 1e9:.2f} of {total}"
        notes().print(
            f"GPU memory of {measurement.method} on {measurement.device}: {used}, so {shares[-1]:g} GPUs a trial"
        )
    return max(shares)


def share(peak: int | None, total: int, /) -> float:
    """Return the smallest share of a GPU, one over a whole number, that holds a trial with head-room.

    Args:
        peak: Most bytes that torch allocated; None for more than the GPU has.
        total: Bytes the GPU has.

    Returns:
        A share in (0, 1]; 1 also for a trial that does not fit, which then runs in halved batches or fails.
    """
    if peak is None:
        return 1.0
    fitting = max(1, math.floor(total / (peak * HEAD_ROOM + CONTEXT_BYTES)))
    # rounded down: Ray counts to four digits, and three thirds must not exceed one
    return float(_RAY_STEPS // fitting / _RAY_STEPS)


def short_trial(tree: Mapping[str, Any], data: ImageData) -> dict[str, Any]:
    """Train and measure a short trial on this process's GPU; return its `device`, `peak` and `total`.

    Args:
        tree: A `TrialSpec` as nested values.
        data: A sample of images.
    """
    import torch

    from trainables.training.fit import trainer_for
    from trainables.training.outcome import OUT_OF_MEMORY

    device = torch.device("cuda")
    trainer = trainer_for(TrialSpec.from_dict(dict(tree)), data=data, device=device, only_timed=True)
    trainer.run_epoch()
    outcome = trainer.outcome()
    halved = outcome.row["micro_batch"] is not None or outcome.reason == OUT_OF_MEMORY
    return {
        "device": torch.cuda.get_device_name(device),
        "peak": None if halved else torch.cuda.max_memory_allocated(device),
        "total": torch.cuda.get_device_properties(device).total_memory,
    }


def _on_a_gpu(
    spec: TrialSpec, data: ImageData, *, config: StudyConfig, stopping: Callable[[], bool]
) -> Mapping[str, Any]:
    """Run a short trial on a whole GPU of a node that trials of the study may use."""
    import ray

    resources = config.resources
    place: dict[str, Any] = {"resources": dict(resources.custom)}
    if resources.accelerator_type is not None:
        place["accelerator_type"] = resources.accelerator_type
    # max_calls ends the process after the trial, which frees its CUDA memory.
    task = ray.remote(num_cpus=0, num_gpus=1, max_calls=1, max_retries=0, **place)(short_trial)
    reference = task.remote(spec.to_dict(), data)
    started, noted = time.monotonic(), False
    while not ray.wait([reference], timeout=_SLICE_SECONDS)[0]:
        if stopping():
            ray.cancel(reference, force=True)
            raise MeasurementStoppedError
        if not noted and time.monotonic() - started > _PATIENCE_SECONDS:
            notes().print("waiting for a GPU: another study may be using all those that this study can use")
            noted = True
    return ray.get(reference)


def _largest_specs(config: StudyConfig) -> list[TrialSpec]:
    """Return a spec for each method, with the largest batch that the study may draw."""
    from trainables.methods import METHODS

    batches = [config.training.batch_size, *_numbers(config.search.fixed.get("batch_size"))]
    batches += _numbers(config.search.ranges.get("batch_size"))
    specs = []
    for method in config.search.methods:
        radius = config.evaluation.epsilon if METHODS.load(method).attacks else None
        proposal = {"method": method, "batch_size": max(batches)}
        proposal |= {} if radius is None else {"train_epsilon": radius}
        specs.append(config.trial_spec(proposal, number=0))
    return specs


def _numbers(value: Any) -> list[int]:
    if isinstance(value, Mapping):
        return [number for item in value.values() for number in _numbers(item)]
    if isinstance(value, list):
        return [number for item in value for number in _numbers(item)]
    return [value] if isinstance(value, int) and not isinstance(value, bool) else []


def _shortened(spec: TrialSpec) -> TrialSpec:
    lipschitz = replace(spec.evaluation.lipschitz, steps=1, restarts=1)
    evaluation = replace(spec.evaluation, every=1, steps=1, restarts=1, lipschitz=lipschitz)
    return replace(spec, training=replace(spec.training, epochs=1), evaluation=evaluation)


def first_images(data: ImageData, count: int, /) -> ImageData:
    """Return a data set with its first `count` training images alone."""
    train = data.train
    return replace(data, train=Split(train.images[:count], train.labels[:count], train.index[:count]))
