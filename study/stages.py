"""Progress of work in stages on stderr: a live bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from study.console import notes
from study.progress import PLAIN_SECONDS, duration


class Stages:
    """Shows which stage is running and how many of its images are done.

    Args:
        unit: What is counted, in the plural.
    """

    def __init__(self, *, unit: str) -> None:
        self._unit = unit
        self._console = notes()
        self._bar: Progress | None = None
        self._stage = ""
        self._total = 0
        self._begun = self._said = 0.0

    def __enter__(self) -> Stages:
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
            self._bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self._console)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, stage: str, /, *, total: int) -> None:
        """Show a new stage of `total` things to do."""
        self._stage, self._total = stage, total
        self._begun = self._said = time.monotonic()
        if self._bar is not None:
            self._bar.add_task(stage, total=total)
        else:
            self._console.print(f"{stage}: {total} {self._unit}")

    def at(self, done: int, /) -> None:
        """Show that so many are done."""
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[-1], completed=done)
        elif now - self._said >= PLAIN_SECONDS and done < self._total:
            self._said = now
            left = duration((now - self._begun) / max(1, done) * (self._total - done))
            self._console.print(f"{self._stage}: {done}/{self._total} {self._unit} · about {left} left")
