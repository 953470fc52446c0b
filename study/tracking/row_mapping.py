"""How MLflow holds a result row: parameters, tags to filter by, metrics, and the row itself."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from analysis.data.schema import RESULT
from analysis.fronts.objectives import OBJECTIVES
from analysis.wording import own_parameters

TAGS = (
    "study",
    "method",
    "dataset",
    "model",
    "norm",
    "proposal",
    "status",
    "reason",
    "config_hash",
    "replicate_of",
)
"""Columns that become tags, which MLflow's table can be filtered by."""

ROW_TAG = "robust_study.row"
"""Tag with the whole result row as JSON: it keeps types, nulls, NaN and infinities, which metrics do not."""

EPOCH_METRICS = (
    "epoch",
    "loss",
    "lr",
    "val_loss",
    "train_clean_accuracy",
    "train_robust_accuracy",
    "val_clean_accuracy",
    "val_robust_accuracy",
    "val_lipschitz_mean",
    "val_lipschitz_scale_free_mean",
    "val_certified_accuracy",
)
"""Columns of an epoch row that become metrics, as do the parts of the loss."""

_CARRIED = EPOCH_METRICS[-4:]

TAG_LENGTH = 4000
"""Longest tag value written, characters; servers accept 5,000 to 8,000."""

PARAM_LENGTH = 6000
"""Longest parameter MLflow stores, characters."""

LOG_LIPSCHITZ = "val_lipschitz_log10"
"""Objective that becomes a metric, since scatter plots in MLflow have no log axis."""

OUTCOME_TAGS = (*TAGS, "strength", "flags", "error")
"""Tags set when a trial ends; those that its row has no value for are removed."""

_SETTINGS = {"train_epsilon", "eval_epsilon"}

# The counts of examples are outcomes, since a split may have fewer than the config asks for.
_OUTCOMES = {"flags", "epochs", "best_epoch", "micro_batch", "examples", "lipschitz_examples"}

# MLflow's charts of hundreds of trials need few metrics: at most 40, those of epochs and test included. The row's tag
# has every column.
_ONLY_IN_ROW = {
    *(f"{split}_lipschitz_{statistic}" for split in ("train", "best_val") for statistic in ("median", "p95", "max")),
    "train_lipschitz_scale_free_mean",
    "best_val_lipschitz_scale_free_mean",
    "best_val_lipschitz_mean",
    "best_val_loss",
}

_LARGEST = sys.float_info.max  # what MLflow stores for an infinity


def params(row: Mapping[str, Any], /) -> dict[str, Any]:
    """Return a trial's settings, under the names of the result row."""
    metric_names = {column.name for column in RESULT.columns if column.type == "float64"} - _SETTINGS
    return {
        name: value
        for name, value in row.items()
        if value is not None and name not in TAGS and name not in metric_names and _is_setting(name)
    }


def tags(row: Mapping[str, Any], /) -> dict[str, str]:
    """Return the tags of a trial; `flags` only if it was measured, `error` only if it failed.

    `strength` holds the hyperparameters of its method alone, which are in a column for each method otherwise.
    """
    tags = {name: str(row[name])[:TAG_LENGTH] for name in TAGS if row.get(name) is not None}
    if strength := own_parameters(row):
        tags["strength"] = strength[:TAG_LENGTH]
    if row.get("flags") is not None:
        tags["flags"] = ", ".join(row["flags"])
    if row.get("status") == "failed":
        tags["error"] = tags.get("reason", "unknown")
    return tags


def metrics(row: Mapping[str, Any], /) -> dict[str, float]:
    """Return a trial's measured values, under the names of the result row; and one as log10, for MLflow's charts."""
    values = {name: row[name] for name in metric_columns() if row.get(name) is not None}
    objective = OBJECTIVES[LOG_LIPSCHITZ]
    if objective.column in values:
        values[LOG_LIPSCHITZ] = float(objective.transform(values[objective.column]))
    return values


def param_text(value: Any, /) -> str:
    """Return a parameter's value as MLflow stores it."""
    return str(value)[:PARAM_LENGTH]


def epoch_metrics(row: Mapping[str, Any], /) -> dict[str, Any]:
    """Return the metrics of an epoch row, or of a trial's report, that were measured in that epoch.

    Robust accuracy and Lipschitz estimates carried over from an earlier epoch are left out. If training diverged in the
    epoch, the losses are NaN and the validation values are left out, since the network's logits are NaN.
    """
    metrics = {name: value for name, value in row.items() if name in EPOCH_METRICS or name.startswith("part.")}
    if row.get("stale"):
        metrics = {name: value for name, value in metrics.items() if name not in _CARRIED}
    losses = [name for name in ("loss", "val_loss") if name in row and row[name] is None]
    if losses and row.get("val_clean_accuracy") is not None:
        metrics = {name: value for name, value in metrics.items() if not name.startswith("val_")}
        metrics |= dict.fromkeys(losses, math.nan)
    return metrics


def metric_columns() -> list[str]:
    """Return the columns of a result row that become metrics."""
    left_out = _SETTINGS | _ONLY_IN_ROW
    floats = [column.name for column in RESULT.columns if column.type == "float64" and column.name not in left_out]
    return [*floats, "best_epoch"]


