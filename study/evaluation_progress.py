"""Progress of measurements on stderr: one live bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from study.console import notes
from study.progress import PLAIN_SECONDS, duration


class EvaluationProgress:
    """Shows how many measurements are done, and what the running one does.

    Args:
        total: How many there are.
    """

    def __init__(self, total: int, /) -> None:
        self._total = total
        self._done = 0
        self._running = ""
        self._begun = self._said = time.monotonic()
        self._console = notes()
        self._bar: Progress | None = None

    def __enter__(self) -> EvaluationProgress:
        if self._console.is_terminal and self._total:
            columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.description}"))
            self._bar = Progress(*columns, TimeElapsedColumn(), console=self._console)
            self._bar.start()
            self._bar.add_task("starting", total=self._total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, name: str, /) -> None:
        """Say which measurement runs now."""
        self._running = name
        self._show(name)

    def report(self, stage: str, done: int, total: int, /) -> None:
        """Take a stage of the running measurement, as `trainables.evaluation.progress.Report` does."""
        self._show(f"{self._running}: {stage}, {done}/{total} images")

    def ended(self, name: str, /, *, failed: bool) -> None:
        """Count a measurement that is written, or that failed."""
        self._done += 1
        elapsed = time.monotonic() - self._begun
        left = elapsed / self._done * (self._total - self._done)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done)
        elif failed or self._done == self._total or time.monotonic() - self._said >= PLAIN_SECONDS:
            self._said = time.monotonic()
            rest = f" · about {duration(left)} left" if self._done < self._total else ""
            self._console.print(
                f"{self._done}/{self._total} measured · {name}{' failed' * failed} · {duration(elapsed)}{rest}"
            )

    def _show(self, text: str) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=text)
        elif time.monotonic() - self._said >= PLAIN_SECONDS:
            self._said = time.monotonic()
            self._console.print(f"{self._done}/{self._total} measured · {text}")
