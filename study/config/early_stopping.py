"""The config of early stopping: the scheduler, its metric or objectives, and when trials are compared."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from analysis.fronts.objectives import OBJECTIVES
from trainables.methods import METHODS
from trainables.registry import nearest
from trainables.settings import settings_of
from trainables.spec import EvaluationSpec, TrainingSpec, drops

SCHEDULERS: Mapping[str, str] = {
    "none": "every trial runs all its epochs",
    "moasha": (
        "asynchronous successive halving on several objectives: at each rung one trial in `reduction_factor` "
        "continues, by non-dominated rank, then spread; for fronts"
    ),
    "asha": "Ray's asynchronous successive halving on one named metric; for one best trial, not for a front",
    "median": (
        "Ray's median rule on one named metric: stops a trial whose best value is below the median of the others' "
        "means so far"
    ),
}
"""A description of each scheduler."""

SETTINGS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "moasha": ("objectives", "grace_period", "reduction_factor"),
    "asha": ("metric", "grace_period", "reduction_factor"),
    "median": ("metric", "grace_period"),
}
"""The settings each scheduler takes."""

AXES = ("val_clean_accuracy", "val_robust_accuracy", "val_lipschitz_scale_free_log10")
"""Objectives that `moasha` compares trials on by default."""

REDUCTION_FACTOR = 3.0

GRACE_SHARE = 0.2
"""Default grace period under a schedule without drops, as a share of training."""

EQUAL = ("epochs", "schedule", "warmup", "ramp")
"""Settings that are the same for all trials that a scheduler compares."""


class SchedulerConfig(BaseModel):
    """Which trials are stopped before their last epoch; a setting that is null takes its default."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    name: Literal["none", "moasha", "asha", "median"] = "none"
    metric: str | None = None
    objectives: Annotated[list[str], Field(min_length=1)] | None = None
    grace_period: Annotated[int, Field(ge=1)] | None = None
    reduction_factor: Annotated[float, Field(ge=1.1, le=100)] | None = None

    @model_validator(mode="after")
    def _settings_belong_and_names_exist(self) -> SchedulerConfig:
        for name in ("metric", "objectives", "grace_period", "reduction_factor"):
            if getattr(self, name) is not None and name not in SETTINGS[self.name]:
                takers = " and ".join(scheduler for scheduler, settings in SETTINGS.items() if name in settings)
                raise ValueError(f"`{name}` is a setting of {takers}, got it with `name: {self.name}`: leave it out")
        # stopping on test values would be selection on test data
        valid = [name for name, objective in OBJECTIVES.items() if objective.split == "val"]
        if "metric" in SETTINGS[self.name] and self.metric is None:
            raise ValueError(f"`metric` is required by {self.name}, got none; one of: {', '.join(valid)}")
        named = {"metric": [] if self.metric is None else [self.metric], "objectives": self.objectives or []}
        for field, names in named.items():
            for name in names:
                if name not in valid:
                    raise ValueError(f"`{field}` has no {name!r}{nearest(name, valid)}; valid: {', '.join(valid)}")
            if len(set(names)) < len(names):
                raise ValueError(f"`{field}` must name each objective once, got {', '.join(names)}")
        return self

    def axes(self) -> list[str]:
        """Return the names of the objectives that trials are compared on."""
        return [self.metric] if self.metric is not None else list(self.objectives or AXES)

    def halving(self) -> float:
        """Return the reduction factor, or its default."""
        return self.reduction_factor or REDUCTION_FACTOR

    def grace(self, training: TrainingSpec, /) -> int:
        """Return the grace period in epochs, or its default.

        The default reaches one epoch past the last drop of the learning rate: robust accuracy jumps there, so values
        before the drop hardly predict those after it. Under a schedule without drops it is `GRACE_SHARE` of training.
        It is never shorter than `training.ramp` and `training.warmup`, within which trials are not yet at their own
        radius, strength and learning rate.
        """
        if self.grace_period is not None:
            return self.grace_period
        falls = drops(training.schedule, epochs=training.epochs)
        settled = math.floor(falls[-1] * training.epochs) + 1 if falls else _epochs(GRACE_SHARE, training)
        return max(settled, _epochs(max(training.ramp, training.warmup), training))

    def rungs(self, training: TrainingSpec, evaluation: EvaluationSpec, /) -> list[int]:
        """Return the epochs at which halving compares trials, ascending.

        Rung k is due after grace * reduction_factor^k epochs and is at the next measured epoch. All rungs are before
        the last epoch, since stopping there would save nothing.
        """
        grace, factor, every = self.grace(training), self.halving(), evaluation.every
        due = (math.ceil(grace * factor**rung / every) * every for rung in itertools.count())
        return sorted(set(itertools.takewhile(lambda epoch: epoch < training.epochs, due)))

    def describe(self, training: TrainingSpec, evaluation: EvaluationSpec, /) -> str:
        """Return a description: the objectives compared and the epochs."""
        if self.name == "none":
            return "none: every trial runs all its epochs"
        on, rungs = ", ".join(self.axes()), self.rungs(training, evaluation)
        if self.name == "median":
            return f"median on {on}: trials may be stopped at measured epochs from {rungs[0]} of {training.epochs} on"
        epochs = ", ".join(map(str, rungs))
        share = f"1 in {self.halving():g} continues"
        return f"{self.name} on {on}: compared after epochs {epochs} of {training.epochs}, {share}"


def check_equal(scheduler: SchedulerConfig, keys: Mapping[str, str], /) -> None:
    """Check that trials which a scheduler compares at equal epochs do not differ in `EQUAL`.

    Args:
        scheduler: The scheduler.
        keys: What trials differ in, `ramp` or `METHOD.ramp`, and its place in words: `search.ranges.ramp`.

    Raises:
        ValueError: One of them is such a setting, and not a method's own hyperparameter of that name.
    """
    if scheduler.name == "none":
        return
    for key, place in keys.items():
        owner, _, name = key.rpartition(".")
        if name in EQUAL and not (owner and name in settings_of(METHODS.load(owner))):
            raise ValueError(
                f"`{place}` and `scheduler.name: {scheduler.name}` exclude each other: trials are compared at equal "
                f"epochs of one schedule; set `training.{name}` instead"
            )


def _epochs(share: float, training: TrainingSpec) -> int:
    return math.ceil(round(share * training.epochs, 9))  # 0.07 of 100 is 7, not the 8 that rounding makes it


def check_stopping(scheduler: SchedulerConfig, training: TrainingSpec, evaluation: EvaluationSpec, /) -> None:
    """Check that a scheduler can stop something.

    Raises:
        ValueError: Its grace period leaves no measured epoch before the last.
    """
    if scheduler.name == "none" or scheduler.rungs(training, evaluation):
        return
    grace, every, epochs = scheduler.grace(training), evaluation.every, training.epochs
    measured = math.ceil(grace / every) * every
    settings = f"schedule {training.schedule}, ramp {training.ramp:g}, warmup {training.warmup:g}"
    reason = "" if scheduler.grace_period else f" (the default for {settings})"
    raise ValueError(
        f"`scheduler.grace_period` of {grace} epochs{reason} leaves {scheduler.name} nothing to stop: the first "
        f"measurement after it, with `evaluation.every` {every}, is at epoch {measured}, and training has {epochs}; "
        "try a shorter grace period, more frequent measurements, or `scheduler.name: none`"
    )
