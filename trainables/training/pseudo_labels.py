"""Pools of further images, and the natural model that a method may ask for: as a helper, or to label a pool."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import nn

from trainables.attacks.base import BATCH_SIZE
from trainables.checkpoints.format import CheckpointError, read_checkpoint, write_checkpoint
from trainables.data.base import ImageData, Integers, Pixels
from trainables.data.roots import cache_folder
from trainables.data.unlabelled import load_images, load_labelled, new_labelled, unseen
from trainables.methods.base import build_method
from trainables.models.inputs import to_device, to_unit
from trainables.models.modes import frozen, mode
from trainables.models.network import network
from trainables.runtime import computing
from trainables.settings import without_former_values
from trainables.spec import CraftMode, EvaluationSpec, LipschitzSpec, TrialSpec
from trainables.training.batches import Pool
from trainables.training.collapse import LEAST
from trainables.training.loop import Trainer
from trainables.training.outcome import OUT_OF_MEMORY

logger = logging.getLogger(__name__)

WATCHED = 500
"""Validation images on which a teacher is checked for a collapse after each epoch."""


def labelled_pool(
    name: str, /, *, spec: TrialSpec, data: ImageData, device: torch.device, made_by: Callable[..., nn.Module]
) -> Pool:
    """Return the images of a pool with the classes that the trial's teacher predicts.

    The pool is all training images of `name`, without its own labels. Images that are identical to one in the trial's
    training or validation split are excluded: a data set can be the pool of a trial on part of itself, and no
    validation image is trained on.

    Args:
        name: Registered data set, Parquet file or folder of Parquet files, or `package.module:object`.
        spec: The trial's spec.
        data: The trial's data.
        device: Device on which the teacher is trained and predicts.
        made_by: Makes the teacher: `teacher` or `untrained`.

    Raises:
        DataError: The pool cannot be read, has images of another shape, or has only images of the trial's splits.
        RuntimeError: The teacher diverged or collapsed; see `teacher`.
    """
    images, scale = _unlabelled(name, root=spec.dataset.root)
    images = images[unseen(images, name=name, scale=scale, data=data)]
    model = made_by(spec=spec, data=data, device=device)
    return Pool(images, _classify(model, images, scale=scale, threads=spec.training.threads, device=device), scale)


def extra_pool(name: str, /, *, spec: TrialSpec, data: ImageData, device: torch.device) -> Pool:
    """Return the images of `training.extra` with their own labels, for a share of each batch; see `labelled_pool`.

    Raises:
        DataError: The images cannot be read, have other classes or another shape, or are all in the trial's splits.
        ValueError: The method has a pool of its own.
    """
    if pool := getattr(build_method(spec.method, spec.params), "pool", None):
        raise ValueError(f"`training.extra` {name} and `pool` {pool} of method {spec.method!r} exclude each other")
    extra = new_labelled(_labelled(name, root=spec.dataset.root), name=name, data=data)
    return Pool(extra.images, extra.labels, extra.scale, share=spec.training.extra_share)


def teacher_spec(spec: TrialSpec, /) -> TrialSpec:
    """Return the spec of the natural model that labels a trial's pool or is its helper.

    It has the trial's data, network and training settings, but neither its seed nor its dropout nor what natural
    training does not use, so trials that only differ in those share one teacher. It is not measured.
    """
    unused: dict[str, Any] = {"ramp": 0.0, "attack_steps": 10, "awp": 0.0, "bounds_power": 1.0}
    unused |= {"craft_mode": CraftMode(), "extra": None, "extra_share": 0.5}
    return TrialSpec(
        dataset=spec.dataset,
        method="natural",
        model=replace(spec.model, dropout=0.0),
        training=replace(spec.training, **unused),
        evaluation=EvaluationSpec(epsilon=0.0, steps=1, examples=1, lipschitz=LipschitzSpec(steps=1, examples=1)),
    )


def teacher(spec: TrialSpec, *, data: ImageData, device: torch.device) -> nn.Module:
    """Return the trial's frozen teacher from the per-user cache, or train it while other processes wait for it.

    Where a trial is resumed on a machine without it, it is trained again, to the same weights on the same kind of
    machine. What is wrong with it is kept too, so that no other trial, and no other attempt, trains it to see that.

    Raises:
        RuntimeError: It diverged, or collapsed to one class while the trial gives up on such networks
            (`training.give_up_after`); without that the latter is a warning.
    """
    own = teacher_spec(spec)
    path, (model, _) = teacher_file(spec, data=data, device=device), network(own, data, device=device)
    with FileLock(f"{path}.lock"):
        kept = _kept(path, model, device=device)
        if kept is None:
            logger.info("training the natural model that methods ask for, once for all trials of its spec: %s", path)
            kept = _trained(own, data=data, device=device)
            write_checkpoint(path, kept)
    if problem := kept.get("problem"):
        told = f"the natural model that the method asks for {problem}: lower `training.lr`"
        if kept["model"] is None or own.training.give_up_after is not None:
            raise RuntimeError(told)
        logger.warning("%s", told)
    model.load_state_dict(kept["model"])
    return frozen(model)


def untrained(spec: TrialSpec, *, data: ImageData, device: torch.device) -> nn.Module:
    """Return the trial's teacher as it is initialised, for trials of which only the cost matters."""
    return frozen(network(teacher_spec(spec), data, device=device)[0])


