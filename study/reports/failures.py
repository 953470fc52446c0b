"""Why trials failed: grouped by cause, with where to read on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

# reasons that earlier versions stored
_FORMER = {
    "the worker died without a word": "worker process died",
    "stopped before anything was measured": "stopped before the first measurement",
}
_VARYING = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{16,}\b|\d[\d.,]*", re.IGNORECASE)


@dataclass
class Cause:
    """One cause of failed trials.

    Attributes:
        reason: What the first of them gave.
        count: How many trials.
        first: The first of them, by id.
        traceback: Its traceback, None where there is none: a diverged trial has no error.
    """

    reason: str
    count: int
    first: str
    traceback: Path | None


def causes(rows: Iterable[Mapping[str, Any]], study_dir: Path, /) -> list[Cause]:
    """Return the causes of failed trials, the most frequent first.

    Reasons that differ in numbers and addresses alone are one cause.

    Args:
        rows: Result rows with `trial_id`, `status` and `reason`.
        study_dir: The study's folder.
    """
    found: dict[str, Cause] = {}
    for row in sorted((row for row in rows if row["status"] == "failed"), key=lambda row: str(row["trial_id"])):
        reason = _FORMER.get(row["reason"], row["reason"]) or "unknown"
        cause = found.get(_VARYING.sub("#", reason))
        if cause is not None:
            cause.count += 1
            continue
        path = study_dir / "errors" / f"{row['trial_id']}.txt"
        found[_VARYING.sub("#", reason)] = Cause(reason, 1, row["trial_id"], path if path.exists() else None)
    return sorted(found.values(), key=lambda cause: -cause.count)


def failure_table(found: list[Cause], /) -> Table:
    """Return the causes as a table for a terminal."""
    table = Table("failed", "reason", "first trial", "traceback")
    for cause in found:
        table.add_row(str(cause.count), cause.reason, cause.first, str(cause.traceback or "-"))
    return table
