"""Driver restarts: a fresh driver replaces one that has run many trials, so that its memory stays bounded.

Tune keeps every trial of a run in memory and walks over all of them at each step. The fresh driver is the same process
with a new program image (same pid, terminal and log), which resumes from the files on disk.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from study.driver.signals import block_signals

TRIALS = 1000
"""Trials that a driver runs before it is replaced, at least."""

WAVES = 20
"""Trials per slot that a driver runs where that is more: slots are idle while the last trials of a driver end."""

_MARK = "ROBUST_STUDY_GENERATION"


@dataclass(frozen=True)
class DriverRestart:
    """A driver's place among the drivers of one run.

    Attributes:
        number: Its number, from 1.
        started: When the first driver of the run started, in seconds since the epoch.
        done: Number of trials that were finished then.
    """

    number: int
    started: float
    done: int


def inherited() -> DriverRestart | None:
    """Return the place that the driver before this one passed on, None for a first driver; a second call gives None."""
    mark = os.environ.pop(_MARK, None)
    if mark is None:
        return None
    number, started, done = mark.split(":")
    return DriverRestart(int(number), float(started), int(done))


def first_driver(done: int, /) -> DriverRestart:
    """Return the place of the first driver of a run that starts now with `done` finished trials."""
    return DriverRestart(1, time.time(), done)


def trials_per_driver(configured: int | None, /, *, slots: int) -> int:
    """Return how many trials a driver runs before it is replaced.

    Args:
        configured: `cluster.trials_per_driver`; the default when None.
        slots: Trials that run at once.
    """
    return configured or max(TRIALS, WAVES * slots)


def restart_driver(study_dir: Path, driver: DriverRestart, /) -> NoReturn:
    """Replace this process by a fresh driver of the study; files must be written and closed."""
    os.environ[_MARK] = f"{driver.number + 1}:{driver.started}:{driver.done}"
    sys.stdout.flush()
    sys.stderr.flush()
    block_signals()
    os.execv(sys.executable, [*interpreter(), "resume", str(study_dir)])


def interpreter() -> list[str]:
    """Return the start of this process's command line, up to the command's name: what comes before `launch`."""
    num_arguments = len(sys.argv) - 1
    line = sys.orig_argv[: len(sys.orig_argv) - num_arguments]
    return [sys.executable, *line[1:]]


def peak_memory_mb() -> float:
    """Return the peak resident memory of this program image, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage's peak includes earlier program images of the process
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1000
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1000