def _kept(path: Path, model: nn.Module, /, *, device: torch.device) -> dict[str, Any] | None:
    """Return what is kept of a teacher; None if it is not there or does not fit `model`, which is logged."""
    if not path.exists():
        return None
    try:
        state = read_checkpoint(path, device=device)
        if state["model"] is not None:
            model.load_state_dict(state["model"])
    except (CheckpointError, KeyError, RuntimeError) as error:
        logger.warning("%s: retraining the natural model", error)
        return None
    return state


def _trained(spec: TrialSpec, *, data: ImageData, device: torch.device) -> dict[str, Any]:
    """Return the state of a teacher: its spec, what is wrong with it, and its weights unless it was ended early."""
    # attacked after the last epoch alone, by one step: the sentinel needs these images without it
    evaluation = replace(spec.evaluation, every=spec.training.epochs, examples=WATCHED)
    trainer = Trainer(replace(spec, evaluation=evaluation), data=data, device=device)
    while not trainer.done:
        trainer.run_epoch()
    if trainer.reason == OUT_OF_MEMORY:  # which another attempt, or another device, may not
        raise RuntimeError(f"the natural model that the method asks for: {OUT_OF_MEMORY}")
    weights = None if trainer.reason else trainer.measured.state_dict()
    return {"spec": spec.to_json(), "problem": trainer.reason or _collapsed(trainer, data), "model": weights}


def teacher_file(spec: TrialSpec, /, *, data: ImageData, device: torch.device) -> Path:
    """Return the cache file of the teacher, named by a hash of everything that its weights depend on."""
    tree = without_former_values(teacher_spec(spec).to_dict(), TrialSpec)  # a setting added later keeps the name
    tree["dataset"]["root"] = None
    inputs = [tree, data.name, data.split_hash, len(data.train), device.type, torch.__version__]
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:24]
    return cache_folder("teachers") / f"{digest}.pt"


def _collapsed(trainer: Trainer, data: ImageData) -> str | None:
    """Return what is wrong with a network that gives one class to validation images of several, else None."""
    if len(data.val) < LEAST or not np.ptp(data.val.labels):
        return None
    threads = trainer.spec.training.threads
    classes = _classify(trainer.measured, data.val.images, scale=data.scale, threads=threads, device=trainer.device)
    return None if np.ptp(classes) else f"predicts one class for all {len(classes)} validation images"


# shared by the trials that one worker runs
_unlabelled = lru_cache(maxsize=1)(load_images)
_labelled = lru_cache(maxsize=1)(load_labelled)


def _classify(model: nn.Module, images: Pixels, *, scale: int, threads: int, device: torch.device) -> Integers:
    classes = []
    with computing(threads=threads), mode(model), torch.no_grad():
        for begin in range(0, len(images), BATCH_SIZE):
            batch = to_device(images[begin : begin + BATCH_SIZE], device=device)
            classes.append(model(to_unit(batch, scale=scale)).argmax(1).cpu())
    labels: Integers = torch.cat(classes).numpy()
    return labels
