"""Train and measure one trial: the training loop, with the pool and the helper that a method asks for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from trainables.data.base import ImageData
from trainables.spec import TrialSpec
from trainables.training.loop import Makers, Trainer
from trainables.training.outcome import Outcome
from trainables.training.pseudo_labels import extra_pool, labelled_pool, teacher, untrained


def trainer_for(
    spec: TrialSpec,
    /,
    *,
    data: ImageData | None = None,
    device: torch.device | str | None = None,
    only_timed: bool = False,
) -> Trainer:
    """Return the trainer of a trial, whose method may ask for a pool or a helper.

    Args:
        spec: As in `Trainer`.
        data: Likewise.
        device: Likewise.
        only_timed: The trial's time or memory is measured, not its network: the natural model that its method asks for
            is not trained.

    Raises:
        DataError: The pool cannot be read, or does not match the data.
        RuntimeError: The natural model that labels the pool, or is the helper, diverged or collapsed; see `teacher`.
        ValueError: The spec contradicts itself or the data.
    """
    helper = untrained if only_timed else teacher
    makers: Makers = {"pool": partial(labelled_pool, made_by=helper), "extra": extra_pool, "helper": helper}
    return Trainer(spec, data=data, device=device, makers=makers)


def fit(
    spec: TrialSpec,
    /,
    *,
    data: ImageData | None = None,
    device: torch.device | str | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
    resume_from: Path | str | None = None,
    checkpoint_dir: Path | str | None = None,
) -> Outcome:
    """Train and measure one trial.

    Args:
        spec: What to run.
        data: The data set of `spec.dataset`; loaded when None.
        device: Device to compute on; None means CUDA if available.
        report: Called with each epoch's row.
        resume_from: A checkpoint of this spec to resume from.
        checkpoint_dir: Folder of `last.pt` and `best.pt`; None saves none.

    Raises:
        ValueError: The spec contradicts itself or the data.
        CheckpointError: `resume_from` is damaged or of another spec.

    Examples:
        >>> from trainables.spec import DatasetSpec, ModelSpec, TrainingSpec, TrialSpec
        >>> from trainables.training.fit import fit
        >>> digits, mlp, training = DatasetSpec(name="digits"), ModelSpec(name="mlp"), TrainingSpec(epochs=1)
        >>> outcome = fit(TrialSpec(dataset=digits, method="natural", model=mlp, training=training), device="cpu")
        >>> outcome.status, outcome.row["val_clean_accuracy"] > 0.5
        ('completed', True)
    """
    trainer = trainer_for(spec, data=data, device=device)
    if resume_from is not None:
        trainer.load(resume_from)
    while not trainer.done:
        row = trainer.run_epoch()
        if checkpoint_dir is not None:
            trainer.save_checkpoints(checkpoint_dir)
        if report is not None:
            report(row)
    return trainer.outcome()
