"""A running study's progress: a bar and two lines on a terminal, otherwise a line every quarter of a minute."""

from __future__ import annotations

import math
import time
from collections import deque

from rich.progress import BarColumn, SpinnerColumn, TextColumn
from rich.table import Column

from study.console import RECENT, ProgressDisplay, duration, notes, rate
from study.directory.standing import Standing


class StudyProgress(ProgressDisplay):
    """Shows trials done and running, their rate, time left, the front so far, and failures with their first reason.

    Args:
        total: Number of trials of the complete study.
        standing: What its rows show so far.
    """

    _total: int

    def __init__(self, total: int, standing: Standing, /) -> None:
        super().__init__(
            SpinnerColumn("dots" if notes().encoding.startswith("utf") else "line"),
            BarColumn(bar_width=16),
            # two lines, which together would be cut on a terminal of 80 columns
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=False, overflow="fold")),
            total=total,
            done=standing.done,
        )
        self._before = self._done
        self._printed = -math.inf
        self._standing, self._running = standing, 0
        self._ends = deque([self._started], maxlen=RECENT + 1)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        super().__exit__(kind, error, trace)
        if self._bar is None and self._done > self._before:
            self._console.print(self.line())

    def tick(self, *, running: int) -> None:
        """Refresh the display with the number of trials running now."""
        self._running = running
        self._show("\n".join(self._parts()), line=self.line())

    def trial_ended(self) -> None:
        """Count a trial whose row is on disk."""
        self._done += 1
        self._ends.append(time.monotonic())

    def print(self, text: str) -> None:
        """Print a line above the progress display."""
        self._console.print(text)

    def line(self) -> str:
        """Return the status as one line."""
        return " · ".join(self._parts())

    def _parts(self) -> tuple[str, str]:
        """Return how far the trials are, and what they have shown."""
        elapsed, finished = self._elapsed(), self._done - self._before
        pace = [f"{self._done}/{self._total} trials", f"{self._running} running"]
        pace += [rate(self._ends, now=time.monotonic())] if finished else []
        pace.append(f"{duration(elapsed)} elapsed")
        if finished and self._done < self._total:
            pace.append(f"about {duration(elapsed / finished * (self._total - self._done))} left")
        return " · ".join(pace), str(self._standing)
