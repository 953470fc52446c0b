"""Why trials failed: causes with their counts and an example traceback."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from analysis.data.reasons import failed_by_reason


@dataclass(frozen=True)
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
    """Return the causes of failed trials, the most frequent first; see `failed_by_reason`.

    Args:
        rows: Result rows with `trial_id`, `status` and `reason`.
        study_dir: The study's folder.
    """
    causes = []
    for reason, failed in failed_by_reason(rows).items():
        path = study_dir / "errors" / f"{failed[0]['trial_id']}.txt"
        causes.append(Cause(reason, len(failed), failed[0]["trial_id"], path if path.exists() else None))
    return sorted(causes, key=lambda cause: -cause.count)


def failure_table(failures: list[Cause], /) -> Table:
    """Return the causes as a table for a terminal."""
    table = Table("failed", "reason", "first trial", "traceback")
    for cause in failures:
        table.add_row(str(cause.count), cause.reason, cause.first, str(cause.traceback or "-"))
    return table
