"""One driver's turn at a study, from its lock to its exit code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from study.budget import out_of_time
from study.config import StudyConfig
from study.console import notes
from study.drivers import only_driver
from study.generations import Generation, hand_over, peak_memory_mb
from study.interrupts import Interrupts
from study.quiet import listen_locally

if TYPE_CHECKING:
    from trainables.data.base import ImageData


def run(
    config: StudyConfig, study_dir: Path, /, *, data: ImageData | None = None, before: Generation | None = None
) -> None:
    """Run what a study lacks, draw what it found, and leave with the exit code that says how it went.

    Args:
        config: The study's config.
        study_dir: Its folder.
        data: The data set without its test split; loaded when None and there are trials to run.
        before: The driver that handed the study over, None when a user started this one.

    Raises:
        UsageError: Another driver runs the study.
        SystemExit: 1 when trials are missing or all failed, 130 or 143 when a signal ended it.
    """
    with only_driver(study_dir), Interrupts() as interrupts:
        following = _turn(config, study_dir, data=data, before=before, interrupts=interrupts)
    if following is not None:
        hand_over(study_dir, following)


def _turn(
    config: StudyConfig,
    study_dir: Path,
    *,
    data: ImageData | None,
    before: Generation | None,
    interrupts: Interrupts,
) -> Generation | None:
    """Run one driver's share; return its generation when a fresh one is to go on."""
    said = notes()
    if before is None:
        said.print(f"study {config.name}: {_trials(config)} in {study_dir}, tracked in {config.tracking.uri}")
    if config.cluster.address is None:
        listen_locally()
    # imported here: Ray takes seconds, and bad input is answered without it
    from study.driver import RunBrokeError, run_study
    from study.finish import count_rows, finish
    from study.generations import first

    done = count_rows(study_dir)
    generation = before or first(done)
    broke = False
    try:
        tracker = run_study(config, study_dir, data=data, interrupts=interrupts, generation=generation)
    except RunBrokeError as error:
        said.print(f"the run broke off: {error}")
        tracker, broke = error.tracker, True
    now = count_rows(study_dir)
    if done < now < config.num_trials and not out_of_time(config, study_dir) and not broke and not interrupts.requested:
        said.print(
            f"driver {generation.number} ran {now - done} trials and held {peak_memory_mb():.0f} MB at most; "
            "a fresh one goes on"
        )
        tracker.close(None)
        return generation
    if not finish(config, study_dir, tracker=tracker, hurried=interrupts.requested):
        sys.exit(interrupts.exit_code or 1)
    return None


def _trials(config: StudyConfig) -> str:
    search = config.search
    found = f"{config.num_trials} trials"
    if search.sampler == "grid":
        size = len(config.space().grid())
        found += f" of a grid of {size} points" if config.num_trials < size else f", all of a grid of {size} points"
    return found if search.time_budget is None else f"{found} or {search.time_budget}, whichever comes first,"
