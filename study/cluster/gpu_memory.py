"""How much GPU memory a trial takes, measured once a (method, model, batch size), and the share that follows."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from study.config.schema import StudyConfig
from study.console import notes
from trainables.data.base import ImageData, Split
from trainables.spec import TrialSpec

CACHE_FILE = "gpu_memory.json"
CONTEXT_BYTES = 800_000_000
"""What CUDA itself takes in every process, beside what torch counts."""
HEAD_ROOM = 1.25
"""Torch's allocator holds more than is in use, and not every batch takes the same."""

_PROBE_BATCHES = 2
_RAY_STEPS = 10_000

_SLICE_SECONDS = 1.0
_PATIENCE_SECONDS = 60.0
"""A probe takes less, once a GPU is free and its worker has started."""


class GivenUpError(Exception):
    """A measurement that was to stop before it came to an end."""


@dataclass(frozen=True)
class Measured:
    """One trial's need on one kind of GPU.

    Attributes:
        device: The GPU's name.
        method: Training method.
        model: Network.
        batch_size: Images a batch.
        peak: Bytes allocated at most; None where they did not suffice.
        total: Bytes the GPU has.
        asked: The type of accelerator the study asks for, as Ray names it; None where any will do.
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
    """Return the GPUs each trial reserves: what the config says, or for `auto` the measured share.

    What was measured lies in the study's folder, so that a resumed study asks for the same.

    Args:
        config: The study's config.
        study_dir: Its folder.
        data: Its data set.
        num_gpus: GPUs of the connected cluster; with none, `auto` is 0 and nothing is measured.
        stopping: Whether the study is to stop; a measurement that waits is then given up, and the share is a whole
            GPU, which nothing will be started with.
    """
    asked = config.resources.gpus
    if asked != "auto":
        return asked
    if not num_gpus:
        return 0.0

    def measure(spec: TrialSpec, few: ImageData) -> Mapping[str, Any]:
        return _on_a_gpu(spec, few, config=config, stopping=stopping)

    try:
        return proposed(config, study_dir / CACHE_FILE, data=data, measure=measure)
    except GivenUpError:
        return 1.0


def proposed(
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
        cache: JSON file of what was measured before.
        data: The data set.
        measure: Runs a short trial of a spec on a GPU; returns `device`, `peak` and `total` as `Measured` has them.
    """
    known = [Measured(**one) for one in json.loads(cache.read_text())] if cache.exists() else []
    shares = []
    for spec in _largest_specs(config):
        key = (spec.method, spec.model.name, spec.training.batch_size)
        kind = config.resources.accelerator_type
        found = next((one for one in known if (one.method, one.model, one.batch_size, one.asked) == (*key, kind)), None)
        if found is None:
            notes().print(f"measuring the GPU memory of {spec.method} ...")
            answer = measure(_short(spec), _few(data, _PROBE_BATCHES * spec.training.batch_size))
            peak = answer["peak"]
            if peak is not None:
                # the probe trained on a few images; a trial holds all of them on the device
                peak += max(0, data.train.images.nbytes - _few(data, _PROBE_BATCHES * key[2]).train.images.nbytes)
            found = Measured(answer["device"], *key, peak, answer["total"], kind)
            known.append(found)
            cache.write_text(json.dumps([asdict(one) for one in known], indent=1) + "\n")
        shares.append(share(found.peak, found.total))
        peak_said = "more than there is" if found.peak is None else f"{found.peak / 1e9:.2f} GB"
        notes().print(
            f"GPU memory of {found.method} on {found.device}: {peak_said} of {found.total / 1e9:.1f} GB, "
            f"so {shares[-1]:g} GPUs a trial"
        )
    return max(shares)


def share(peak: int | None, total: int, /) -> float:
    """Return the smallest share of a GPU, one over a whole number, that holds a trial with head-room.

    Args:
        peak: Bytes that torch allocated at most; None for more than there is.
        total: Bytes the GPU has.

    Returns:
        A share in (0, 1]; 1 also where a trial does not fit, which then runs in halved batches or fails.
    """
    if peak is None:
        return 1.0
    fitting = max(1, math.floor(total / (peak * HEAD_ROOM + CONTEXT_BYTES)))
    # rounded down: Ray counts to four digits, and three thirds must not exceed one
    return float(_RAY_STEPS // fitting / _RAY_STEPS)


def short_trial(tree: Mapping[str, Any], data: ImageData) -> dict[str, Any]:
    """Train and measure one short trial on this process's GPU; return its `device`, `peak` and `total`.

    Args:
        tree: A `TrialSpec` as nested values.
        data: A few images.
    """
    import torch

    from trainables.training.fit import trainer_for
    from trainables.training.outcome import OUT_OF_MEMORY

    device = torch.device("cuda")
    trainer = trainer_for(TrialSpec.from_dict(dict(tree)), data=data, device=device)
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
    """Run a short trial where the study's trials may run, on a GPU of its own.

    Raises:
        GivenUpError: The study is to stop.
    """
    import ray

    resources = config.resources
    place: dict[str, Any] = {"resources": dict(resources.custom)}
    if resources.accelerator_type is not None:
        place["accelerator_type"] = resources.accelerator_type
    # A process of its own: what CUDA holds is given back when it ends.
    task = ray.remote(num_cpus=0, num_gpus=1, max_calls=1, max_retries=0, **place)(short_trial)
    reference = task.remote(spec.to_dict(), data)
    begun, told = time.monotonic(), False
    while not ray.wait([reference], timeout=_SLICE_SECONDS)[0]:
        if stopping():
            ray.cancel(reference, force=True)
            raise GivenUpError
        if not told and time.monotonic() - begun > _PATIENCE_SECONDS:
            notes().print("waiting for a GPU: another study may hold all that trials of this one may use")
            told = True
    return ray.get(reference)


def _largest_specs(config: StudyConfig) -> list[TrialSpec]:
    """Return a spec a method, each with the largest batch the study may draw."""
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
        return [number for one in value.values() for number in _numbers(one)]
    if isinstance(value, list):
        return [number for one in value for number in _numbers(one)]
    return [value] if isinstance(value, int) and not isinstance(value, bool) else []


def _short(spec: TrialSpec) -> TrialSpec:
    lipschitz = replace(spec.evaluation.lipschitz, steps=1, restarts=1)
    evaluation = replace(spec.evaluation, every=1, steps=1, restarts=1, lipschitz=lipschitz)
    return replace(spec, training=replace(spec.training, epochs=1), evaluation=evaluation)


def _few(data: ImageData, count: int) -> ImageData:
    train = data.train
    return replace(data, train=Split(train.images[:count], train.labels[:count], train.index[:count]))
