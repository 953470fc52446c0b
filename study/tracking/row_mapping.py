"""What of a result row MLflow gets, and as what: parameters, tags to filter by, metrics, and the row itself."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from analysis.data.schema import RESULT

TAGS = ("study", "method", "dataset", "model", "norm", "proposal", "status", "reason")
"""Columns that become tags, by which MLflow's table is filtered."""

ROW_TAG = "robust_study.row"
"""Holds the whole result row as JSON: types, nulls, NaN and infinities survive, which they do not as metrics."""

EPOCH_METRICS = (
    "epoch",
    "loss",
    "lr",
    "val_loss",
    "val_clean_accuracy",
    "val_robust_accuracy",
    "val_lipschitz_mean",
    "val_lipschitz_scale_free_mean",
)
"""Columns of an epoch row that become metrics; the parts of the loss join them."""

_CARRIED = ("val_robust_accuracy", "val_lipschitz_mean", "val_lipschitz_scale_free_mean")

TAG_LENGTH = 4000
"""Longest tag value written, characters; servers take 5,000 to 8,000."""

PARAM_LENGTH = 6000
"""Longest parameter MLflow keeps, characters."""

OUTCOME_TAGS = (*TAGS, "flags", "error")
"""Every tag that a trial's end decides on; one that its row has no value for is taken away."""

_SETTINGS = {"train_epsilon", "eval_epsilon"}

# As many examples are measured as a split has, so these may be fewer than a trial was asked to measure.
_CONSEQUENCES = {"flags", "epochs", "best_epoch", "micro_batch", "examples", "lipschitz_examples"}

# Charts of hundreds of trials stay usable with few keys, 40 with those of the epochs and of test; the row's tag has
# every column.
_UNCHARTED = {f"{of}_lipschitz_{statistic}" for of in ("train", "best_val") for statistic in ("median", "p95", "max")}

_UNCHARTED |= {"train_lipschitz_scale_free_mean", "best_val_lipschitz_scale_free_mean"}

_UNCHARTED |= {"best_val_lipschitz_mean", "best_val_loss"}

_LARGEST = sys.float_info.max  # what MLflow keeps of an infinity


def params(row: Mapping[str, Any], /) -> dict[str, Any]:
    """Return what a trial was asked to do, under the names of the result row."""
    metric_names = {column.name for column in RESULT.columns if column.type == "float64"} - _SETTINGS
    return {
        name: value
        for name, value in row.items()
        if value is not None and name not in TAGS and name not in metric_names and _says_what_was_asked(name)
    }


def tags(row: Mapping[str, Any], /) -> dict[str, str]:
    """Return the tags of a trial; `flags` only once it was measured, `error` only for one that failed."""
    found = {name: str(row[name])[:TAG_LENGTH] for name in TAGS if row.get(name) is not None}
    if row.get("flags") is not None:
        found["flags"] = ", ".join(row["flags"])
    if row.get("status") == "failed":
        found["error"] = found.get("reason", "unknown")
    return found


def metrics(row: Mapping[str, Any], /) -> dict[str, float]:
    """Return the numbers that were measured, under the names of the result row."""
    return {name: row[name] for name in metric_columns() if row.get(name) is not None}


def param_text(value: Any, /) -> str:
    """Return a parameter's value as MLflow keeps it."""
    return str(value)[:PARAM_LENGTH]


def epoch_metrics(row: Mapping[str, Any], /) -> dict[str, Any]:
    """Return the numbers of an epoch row or of a trial's report that were measured in this very epoch.

    Carried along from an earlier epoch, robust accuracy and Lipschitz estimates are left out. Of an epoch in which
    training diverged the losses are NaN, and the accuracy of a network whose logits are NaN is left out.
    """
    found = {name: value for name, value in row.items() if name in EPOCH_METRICS or name.startswith("part.")}
    if row.get("stale"):
        found = {name: value for name, value in found.items() if name not in _CARRIED}
    losses = [name for name in ("loss", "val_loss") if name in row and row[name] is None]
    if losses and row.get("val_clean_accuracy") is not None:
        found = {name: value for name, value in found.items() if not name.startswith("val_")}
        found |= dict.fromkeys(losses, math.nan)
    return found


