"""Estimates a study's time and disk space from a short measurement on this machine, and the cluster's size."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from study.cluster.gpu_memory import first_images
from study.cluster.resources import Node, largest_bundle, slots
from study.config.schema import StudyConfig
from study.console import duration, notes, results
from study.directory.checkpoint_folder import checkpoint_root
from study.directory.disk import disk_need, size_text
from study.errors import usage_errors
from study.evaluation.strong_attacks import CERTIFY_SECONDS, MEMBERS, strong_passes
from trainables.data import DataError
from trainables.data.base import ImageData
from trainables.spec import TrialSpec
from trainables.training.fit import trainer_for

# enough images that a step's fixed cost does not dominate, few enough to be measured in seconds
PROBE_BATCHES = 2
PROBE_EXAMPLES = 32
# one to warm up, one that is timed, one that ends with a measurement on validation
PROBE_EPOCHS = 3


def print_estimate(config: StudyConfig, folder: Path, /, *, data: ImageData, nodes: Sequence[Node] = ()) -> None:
    """Print what `launch` would do, and the time and disk space needed.

    A few batches of each method, and one measurement, are timed on this machine and scaled up to the study.

    Args:
        config: The study's config.
        folder: The folder it would have.
        data: Its data set.
        nodes: The cluster's nodes; none for a study on this machine.

    Raises:
        UsageError: An unlabelled pool cannot be used.
    """
    first, *others = config.search.methods
    probe = _probe(config, first, data=data, examples=PROBE_EXAMPLES)
    # what a trial's measurement takes does not depend on its method
    training = {method: _probe(config, method, data=data, examples=1).training for method in others}
    training = {first: probe.training, **training}
    seconds_per_trial = {method: seconds + probe.measurement for method, seconds in training.items()}
    strong = _strong_seconds(config, probe.model, data)
    concurrent, where = _trials_at_a_time(config, nodes)
    mean = sum(seconds_per_trial.values()) / len(seconds_per_trial)
    console = results()
    console.print(f"study {config.name} would run {config.num_trials} trials in {folder}")
    for method, seconds in seconds_per_trial.items():
        console.print(f"  {method}: about {duration(seconds)} per trial")
    console.print(f"time: about {duration(mean * config.num_trials / concurrent)} {where}")
    if config.scheduler.name != "none":
        console.print(f"early stopping: {config.scheduler.describe(config.training, config.evaluation)}")
        console.print("  the time above does not include its savings")
    if strong:
        members = min(MEMBERS, config.num_trials)
        console.print(
            f"strong attacks on the front at the end: at most {duration(strong)} a member, {members} members at most "
            "(front.strong_images: 0 turns them off)"
        )
    disk = disk_need(config, trials=config.num_trials, checkpoint=probe.size, val_size=len(data.val))
    root = checkpoint_root(config, folder)
    console.print(f"disk: about {size_text(disk.rows)} of results; checkpoints in {root}:")
    console.print(
        f"  about {size_text(disk.kept)} (storage.keep: {config.storage.keep}), {size_text(disk.every)} if all were "
        f"kept, {size_text(disk.checkpoint)} per trial"
    )
    console.print("nothing was started")


def _trials_at_a_time(config: StudyConfig, nodes: Sequence[Node]) -> tuple[int, str]:
    """Return how many trials run at a time, and where they do, in words."""
    resources = config.resources
    if not nodes:
        fitting = max(1, int((os.cpu_count() or 1) / resources.cpus))
        count = min(resources.max_concurrent or fitting, config.num_trials)
        return count, f"on this machine, {count} trials at a time"
    request = largest_bundle(resources, nodes)
    fitting = slots(request, nodes)
    count = min(fitting, resources.max_concurrent or fitting, config.num_trials)
    able = sum(slots(request, [node]) > 0 for node in nodes)
    more = " or more" if resources.gpus == "auto" and "GPU" in request else ""
    placed = f"with {count}{more} trials at a time on {able} of the cluster's {len(nodes)} nodes"
    return count, f"{placed}, if these are as fast as this machine"


def _probe(config: StudyConfig, method: str, *, data: ImageData, examples: int) -> Probe:
    """Run a trial of a method in short."""
    from trainables.methods import METHODS

    notes().print(f"measuring {method} ...")

    radius = config.evaluation.epsilon if METHODS.load(method).attacks else None
    proposal = {"method": method} | ({} if radius is None else {"train_epsilon": radius})
    for key, value in config.space().fixed.items():
        owner, _, name = key.rpartition(".")
        if owner in ("", method):
            proposal[name] = value
    return probed(config.trial_spec(proposal, number=0), data, examples=examples)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a trial would take, scaled up from a few batches.

    Attributes:
        training: Seconds of training.
        measurement: Seconds of the attack and of the Lipschitz estimate, over all its epochs.
        model: Its network.
        size: Bytes of its checkpoint.
    """

    training: float
    measurement: float
    model: nn.Module
    size: int

    @property
    def seconds(self) -> float:
        """Of the trial."""
        return self.training + self.measurement


