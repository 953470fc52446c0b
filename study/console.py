"""Consoles for results (stdout) and for everything else (stderr), and the progress displays."""

from __future__ import annotations

import codecs
import errno
import io
import os
import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

SPELT = {"ε": "eps", "ℓ": "l", "∞": "inf", "·": "-", "±": "+/-", "≤": "<=", "≥": ">=", "…": "..."}  # noqa: RUF001
"""What is printed for our own signs where the output's encoding does not have them; other characters are escaped."""

_PIPE_WIDTH = 140
PLAIN_SECONDS = 15.0
"""Shortest time between two progress lines where there is no terminal."""
RECENT = 20
"""The number of trials whose ends give a study's pace."""


class _PlainConsole(Console):
    """A console that prints no control characters of the texts given to it, and no others that its file cannot show.

    Reasons of failures, names and paths come from files, and a terminal obeys what they contain.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        # before the layout, so that columns stay aligned
        shown = _CONTROLS.sub("", text).encode(self.encoding, _SPELL).decode(self.encoding)
        return super().render_str(shown, **options)

    def print_json(self, *arguments: Any, **options: Any) -> None:
        super().print_json(*arguments, **{"ensure_ascii": not self.encoding.startswith("utf"), **options})


_CONTROLS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Whole escape sequences, and what is left of others; not tabs and line ends."""


def _spelt(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    sign = SPELT.get(error.object[error.start])
    if sign is not None:
        return sign, error.start + 1
    error.end = error.start + 1
    return codecs.backslashreplace_errors(error)


_SPELL = "robust-study"
codecs.register_error(_SPELL, _spelt)


class _Output(io.FileIO):
    """Standard output or error, which drops what cannot be written.

    Attributes:
        failure: Why something could not be; None if it all was, or its reader or terminal has gone.
    """

    failure: str | None = None

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                self.failure = error.strerror
            return memoryview(data).nbytes


def open_outputs() -> None:
    """Make stdout and stderr take every text: no print may end a study.

    A character that cannot be encoded is spelt out or escaped, a reader that has gone is not missed, and a closed
    stream discards. Streams that a test or a script has put in their place are left alone.
    """
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        elif stream is getattr(sys, f"__{name}__"):
            file = io.BufferedWriter(_Output(number, "wb", closefd=False))
            buffered = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
            setattr(sys, name, io.TextIOWrapper(file, encoding=stream.encoding, errors=_SPELL, **buffered))


def unwritten() -> str | None:
    """Return why a part of the results could not be written to stdout, as on a full disk, or None."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.failure if isinstance(raw, _Output) else None


def results() -> Console:
    """Return the console for results, which scripts may read."""
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return _PlainConsole(width=width, soft_wrap=True, highlight=False, markup=False)


def notes() -> Console:
    """Return the console for progress and notes."""
    return _PlainConsole(stderr=True, soft_wrap=True, highlight=False, markup=False)


def quoted(path: Path | str, /) -> str:
    """Return a path as it is typed on a command line, in quotes where the shell needs them."""
    return shlex.quote(str(path))


def duration(seconds: float) -> str:
    """Return a duration in seconds as short text: `42s`, `3m10s`, `2h05m`."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes}m{seconds:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m"


def rate(times: Sequence[float], /, *, now: float) -> str:
    """Return how fast things end as text, "14 a minute" or "2.3 an hour".

    Args:
        times: When the last of them ended, in seconds and in order; the first time only starts the clock.
        now: The present time by the same clock.
    """
    each = max(now - times[0], 1e-3) / (len(times) - 1)
    number, unit = (60 / each, "a minute") if each <= 60 else (3600 / each, "an hour")
    return f"{number:.0f} {unit}" if number >= 10 else f"{number:.1f} {unit}"


class ProgressDisplay:
    """A progress bar on a terminal, otherwise a line at most every `PLAIN_SECONDS`; both on stderr.

    A `total` of None is not known yet, 0 is for no bar. When `first` is None, the bar appears with its first task.
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

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _show(self, text: str, /, *, line: str | None = None, force: bool = False) -> None:
        """Show a text beside the bar; without a bar, print `line` or the text if it is time or `force` is true."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[-1], description=text, completed=self._done, total=self._total)
        elif force or time.monotonic() - self._printed >= PLAIN_SECONDS:
            self._printed = time.monotonic()
            self._console.print(line or text)


class StageProgress(ProgressDisplay):
    """A measurement's progress: its stage and how many images are done, with one bar per stage."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), MofNCompleteColumn())
        super().__init__(*columns, TimeElapsedColumn(), TimeRemainingColumn(), total=None, first=None)

    def report(self, stage: str, done: int, total: int, /) -> None:
        """Show progress, called as a `trainables.evaluation.progress.Report`; a stage starts with `done` 0."""
        self._done, self._total = done, total
        if done == 0:
            self._started = time.monotonic()
            if self._bar is not None:
                self._bar.add_task(stage, total=total)
            self._show(stage, line=f"{stage}: {total} images", force=True)
        elif self._bar is not None or done < total:
            left = duration(self._elapsed() / done * (total - done))
            self._show(stage, line=f"{stage}: {done}/{total} images · about {left} left")


class EvaluationProgress(ProgressDisplay):
    """Progress of `total` measurements: how many are done, and the stage of the running one."""

    _total: int

    def __init__(self, total: int, /) -> None:
        columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
        super().__init__(*columns, TimeElapsedColumn(), total=total)
        self._running = ""

    def begin(self, name: str, /) -> None:
        """Show which measurement starts."""
        self._running = name
        self._show(name, line=f"{self._done}/{self._total} measured · {name}")

    def report(self, stage: str, done: int, total: int, /) -> None:
        """Show the running measurement's progress, called as a `trainables.evaluation.progress.Report`."""
        text = f"{self._running}: {stage}, {done}/{total} images"
        self._show(text, line=f"{self._done}/{self._total} measured · {text}")

    def ended(self, name: str, /, *, failed: bool) -> None:
        """Count a measurement that was written or failed."""
        self._done += 1
        elapsed = self._elapsed()
        line = f"{self._done}/{self._total} measured · {name}{' failed' * failed} · {duration(elapsed)}"
        if self._done < self._total:
            line += f" · about {duration(elapsed / self._done * (self._total - self._done))} left"
        self._show(name, line=line, force=failed or self._done == self._total)


class PairProgress(ProgressDisplay):
    """Progress of a comparison of all pairs of images."""

    def __init__(self) -> None:
        super().__init__(*Progress.get_default_columns(), total=None, first="reading", transient=True)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        super().__exit__(kind, error, trace)
        if error is None:
            self._console.print(f"compared all pairs in {duration(self._elapsed())}")

    def update(self, task: str, done: int, total: int, /) -> None:
        """Show the current task, and how many of all pairs are compared."""
        self._done, self._total = done, total
        self._show(task, line=f"{task}: {done / total:.0%} of all pairs, {duration(self._elapsed())}")