def metric_columns() -> list[str]:
    """Return the columns of a result row that become metrics."""
    left_out = _SETTINGS | _UNCHARTED
    floats = [column.name for column in RESULT.columns if column.type == "float64" and column.name not in left_out]
    return [*floats, "best_epoch"]


def differing_metrics(
    there: Mapping[str, float], row: Mapping[str, Any], epochs: Iterable[Mapping[str, Any]] = (), /
) -> dict[str, float]:
    """Return what the latest values of a run's metrics should be, of those that are not.

    Those are the row's, and of what only epochs have, the last epoch's. A column that is null in the row is NaN where
    an epoch gave it a value: the trial ended without one.

    Args:
        there: The run's latest values.
        row: Its trial's result row.
        epochs: The trial's epoch rows, ascending.
    """
    wanted: dict[str, float] = {}
    for epoch in epochs:
        wanted |= {name: value for name, value in epoch_metrics(epoch).items() if value is not None}
    wanted |= {name: math.nan for name in metric_columns() if name in {*wanted, *there}}
    wanted |= metrics(row)
    return {name: value for name, value in wanted.items() if not _is_kept(value, there.get(name))}


def differing_params(there: Mapping[str, str], row: Mapping[str, Any], /) -> list[str]:
    """Return the names of a trial's parameters that a run lacks, or has another value for."""
    return [name for name, value in params(row).items() if not _is_param(there.get(name), value)]


def span(row: Mapping[str, Any], /) -> tuple[int, int] | None:
    """Return when a trial began and ended by its row, in milliseconds since 1970; None where it does not say."""
    try:
        begun = int(1000 * datetime.fromisoformat(row["started_at"]).timestamp())
    except (KeyError, TypeError, ValueError):
        return None
    return begun, begun + int(1000 * (row.get("seconds") or 0))


def row_tags(row: Mapping[str, Any], /) -> dict[str, str]:
    """Return the tags that hold the whole row: one, or several where it is longer than a tag."""
    # a param.* column that is null in this row may be one that no row has a value for
    kept = {name: value for name, value in row.items() if value is not None or name.startswith("param.")}
    text = json.dumps(kept, separators=(",", ":"), default=plain)
    pieces = [text[start : start + TAG_LENGTH] for start in range(0, len(text), TAG_LENGTH)]
    # the first is written last: where it is, the others are
    return {ROW_TAG + (f".{number}" if number else ""): piece for number, piece in reversed(list(enumerate(pieces)))}


def row_from_tags(found: Mapping[str, str], /) -> dict[str, Any] | None:
    """Return the row that `row_tags` put into a run's tags; None where there is none.

    Raises:
        ValueError: What is there is no whole row.
    """
    pieces: list[str] = []
    while (name := ROW_TAG + (f".{len(pieces)}" if pieces else "")) in found:
        pieces.append(found[name])
    if not pieces:
        return None
    row = json.loads("".join(pieces))
    if not isinstance(row, dict):
        raise ValueError(f"tag {ROW_TAG} must hold a result row, got {type(row).__name__}")
    return row


def plain(value: Any, /) -> Any:
    """Return a numpy scalar as Python's own number, and anything else that JSON does not know as text."""
    return value.item() if hasattr(value, "item") else str(value)


def _says_what_was_asked(name: str) -> bool:
    column = RESULT.find(name)
    return column is not None and column.deterministic and name not in _CONSEQUENCES


def _is_kept(value: float, there: float | None) -> bool:
    if there is None or math.isnan(value):
        return there is not None and math.isnan(there)
    return there == (math.copysign(_LARGEST, value) if math.isinf(value) and not math.isinf(there) else value)


def _is_param(there: str | None, value: Any) -> bool:
    if there is None or there == param_text(value):
        return there is not None
    try:
        return bool(type(value)(there) == value)  # 64 as asked is 64.0 in its column
    except ValueError:
        return False


STUDY_TAG = "robust_study.study_id"

TRIAL_TAG = "robust_study.trial_id"

STUDY = "study"
"""The parent run's `TRIAL_TAG`."""

PARENT_TAG = "mlflow.parentRunId"

BENEATH_TAG = "robust_study.confirms"
"""On the run of a confirmation: the id of the study beneath whose parent run it lies."""

ON_FRONT = "on_front"
