"""Generations: a driver runs so many trials, then a fresh one takes its place, so that its memory stays bounded.

Tune keeps every trial of a run in memory and walks over all of them at each step. The next driver is the same
process with a new program image (same pid, same terminal, same log), built from what lies on disk.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from study.driver.signals import hold_back

TRIALS = 1000
"""Trials a driver runs at least before a fresh one follows."""

WAVES = 20
"""With many slots a driver runs so many trials a slot: slots idle only while the last of them end."""

_MARK = "ROBUST_STUDY_GENERATION"


@dataclass(frozen=True)
class DriverRestart:
    """What a driver knows of those before it in the same run.

    Attributes:
        number: From 1.
        started: When the first of them started, seconds since the epoch.
        done: Trials that were done then.
    """

    number: int
    started: float
    done: int


def inherited() -> DriverRestart | None:
    """Return the generation that this process was made for, None for the first; asked once."""
    mark = os.environ.pop(_MARK, None)
    if mark is None:
        return None
    number, started, done = mark.split(":")
    return DriverRestart(int(number), float(started), int(done))


def first(done: int, /) -> DriverRestart:
    """Return the first generation of a run that starts now with so many trials done."""
    return DriverRestart(1, time.time(), done)


def size(wanted: int | None, /, *, slots: int) -> int:
    """Return how many trials a driver runs.

    Args:
        wanted: What the config says, None for the project's choice.
        slots: Trials that run at once.
    """
    return wanted or max(TRIALS, WAVES * slots)


def hand_over(study_dir: Path, generation: DriverRestart, /) -> NoReturn:
    """Replace this process by a fresh driver of the study; nothing of value may be open."""
    following = DriverRestart(generation.number + 1, generation.started, generation.done)
    os.environ[_MARK] = f"{following.number}:{following.started}:{following.done}"
    sys.stdout.flush()
    sys.stderr.flush()
    hold_back()
    os.execv(sys.executable, [*interpreter(), "resume", str(study_dir)])


def interpreter() -> list[str]:
    """Return how this command was started, up to its name: what is typed before `launch`."""
    given = len(sys.argv) - 1
    line = sys.orig_argv[: len(sys.orig_argv) - given] if given else list(sys.orig_argv)
    return [sys.executable, *line[1:]]


def peak_memory_mb() -> float:
    """Return the most memory that this program image has held resident, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage tells outlives a change of the program image
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1000
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1000
