"""Why trials failed: causes with their counts and an example traceback."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

# reasons stored by earlier versions, and the same reasons today
_FORMER = {
    "the worker died without a word": "worker process died",
    "stopped before anything was measured": "stopped before the first measurement",
}
_VARYING = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{16,}\b|\d[\d.,]*", re.IGNORECASE)


@dataclass
class Cause:
    """One cause of failed trials.

    Attributes:
        reason: Reason of the first trial.
        count: Number of trials.
        first: Id of the first trial.
        traceback: File of its traceback; None without an error, as for a diverged trial.
    """

    reason: str
    count: int
    first: str
    traceback: Path | None


def causes(rows: Iterable[Mapping[str, Any]], study_dir: Path, /) -> list[Cause]:
    """Return the causes of failed trials, the most frequent first.

    Reasons that differ only in numbers and addresses are one cause; so are a reason's former and present words.

    Args:
        rows: Result rows with `trial_id`, `status` and `reason`.
        study_dir: The study's folder.
    """
    by_pattern: dict[str, Cause] = {}
    for row in sorted((row for row in rows if row["status"] == "failed"), key=lambda row: str(row["trial_id"])):
        reason = _FORMER.get(row["reason"], row["reason"]) or "unknown"
        pattern = _VARYING.sub("#", reason)
        cause = by_pattern.get(pattern)
        if cause is not None:
            cause.count += 1
            continue
        path = study_dir / "errors" / f"{row['trial_id']}.txt"
        by_pattern[pattern] = Cause(reason, 1, row["trial_id"], path if path.exists() else None)
    return sorted(by_pattern.values(), key=lambda cause: -cause.count)


def failure_table(failures: list[Cause], /) -> Table:
    """Return the causes as a table for a terminal."""
    table = Table("failed", "reason", "first trial", "traceback")
    for cause in failures:
        table.add_row(str(cause.count), cause.reason, cause.first, str(cause.traceback or "-"))
    return table
