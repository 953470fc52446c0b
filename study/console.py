"""The two streams, results on stdout and all else on stderr, and the progress displays."""

from __future__ import annotations

import math
import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_PIPE_WIDTH = 140
PLAIN_SECONDS = 15.0
"""Between two lines of progress where there is no terminal."""


def results() -> Console:
    """Return the console for what a script would read."""
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(width=width, soft_wrap=True, highlight=False, markup=False)


def notes() -> Console:
    """Return the console for progress and remarks."""
    return Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


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


class _Live:
    """A bar on a terminal, elsewhere a line at most every `PLAIN_SECONDS`; both on stderr.

    Args:
        columns: Of the bar.
        total: What the bar counts up to; None where it is not known yet, and 0 for no bar.
        done: How much of it is done.
        first: What the bar shows at first; no line of it yet when None.
        transient: Whether the bar goes when it is full.
    """

    def __init__(
        self,
        *columns: ProgressColumn,
        total: int | None,
        done: int = 0,
        first: str | None = "starting",
        transient: bool = False,
    ) -> None:
        self._columns, self._first, self._transient = columns, first, transient
        self._total, self._done = total, done
        self._started = self._printed = time.monotonic()
        self._console = notes()
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal and self._total != 0:
            self._bar = Progress(*self._columns, console=self._console, transient=self._transient, refresh_per_second=2)
            self._bar.start()
            if self._first is not None:
                self._bar.add_task(self._first, total=self._total, completed=self._done)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _show(self, text: str, /, *, line: str | None = None, at_once: bool = False) -> None:
        """Show the state.

        Args:
            text: Beside the bar.
            line: Without a bar; `text` when None.
            at_once: Print the line though another was printed just now.
        """
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[-1], description=text, completed=self._done, total=self._total)
        elif at_once or time.monotonic() - self._printed >= PLAIN_SECONDS:
            self._printed = time.monotonic()
            self._console.print(line or text)


class StudyProgress(_Live):
    """Trials done, running and failed, the front's size, time elapsed and left.

    Args:
        total: Trials the study is to have.
        done: Trials finished before this run.
        failed: How many of those failed.
        front_size: Size of the front so far.
        run: When this run started, seconds since the epoch, and trials done then; now and `done` when None.
    """

    _total: int

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
        super().__init__(
            SpinnerColumn(), BarColumn(bar_width=24), TextColumn("{task.description}"), total=total, done=done
        )
        started, self._before = run or (time.time(), done)
        self._started -= time.time() - started
        self._printed = -math.inf
        self._failed, self._front_size, self._running = failed, front_size, 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if self._bar is None and self._done > self._before:
            self._console.print(self.line())

    def tick(self, *, running: int) -> None:
        """Refresh the line with the number of trials running now."""
        self._running = running
        self._show(self.line())

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
        elapsed = self._elapsed()
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


class StageProgress(_Live):
    """Which stage of a measurement runs, and how many of its images are done: one bar a stage."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
        super().__init__(*columns, TimeElapsedColumn(), TimeRemainingColumn(), total=None, first=None)

    def report(self, stage: str, done: int, total: int, /) -> None:
        """Take a stage of the measurement, as `trainables.evaluation.progress.Report` does; it starts at `done` 0."""
        self._done, self._total = done, total
        if done == 0:
            self._started = time.monotonic()
            if self._bar is not None:
                self._bar.add_task(stage, total=total)
            self._show(stage, line=f"{stage}: {total} images", at_once=True)
        elif self._bar is not None or done < total:
            left = duration(self._elapsed() / done * (total - done))
            self._show(stage, line=f"{stage}: {done}/{total} images · about {left} left")


class EvaluationProgress(_Live):
    """How many measurements are done, and what the running one does.

    Args:
        total: How many there are.
    """

    _total: int

    def __init__(self, total: int, /) -> None:
        columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.description}"))
        super().__init__(*columns, TimeElapsedColumn(), total=total)
        self._running = ""

    def begin(self, name: str, /) -> None:
        """Show which measurement runs now."""
        self._running = name
        self._show(name, line=f"{self._done}/{self._total} measured · {name}")

    def report(self, stage: str, done: int, total: int, /) -> None:
        """Take a stage of the running measurement, as `trainables.evaluation.progress.Report` does."""
        text = f"{self._running}: {stage}, {done}/{total} images"
        self._show(text, line=f"{self._done}/{self._total} measured · {text}")

    def ended(self, name: str, /, *, failed: bool) -> None:
        """Count a measurement that is written, or that failed."""
        self._done += 1
        elapsed = self._elapsed()
        line = f"{self._done}/{self._total} measured · {name}{' failed' * failed} · {duration(elapsed)}"
        if self._done < self._total:
            line += f" · about {duration(elapsed / self._done * (self._total - self._done))} left"
        self._show(name, line=line, at_once=failed or self._done == self._total)


class PairProgress(_Live):
    """Which share of all pairs of images is compared."""

    def __init__(self) -> None:
        super().__init__(*Progress.get_default_columns(), total=None, first="reading", transient=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if error is None:
            self._console.print(f"compared all pairs in {duration(self._elapsed())}")

    def update(self, what: str, done: int, total: int, /) -> None:
        """Take how many of all pairs are compared, and what is being compared now."""
        self._done, self._total = done, total
        self._show(what, line=f"{what}: {done / total:.0%} of all pairs, {duration(self._elapsed())}")