def probed(spec: TrialSpec, data: ImageData, /, *, examples: int = PROBE_EXAMPLES) -> Probe:
    """Run a few batches of a trial, and scale up their time.

    Args:
        spec: The trial's spec.
        data: Its data set.
        examples: Images that are measured, at most; with few of them `measurement` is rough.

    Raises:
        UsageError: An unlabelled pool cannot be used.
    """
    images = min(len(data.train), PROBE_BATCHES * spec.training.batch_size)
    measured = min(examples, len(data.val))
    with usage_errors(DataError):  # only reading a pool shows that it cannot be used
        trainer = trainer_for(_shortened(spec, measured), data=first_images(data, images), only_timed=True)
    times = []
    while not trainer.done:
        start = time.perf_counter()
        trainer.run_epoch()
        times.append(time.perf_counter() - start)
    if trainer.reason is not None:
        notes().print(f"{spec.method}: the trial of the estimate ended after epoch {trainer.epoch}: {trainer.reason}")
    seconds = times[:2][-1]  # the first epoch includes torch's one-off initialisation
    row = trainer.outcome().row
    # val at every measured epoch and train once at the end; the probe measured each once
    measurements = -(-spec.training.epochs // spec.evaluation.every) + 1
    attacked = min(spec.evaluation.examples, len(data.val))
    attack = (row["seconds_attack"] or 0.0) / 2 * attacked / measured * measurements
    images_lipschitz = min(spec.evaluation.lipschitz.examples, attacked)
    lipschitz = (row["seconds_lipschitz"] or 0.0) / 2 * images_lipschitz / measured * measurements
    with tempfile.TemporaryDirectory() as folder:
        trainer.save_checkpoints(folder)
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
    return Probe(
        training=seconds * len(data.train) / images * spec.training.epochs,
        measurement=attack + lipschitz,
        model=trainer.model,
        size=size,
    )


def _strong_seconds(config: StudyConfig, model: nn.Module, data: ImageData) -> float:
    """Return the seconds of strong attacks and certificates of a network that nothing fools, by timed gradients."""
    from trainables.attacks.base import input_gradient
    from trainables.attacks.losses import cross_entropy_against
    from trainables.evaluation.trial import measured_part

    count = min(config.front.strong_images, config.evaluation.examples, len(data.val))
    if not count or not config.evaluation.epsilon:
        return 0.0
    device = next(model.parameters()).device

    def gradient(images: int) -> float:
        x, y = measured_part(data.val, images, scale=data.scale, layout=torch.contiguous_format, device=device)
        input_gradient(model, x, cross_entropy_against(y))
        start = time.perf_counter()
        input_gradient(model, x, cross_entropy_against(y))
        return time.perf_counter() - start

    passes = strong_passes(config.evaluation, images=count, classes=data.num_classes)
    return CERTIFY_SECONDS + sum(number * gradient(images) for images, number in passes.items())


def _shortened(spec: TrialSpec, measured: int) -> TrialSpec:
    lipschitz = replace(spec.evaluation.lipschitz, examples=measured)
    evaluation = replace(spec.evaluation, every=PROBE_EPOCHS, examples=measured, lipschitz=lipschitz)
    return replace(spec, training=replace(spec.training, epochs=PROBE_EPOCHS), evaluation=evaluation)
