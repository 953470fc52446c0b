"""The live line of a running study; plain lines where there is no terminal."""

from __future__ import annotations

import time
from types import TracebackType

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from study.console import notes

PLAIN_SECONDS = 15.0


def duration(seconds: float) -> str:
    """Return seconds in words short enough for a status line: `42s`, `3m10s`, `2h05m`."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes}m{seconds:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m"


class StudyProgress:
    """Shows trials done, running and failed, the front's size, time elapsed and left, on stderr.

    Args:
        total: Trials the study is to have.
        done: Trials finished before this run.
        failed: How many of those failed.
        front_size: Size of the front so far.
        run: When this run began, seconds since the epoch, and trials done then; now and `done` when None.
    """

    def __init__(
        self,
        total: int,
        /,
        *,
        done: int = 0,
        failed: int = 0,
        front_size: int = 0,
        run: tuple[float, int] | None = None,
    ) -> None:
        began, self._before = run or (time.time(), done)
        self._total = total
        self._done = done
        self._failed = failed
        self._front_size = front_size
        self._running = 0
        self._started = time.monotonic() - (time.time() - began)
        self._said = 0.0
        self._console = notes()
        self._bar: Progress | None = None

    def __enter__(self) -> StudyProgress:
        if self._console.is_terminal:
            columns = (SpinnerColumn(), BarColumn(bar_width=24), TextColumn("{task.description}"))
            self._bar = Progress(*columns, console=self._console, refresh_per_second=2)
            self._bar.start()
            self._bar.add_task("starting", total=self._total, completed=self._done)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._done > self._before:
            self._console.print(self.line())

    def tick(self, *, running: int) -> None:
        """Refresh the line with the number of trials running now."""
        self._running = running
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done, description=self.line())
        elif time.monotonic() - self._said >= PLAIN_SECONDS:
            self._said = time.monotonic()
            self._console.print(self.line())

    def trial_ended(self, *, failed: bool, front_size: int) -> None:
        """Count a trial whose row is on disk."""
        self._done += 1
        self._failed += failed
        self._front_size = front_size

    def say(self, text: str) -> None:
        """Print a line that stays: something went wrong, or a stage was reached."""
        self._console.print(text)

    def line(self) -> str:
        """Return the status as one line."""
        elapsed = time.monotonic() - self._started
        parts = [
            f"{self._done}/{self._total} trials",
            f"{self._running} running",
            f"{self._failed} failed",
            f"front {self._front_size}",
            f"{duration(elapsed)} elapsed",
        ]
        finished = self._done - self._before
        if finished and self._done < self._total:
            parts.append(f"about {duration(elapsed / finished * (self._total - self._done))} left")
        return " · ".join(parts)
