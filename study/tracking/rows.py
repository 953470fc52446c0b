"""What of a result row MLflow gets, and as what: parameters, tags to filter by, metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.schema import RESULT

TAGS = ("study", "method", "dataset", "model", "norm", "proposal", "status", "reason")
"""Columns that become tags, by which MLflow's table is filtered."""

EPOCH_METRICS = (
    "loss",
    "lr",
    "val_loss",
    "val_clean_accuracy",
    "val_robust_accuracy",
    "val_lipschitz_mean",
    "val_lipschitz_scale_free_mean",
)
"""Columns of an epoch row that become metrics; the parts of the loss join them."""

_SETTINGS = {"train_epsilon", "eval_epsilon"}


def params(row: Mapping[str, Any], /) -> dict[str, Any]:
    """Return what a trial was asked to do, under the names of the result row."""
    metric_names = set(_metric_columns())
    return {
        name: value
        for name, value in row.items()
        if value is not None and name not in TAGS and name not in metric_names and _says_what_was_asked(name)
    }


def tags(row: Mapping[str, Any], /) -> dict[str, str]:
    """Return the tags of a trial; `flags` only once it was measured."""
    found = {name: str(row[name]) for name in TAGS if row.get(name) is not None}
    return found | ({"flags": ", ".join(row["flags"])} if row.get("flags") is not None else {})


def metrics(row: Mapping[str, Any], /) -> dict[str, float]:
    """Return the numbers that were measured, under the names of the result row."""
    return {name: row[name] for name in _metric_columns() if row.get(name) is not None}


def epoch_metrics(row: Mapping[str, Any], /) -> dict[str, Any]:
    """Return the numbers of an epoch row or of a trial's report."""
    return {name: value for name, value in row.items() if name in EPOCH_METRICS or name.startswith("part.")}


def _metric_columns() -> list[str]:
    return [column.name for column in RESULT.columns if column.type == "float64" and column.name not in _SETTINGS]


def _says_what_was_asked(name: str) -> bool:
    column = RESULT.find(name)
    return column is not None and column.deterministic and name not in ("flags", "epochs")
