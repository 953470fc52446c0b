"""Where words go: results to stdout, everything else to stderr; wide enough for tables when nobody watches."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_PIPE_WIDTH = 140


def results() -> Console:
    """Return the console for what a script would read."""
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(width=width, soft_wrap=True, highlight=False, markup=False)


def notes() -> Console:
    """Return the console for progress and remarks."""
    return Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


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


class PairProgress:
    """Shows on stderr which share of all pairs is compared: a bar on a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._console = notes()
        self._started = self._said = time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> PairProgress:
        if self._console.is_terminal:
            from rich.progress import Progress

            self._bar = Progress(console=self._console, transient=True)
            self._bar.start()
            self._bar.add_task("reading", total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if error is None:
            self._console.print(f"compared all pairs in {duration(time.monotonic() - self._started)}")

    def update(self, what: str, done: int, total: int, /) -> None:
        """Take how many of all pairs are compared, and what is being compared now."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=what, completed=done, total=total)
        elif time.monotonic() - self._said >= PLAIN_SECONDS:
            self._said = time.monotonic()
            self._console.print(f"{what}: {done / total:.0%} of all pairs, {duration(self._said - self._started)}")
