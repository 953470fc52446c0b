"""The results of a trial: one result row, one row per epoch, and per-example outcomes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray

from trainables.data.base import ImageData
from trainables.evaluation.evaluate import SUMMARIES, Measures
from trainables.evaluation.trial import TRAIN_CURVE, TRAIN_IMAGES
from trainables.methods.base import Method
from trainables.runtime import machine_columns, peak_memory_mb
from trainables.settings import values_of, without_former_values
from trainables.spec import TrialSpec

OUT_OF_MEMORY = "out of memory"
"""Reason of a trial that does not fit its device even with halved batches."""

DIVERGED = "diverged"
"""Reason of a trial whose loss is not finite."""


@dataclass(frozen=True)
class Best:
    """The best checkpoint: the earliest measured epoch with the highest robust accuracy on validation.

    Attributes:
        epoch: Number of epochs trained.
        measures: On validation.
    """

    epoch: int
    measures: Measures

    def better_of(self, earlier: Best | None, /) -> Best:
        """Return the better of this checkpoint and an earlier one, which wins ties."""
        if earlier is None or self.measures.robust_correct.mean() > earlier.measures.robust_correct.mean():
            return self
        return earlier


@dataclass(frozen=True)
class Outcome:
    """One trial's results.

    Attributes:
        status: `completed`; `stopped_early`, if requested before the last epoch; or `failed`.
        reason: Why it failed (`diverged`, `out of memory`, or that it predicts one class), or None.
        row: The result row's scientific columns.
        epochs: One row per epoch.
        examples: Split name to columns with one entry per measured image, of the last checkpoint; empty if nothing was
            measured.
        best_examples: The same of the best checkpoint, on validation.
        flags: Flags of the measurements of the last checkpoint, sorted.
    """

    status: str
    reason: str | None
    row: dict[str, Any]
    epochs: list[dict[str, Any]]
    examples: dict[str, dict[str, NDArray[Any]]]
    best_examples: dict[str, dict[str, NDArray[Any]]]
    flags: list[str]


def spec_columns(spec: TrialSpec, method: Method, /) -> dict[str, Any]:
    """Return the columns that repeat the trial's settings."""
    training, evaluation = spec.training, spec.evaluation
    params: dict[str, Any] = {
        "dropout": spec.model.dropout,
        "lr": training.lr,
        "weight_decay": training.weight_decay,
        "batch_size": training.batch_size,
        "epochs": training.epochs,
        "ema": training.ema,
        "awp": training.awp or None,  # as in rows from before it existed
    }
    settings = {name: value for name, value in values_of(method).items() if value is not None}
    params |= {name: value for name, value in settings.items() if _is_number(value)}
    options = {name: value for name, value in settings.items() if not _is_number(value)}
    return {
        "config_hash": config_hash(spec),
        "method": spec.method,
        "model": spec.model.name,
        "seed": spec.seed,
        "norm": evaluation.norm,
        **{f"param.{name}": value for name, value in params.items()},
        "options": json.dumps(options, sort_keys=True, default=str) if options else None,
        "train_epsilon": spec.train_epsilon,
        "eval_epsilon": evaluation.epsilon,
        "attack": spec.evaluation.attack,
        "steps": evaluation.steps,
        "restarts": evaluation.restarts,
        "lipschitz_steps": evaluation.lipschitz.steps,
        "lipschitz_restarts": evaluation.lipschitz.restarts,
        "certify": None if evaluation.certify == "none" else evaluation.certify,
        "craft_mode": str(training.craft_mode) if method.attacks else None,
        "checkpoint_kind": "last",
        "threads": training.threads,
    }


def config_hash(spec: TrialSpec, /) -> str:
    """Return a digest of a trial's settings without its seed and the data set's folder: seeds of one setting share it.

    A number counts by its value, 6 as 6.0, and a setting that is added later changes the digest only once it is used.
    """
    tree = without_former_values(spec.to_dict(), TrialSpec)
    settings = {name: value for name, value in tree.items() if name != "seed"}
    settings["dataset"] = {name: value for name, value in tree["dataset"].items() if name != "root"}
    text = json.dumps(_by_value(settings), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _by_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _by_value(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_by_value(inner) for inner in value]
    return float(value) if _is_number(value) else value


def measure_columns(measures: Mapping[str, Measures | None], /) -> dict[str, float | None]:
    """Return each split's summary under its name, and the gaps between train and val."""
    row: dict[str, float | None] = {}
    for split in ("train", "val"):
        measured = measures.get(split)
        summary = dict.fromkeys(SUMMARIES) if measured is None else measured.summary()
        row |= {f"{split}_{name}": value for name, value in summary.items()}
    val_measures = measures.get("val")
    row["val_certified_accuracy"] = None if val_measures is None else val_measures.certified_accuracy
    for kind in ("clean", "robust"):
        train, val = row[f"train_{kind}_accuracy"], row[f"val_{kind}_accuracy"]
        row[f"{kind}_gap"] = None if train is None or val is None else train - val
    return row


def epoch_rows(history: Sequence[Mapping[str, Any]], train: Measures | None, /) -> list[dict[str, Any]]:
    """Return the rows of a trial's epochs; those of the last one have the accuracies on its first training images.

    Args:
        history: A row for each epoch.
        train: Measured on the training split after the last epoch; None before.
    """
    rows = [dict(row) for row in history]
    if train is not None:
        first = (correct[:TRAIN_IMAGES] for correct in (train.clean_correct, train.robust_correct))
        rows[-1] |= {name: float(correct.mean()) for name, correct in zip(TRAIN_CURVE, first, strict=True)}
    return rows


def carried_columns(val: Measures | None, /) -> dict[str, float | None]:
    """Return the columns of an epoch's row that repeat the last measurement on validation; None without one."""
    summary: Mapping[str, float | None] = {} if val is None else val.summary()
    names = ("robust_accuracy", "lipschitz_mean", "lipschitz_scale_free_mean")
    certified = None if val is None else val.certified_accuracy
    return {f"val_{name}": summary.get(name) for name in names} | {"val_certified_accuracy": certified}


def best_columns(best: Best | None, /) -> dict[str, Any]:
    """Return the epoch of the best checkpoint and its measures on validation; all None if none was measured."""
    summary = dict.fromkeys(SUMMARIES) if best is None else best.measures.summary()
    return {
        "best_epoch": None if best is None else best.epoch,
        **{f"best_val_{name}": value for name, value in summary.items()},
    }


def data_columns(spec: TrialSpec, data: ImageData, /) -> dict[str, Any]:
    """Return the data's name and hash, and the number of validation images measured, at most all there are."""
    examples = min(spec.evaluation.examples, len(data.val))
    return {
        "dataset": data.name,
        "split_hash": data.split_hash,
        "examples": examples,
        "lipschitz_examples": min(spec.evaluation.lipschitz.examples, examples) if spec.evaluation.epsilon else 0,
    }


def cost_columns(seconds: Mapping[str, float], /, *, images: int, device: torch.device) -> dict[str, Any]:
    """Return what a trial took and where it ran.

    Args:
        seconds: Wall time by what it was spent on, and in `total`.
        images: Number of images that it was trained on, each as often as it was served.
        device: Of its network.
    """
    parts = {f"seconds_{name}": spent for name, spent in seconds.items() if name != "total"}
    return {
        "seconds": seconds["total"],
        **parts,
        "examples_per_second": images / seconds["training"],
        "peak_memory_mb": peak_memory_mb(device),
        "device": str(device),
        **machine_columns(),
    }


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
