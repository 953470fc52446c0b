"""What of a result row MLflow gets, and as what: parameters, tags to filter by, metrics, and the row itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from analysis.schema import RESULT

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

TAG_LENGTH = 4000
"""Longest tag value written, characters; servers take 5,000 to 8,000."""

_SETTINGS = {"train_epsilon", "eval_epsilon"}
# Charts of hundreds of trials stay usable with few keys; the row's tag has every column.
_UNCHARTED = {f"train_lipschitz_{statistic}" for statistic in ("median", "p95", "max")}


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


def epoch_metrics(row: Mapping[str, Any], /) -> dict[str, Any]:
    """Return the numbers of an epoch row or of a trial's report."""
    return {name: value for name, value in row.items() if name in EPOCH_METRICS or name.startswith("part.")}


def metric_columns() -> list[str]:
    """Return the columns of a result row that become metrics."""
    left_out = _SETTINGS | _UNCHARTED
    return [column.name for column in RESULT.columns if column.type == "float64" and column.name not in left_out]


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
    return column is not None and column.deterministic and name not in ("flags", "epochs")
