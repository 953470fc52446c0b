"""What a study's rows show so far: trials by status, the front, failures and their first reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from analysis.fronts.running_front import RunningFront

_LONGEST_REASON = 60


class Standing:
    """Kept up to date row by row, as trials end; the cost of a row does not grow with the study.

    Args:
        reference: Reference values of the hypervolume that the config fixes, by objective.

    Attributes:
        front: The front of the rows so far.
        statuses: Number of trials by status.
        first_failure: Why the first trial that failed did; None while none has.
    """

    def __init__(self, *, reference: Mapping[str, float] | None = None) -> None:
        self.front = RunningFront(reference=reference)
        self.statuses: Counter[str] = Counter()
        self.first_failure: str | None = None

    @property
    def done(self) -> int:
        """The number of trials with a row."""
        return self.statuses.total()

    @property
    def failed(self) -> int:
        """The number of failed trials."""
        return self.statuses["failed"]

    def add(self, row: Mapping[str, Any], /) -> None:
        """Add a trial's result row."""
        self.statuses[row["status"]] += 1
        if row["status"] == "failed" and self.first_failure is None:
            self.first_failure = row.get("reason") or "unknown"
        self.front.add(row)

    def metrics(self) -> dict[str, float]:
        """Return the study's metrics: trials by status, front size, hypervolume, and the best member at a clean floor.

        The last two, `best_robust_accuracy` and `clean_floor`, are left out while there is no front.
        """
        metrics = {
            "trials_completed": self.statuses["completed"],
            "trials_stopped_early": self.statuses["stopped_early"],
            "trials_failed": self.failed,
            "front_size": len(self.front),
            "hypervolume": self.front.hypervolume,
        }
        if (best := self.front.best) is not None:
            metrics |= {"best_robust_accuracy": best.robust, "clean_floor": best.floor}
        return metrics

    def __str__(self) -> str:
        parts = ["no front yet"]
        if (best := self.front.best) is not None:
            parts = [str(best), f"hypervolume {self.front.hypervolume:.3f}", f"front {len(self.front)}"]
        failures = f"{self.failed} failed"
        if (reason := self.first_failure) is not None:
            cut = reason if len(reason) <= _LONGEST_REASON else f"{reason[: _LONGEST_REASON - 1]}…"
            failures += f", first: {cut}"
        return " · ".join([*parts, failures])
