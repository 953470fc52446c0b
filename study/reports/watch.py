"""The command `status --watch`: a study's standing, drawn again and again from files that are only read."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live

from analysis.data.files import COMPACTED, read_file, trial_files
from analysis.data.schema import RESULT, ResultsError
from analysis.fronts.objectives import FRONT, values
from analysis.plots.characters import front_in_characters
from study.config.schema import StudyConfig
from study.console import PLAIN_SECONDS, RECENT, duration, quoted, rate, results
from study.directory.layout import open_config
from study.directory.lock import SILENT_SECONDS, Driver, last_beat, recorded_driver
from study.directory.standing import Standing
from study.reports.failures import causes, failure_table

REFRESH_SECONDS = 2.0
"""Between two views on a terminal; elsewhere a snapshot is printed every `PLAIN_SECONDS`."""

_COLUMNS = ("trial_id", "status", "reason", "flags", "constraints", "started_at", "seconds")


class WatchedStudy:
    """A study that is read while it runs: each result file once, and neither its storage nor any lock.

    Args:
        study_dir: Its folder, in which there need be no results yet.

    Raises:
        UsageError: The folder holds no study.
    """

    def __init__(self, study_dir: Path, /) -> None:
        self.study_dir = study_dir
        self.config: StudyConfig = open_config(study_dir)
        self.standing = Standing(reference=self.config.front.reference)
        self.driver: Driver | None = None
        self.unread = 0
        self._rows: dict[str, Mapping[str, Any]] = {}
        self._points: list[np.ndarray] = []
        self._ends: list[float] = []
        self._read: set[tuple[str, int]] = set()
        self._beat: tuple[float | None, float] = (None, 0.0)

    @property
    def complete(self) -> bool:
        """Whether all trials have a row."""
        return self.standing.done >= self.config.num_trials

    def refresh(self) -> None:
        """Read the result files that are new, the config, which `resume` may change, and whether a driver runs."""
        self.config = open_config(self.study_dir)
        self.driver = self._running()
        self.unread = 0
        for path in trial_files(self.study_dir / RESULT.folder):
            try:
                # the compacted file is written again when trials are added
                key = (path.name, path.stat().st_mtime_ns if path.name == COMPACTED else 0)
                if key not in self._read:
                    self._add(path)
                    self._read.add(key)
            except FileNotFoundError:
                continue  # compacted since they were listed
            except ResultsError:
                self.unread += path.exists()

    def _add(self, path: Path) -> None:
        table = read_file(path, RESULT)
        measured = [name for name in table.column_names if name.startswith("val_")]
        for row in table.select([*_COLUMNS, *measured]).to_pylist():
            if row["trial_id"] not in self._rows:
                self._rows[row["trial_id"]] = row
                self._points.append(values(row, FRONT))
                self._ends += [] if (end := _end(row)) is None else [end]
                self.standing.add(row)

    def _running(self) -> Driver | None:
        """Return the driver; one on another host counts as running while its record is renewed, seen from here."""
        driver = recorded_driver(self.study_dir)
        if driver is None or driver.here:
            return driver if driver is not None and driver.alive else None
        beat = last_beat(self.study_dir)
        if beat != self._beat[0]:
            self._beat = beat, time.monotonic()
        return driver if time.monotonic() - self._beat[1] < SILENT_SECONDS else None

    def view(self, *, width: int, height: int) -> RenderableType:
        """Return the study's standing and its trials in characters, for a terminal of so many columns and rows."""
        lines = [f"study {self.config.name}: {self._pace()}", str(self.standing), ""]
        below = [*self._remarks(), f"{datetime.now():%H:%M:%S}, {self._run_by()}"]
        failures = causes(self._rows.values(), self.study_dir)
        if self._rows:
            room = height - len(lines) - len(below) - 5 - (len(failures) + 4 if failures else 0)
            lines += front_in_characters(
                np.array(self._points), self._on_front(), width=min(width, 96), height=max(6, min(room, 20))
            )
        return Group(*lines, "", *below, *([failure_table(failures)] if failures else []))

    def _on_front(self) -> list[bool]:
        members = set(self.standing.front.trial_ids)
        return [trial in members for trial in self._rows]

    def _pace(self) -> str:
        done, total = self.standing.done, self.config.num_trials
        parts = [f"{done} of {total} trials done"]
        ends = sorted(self._ends)[-RECENT - 1 :]
        if self.driver is not None and not self.complete and len(ends) > 1:
            now = max(time.time(), ends[-1])
            left = (now - ends[0]) / (len(ends) - 1) * (total - done)
            parts += [rate(ends, now=now), f"about {duration(left)} left"]
        return " · ".join(parts)

    def _remarks(self) -> list[str]:
        if not self.unread:
            return []
        return [f"{self.unread} result file{'s' * (self.unread != 1)} cannot be read; `robust-study status` names one"]

    def _run_by(self) -> str:
        if self.driver is not None:
            return f"run by {self.driver}"
        if self.complete:
            return "complete"
        if self.config.search.time_limit is not None:  # whether it is spent is in the storage
            return "no process runs it"
        return f"no process runs it; continue it with: robust-study resume {quoted(self.study_dir)}"


def watch(study_dir: Path, /) -> None:
    """Show a study until its driver ends, it is complete, or Ctrl-C is pressed.

    Nothing is written to its folder. On a terminal the view is drawn in place, and its last state stays when it ends;
    elsewhere it is printed every `PLAIN_SECONDS`. A study that no process runs yet is waited for.

    Raises:
        UsageError: The folder holds no study.
    """
    study, console = WatchedStudy(study_dir), results()
    # a background job of a shell ignores SIGINT, and SIGTERM would leave the terminal's other screen open
    previous = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if console.is_terminal and not console.is_dumb_terminal:
            _draw(study, console)
        else:
            _print(study, console)
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _draw(study: WatchedStudy, console: Console) -> None:
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            for _ in _rounds(study, REFRESH_SECONDS):
                live.update(study.view(width=console.width, height=console.height), refresh=True)
    finally:
        console.print(study.view(width=console.width, height=console.height))


def _print(study: WatchedStudy, console: Console) -> None:
    for number in _rounds(study, PLAIN_SECONDS):
        if number:
            console.print()
        console.print(study.view(width=80, height=24))
        console.file.flush()


def _rounds(study: WatchedStudy, pause: float) -> Any:
    """Yield 0, 1, ... after each refresh, until there is nothing more to come."""
    number, was_running = 0, False
    while True:
        study.refresh()
        yield number
        if study.driver is None and (study.complete or was_running):
            return
        was_running = study.driver is not None
        number += 1
        time.sleep(pause)


def _end(row: Mapping[str, Any]) -> float | None:
    """Return when a trial ended, in seconds since the epoch; None where it is not known."""
    if row["started_at"] is None or row["seconds"] is None:
        return None
    return datetime.fromisoformat(row["started_at"]).timestamp() + float(row["seconds"])
