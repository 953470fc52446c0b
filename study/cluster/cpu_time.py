"""What a study for GPUs would take on this machine's CPUs, estimated from the time of one gradient."""

from __future__ import annotations

import os
import time
from dataclasses import replace

from study.config.loading import presets
from study.config.schema import StudyConfig
from study.console import duration
from trainables.data.base import ImageData
from trainables.settings import settings_of
from trainables.spec import TrainingSpec, TrialSpec

IMAGES = 8
"""Enough that a pass's fixed cost does not dominate, few enough for seconds on a large network."""


def small_preset(config: StudyConfig, /) -> str:
    """Return the advice to launch the preset for CPUs that corresponds to a study, or nothing where there is none."""
    small = {f"{name}_small" for name in (config.name, config.dataset.name)} & set(presets()) - {config.name}
    return f"launch the preset {min(small)}, which is made for CPUs, " if small else ""


def common_spec(config: StudyConfig, /) -> TrialSpec:
    """Return the spec of a natural trial with what `search.fixed` gives all trials."""
    fixed = {key: value for key, value in config.space().fixed.items() if key in settings_of(TrainingSpec)}
    return config.trial_spec({"method": "natural", **fixed}, number=0)


def cpu_training(config: StudyConfig, data: ImageData, /) -> str:
    """Return what a study's training would take on this machine's CPUs, as a sentence without its full stop."""
    spec = common_spec(config)
    seconds = _training_seconds(spec, data)
    concurrent = min(config.num_trials, config.resources.max_concurrent or config.num_trials)
    concurrent = max(1, min(concurrent, int((os.cpu_count() or 1) / config.resources.cpus)))
    training, other = spec.training, ""
    if training.precision == "bf16":  # which most CPUs emulate
        fp32 = _training_seconds(replace(spec, training=replace(training, precision="fp32")), data)
        if fp32 < seconds:
            key = "search.fixed.precision" if "precision" in config.search.fixed else "training.precision"
            other = f"; in fp32, which is another training (--set {key}=fp32), about {_long(fp32)}"
    return (
        f"on its CPUs a trial would train for about {_long(seconds)} ({config.model.name} in {training.precision}, "
        f"{training.epochs} epochs, {training.attack_steps} attack steps{other}), and the {config.num_trials} trials "
        f"for about {_long(seconds * config.num_trials / concurrent)}"
    )


def _training_seconds(spec: TrialSpec, data: ImageData) -> float:
    """Return the seconds that a trial's training takes by a method that attacks."""
    import torch

    from trainables.attacks.base import input_gradient
    from trainables.attacks.losses import cross_entropy_against
    from trainables.evaluation.trial import measured_part
    from trainables.models.network import network
    from trainables.runtime import computing, mixed_precision

    training, device = spec.training, torch.device("cpu")
    model, layout = network(spec, data, device=device)
    images, labels = measured_part(data.val, IMAGES, scale=data.scale, layout=layout, device=device)
    with computing(threads=training.threads), mixed_precision(training.precision, device):
        input_gradient(model, images, cross_entropy_against(labels))  # includes torch's one-off initialisation
        start = time.perf_counter()
        input_gradient(model, images, cross_entropy_against(labels))
        seconds = (time.perf_counter() - start) / len(images)
    return seconds * (training.attack_steps + 1) * len(data.train) * training.epochs


def _long(seconds: float) -> str:
    days = seconds / 86_400
    return f"{days:,.0f} days" if days >= 2 else duration(seconds)