def differing_metrics(
    latest: Mapping[str, float], row: Mapping[str, Any], epochs: Iterable[Mapping[str, Any]] = (), /
) -> dict[str, float]:
    """Return the expected values of the metrics that are missing from a run or have another latest value.

    The row's values are expected, and the last epoch's of metrics that only epochs have. A column that is null in the
    row is expected to be NaN if an epoch gave it a value: the trial ended without one.

    Args:
        latest: The run's latest values.
        row: Its trial's result row.
        epochs: The trial's epoch rows, ascending.
    """
    expected: dict[str, float] = {}
    for epoch in epochs:
        expected |= {name: value for name, value in epoch_metrics(epoch).items() if value is not None}
    expected |= {name: math.nan for name in metric_columns() if name in {*expected, *latest}}
    expected |= metrics(row)
    return {name: value for name, value in expected.items() if not _same_metric(value, latest.get(name))}


def differing_params(stored: Mapping[str, str], row: Mapping[str, Any], /) -> list[str]:
    """Return the names of a trial's parameters that are missing from a run or have another value there."""
    return [name for name, value in params(row).items() if not _same_param(stored.get(name), value)]


def trial_times(row: Mapping[str, Any], /) -> tuple[int, int] | None:
    """Return when a trial started and ended, in milliseconds since 1970; None if its row has no start."""
    try:
        started = int(1000 * datetime.fromisoformat(row["started_at"]).timestamp())
    except (KeyError, TypeError, ValueError):
        return None
    return started, started + int(1000 * (row.get("seconds") or 0))


def row_tags(row: Mapping[str, Any], /) -> dict[str, str]:
    """Return the tags that hold the whole row: one, or several if the row is longer than a tag."""
    # null param.* columns too: one that is null in every row would otherwise be lost
    columns = {name: value for name, value in row.items() if value is not None or name.startswith("param.")}
    text = json.dumps(columns, separators=(",", ":"), default=plain)
    pieces = [text[start : start + TAG_LENGTH] for start in range(0, len(text), TAG_LENGTH)]
    # the first piece is written last: if it is there, the others are
    return {ROW_TAG + (f".{number}" if number else ""): piece for number, piece in reversed(list(enumerate(pieces)))}


def row_from_tags(tags: Mapping[str, str], /) -> dict[str, Any] | None:
    """Return the row that `row_tags` stored in a run's tags; None if there is none.

    Raises:
        ValueError: The tags hold no complete row.
    """
    pieces: list[str] = []
    while (name := ROW_TAG + (f".{len(pieces)}" if pieces else "")) in tags:
        pieces.append(tags[name])
    if not pieces:
        return None
    row = json.loads("".join(pieces))
    if not isinstance(row, dict):
        raise ValueError(f"tag {ROW_TAG} must hold a result row, got {type(row).__name__}")
    return row


def plain(value: Any, /) -> Any:
    """Return a numpy scalar as a Python number, and any other value that JSON has no type for as text."""
    return value.item() if hasattr(value, "item") else str(value)


def _is_setting(name: str) -> bool:
    column = RESULT.find(name)
    return column is not None and column.deterministic and name not in _OUTCOMES


def _same_metric(value: float, stored: float | None) -> bool:
    if stored is None or math.isnan(value):
        return stored is not None and math.isnan(stored)
    return stored == (math.copysign(_LARGEST, value) if math.isinf(value) and not math.isinf(stored) else value)


def _same_param(stored: str | None, value: Any) -> bool:
    if stored is None or stored == param_text(value):
        return stored is not None
    try:
        return bool(type(value)(stored) == value)  # the setting 64 is 64.0 in its column
    except ValueError:
        return False


STUDY_TAG = "robust_study.study_id"

TRIAL_TAG = "robust_study.trial_id"

STUDY = "study"
"""Value of the parent run's `TRIAL_TAG`."""

PARENT_TAG = "mlflow.parentRunId"

CONFIRMS_TAG = "robust_study.confirms"
"""Tag of a confirmation's parent run: the id of the study that it confirms, under whose parent run it is nested."""

ON_FRONT = "on_front"

FRONT_PLACE = "front_place"
"""Tag by which MLflow's table is ordered: a member's place along the front, from the most accurate on clean images."""


def along_front(members: Iterable[str], clean: Mapping[str, float], /) -> list[str]:
    """Return the ids of a front's members along it, given their clean accuracies: the best on clean images first."""
    return sorted(sorted(members), key=lambda trial_id: -clean.get(trial_id, 0.0))


def front_tags(trial_id: str, front: Sequence[str], /) -> dict[str, str | None]:
    """Return the tags of a trial's run, or of the parent run, that depend on the front; None for one it must not have.

    Args:
        trial_id: The trial's id, or `STUDY`.
        front: The members' ids, along the front.
    """
    if trial_id == STUDY:  # after the members: MLflow's page loads the first hundred runs and draws the parent's chart
        return {FRONT_PLACE: STUDY}
    if trial_id not in front:
        return {ON_FRONT: None, FRONT_PLACE: None}
    width = max(2, len(str(len(front))))  # MLflow orders tags as text
    return {ON_FRONT: "true", FRONT_PLACE: f"{front.index(trial_id) + 1:0{width}d}"}
