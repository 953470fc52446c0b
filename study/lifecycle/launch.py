"""Launching and resuming a study: everything is checked first, then Ray starts, then the front is drawn."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.cluster.preflight import CHECKS, Start, check_config, require
from study.cluster.ray_settings import listen_locally
from study.config.loading import load_config, write_yaml
from study.config.paths import resolved
from study.config.schema import StudyConfig
from study.console import notes
from study.directory.layout import CONFIG_FILE, create, open_config
from study.directory.lock import living_driver, only_driver, refusal
from study.directory.rows import count_rows
from study.directory.seed_plan import read_plan
from study.driver.restarts import DriverRestart, hand_over, inherited, peak_memory_mb
from study.driver.signals import StopSignals
from study.errors import UsageError
from study.lifecycle.background import detach
from study.search.optuna_study import out_of_time

if TYPE_CHECKING:
    from trainables.data.base import ImageData


def launch(
    source: str,
    /,
    *,
    assignments: Sequence[str],
    out: Path,
    data_root: Path | None,
    address: str | None,
    detached: bool = False,
) -> None:
    """Run a new study and draw its front.

    Args:
        source: YAML file or preset.
        assignments: `key=value` replacements.
        out: Folder in which the study's folder is made.
        data_root: Replaces `dataset.root`.
        address: Replaces `cluster.address`.
        detached: Return once a driver in the background has taken the study.

    Raises:
        UsageError: Bad input of any kind, before anything is started or written.
    """
    start = require(_start(source, assignments=assignments, out=out, data_root=data_root, address=address))
    folder = create(start.config, out)
    if detached:
        detach(folder)
    else:
        run(start.config, folder, data=start.data)


def dry_run(
    source: str | Mapping[str, Any],
    /,
    *,
    assignments: Sequence[str],
    out: Path,
    data_root: Path | None,
    address: str | None,
) -> None:
    """Check what `launch` would check and print what the study would take; see `launch` for the arguments."""
    from study.lifecycle.estimate import print_estimate

    start = require(_start(source, assignments=assignments, out=out, data_root=data_root, address=address))
    if start.data is not None:
        print_estimate(start.config, start.study_dir, data=start.data)


def resume(
    study_dir: Path,
    /,
    *,
    add_trials: int = 0,
    assignments: Sequence[str] = (),
    address: str | None = None,
    detached: bool = False,
) -> None:
    """Finish an interrupted study, or show a complete one again.

    Args:
        study_dir: The study's folder.
        add_trials: Trials it is to have beyond those it was to have.
        assignments: `key=value` replacements of keys that do not change what its trials mean.
        address: Replaces `cluster.address`.
        detached: Return once a driver in the background has taken the study.

    Raises:
        UsageError: The folder holds no study, its config changed in what its trials mean, its data set is not there,
            or another driver runs it.
    """
    before = inherited()
    stored = open_config(study_dir)
    _require_resumable(study_dir)
    config = resolved(load_config(str(study_dir / CONFIG_FILE), assignments=assignments, address=address))
    if add_trials:
        more = {"num_trials": config.search.num_trials + add_trials}
        config = config.model_copy(update={"search": config.search.model_copy(update=more)})
    given = [text.partition("=")[0] for text in assignments]
    start = Start(config, study_dir, is_new=False, given=given)
    if before is None:
        is_complete = count_rows(study_dir) >= config.num_trials or out_of_time(config, study_dir)
        require(start, [check_config] if is_complete else CHECKS.values())
    if config != stored:
        write_yaml(study_dir / CONFIG_FILE, config.to_dict())
    if detached:
        detach(study_dir)
    else:
        run(config, study_dir, data=start.data, before=before)


def _require_resumable(study_dir: Path) -> None:
    """Raise a UsageError where a folder holds new seeds of another study, or another driver runs its study."""
    if read_plan(study_dir) is not None:
        raise UsageError(
            f"{study_dir} holds new seeds of another study: resume them with "
            f"`robust-study confirm {study_dir.parent} --seeds K`"
        )
    other = living_driver(study_dir, say=notes().print)
    if other is not None and other.pid != os.getpid():
        raise refusal(study_dir, other)


def _start(
    source: str | Mapping[str, Any],
    *,
    assignments: Sequence[str],
    out: Path,
    data_root: Path | None,
    address: str | None,
) -> Start:
    """Return the new study that a config describes; its paths, addresses and defaults are resolved here, once."""
    root = None if data_root is None else str(data_root)
    config = resolved(load_config(source, assignments=assignments, data_root=root, address=address))
    return Start(config, out / config.name, is_new=True)


def run(
    config: StudyConfig, study_dir: Path, /, *, data: ImageData | None = None, before: DriverRestart | None = None
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
    with only_driver(study_dir), StopSignals() as interrupts:
        following = _turn(config, study_dir, data=data, before=before, interrupts=interrupts)
    if following is not None:
        hand_over(study_dir, following)


def _turn(
    config: StudyConfig,
    study_dir: Path,
    *,
    data: ImageData | None,
    before: DriverRestart | None,
    interrupts: StopSignals,
) -> DriverRestart | None:
    """Run one driver's share; return its generation when a fresh one is to go on."""
    said = notes()
    if before is None:
        said.print(f"study {config.name}: {_trials(config)} in {study_dir}, tracked in {config.tracking.uri}")
    if config.cluster.address is None:
        listen_locally()
    # imported here: Ray takes seconds, and bad input is answered without it
    from study.driver.restarts import first
    from study.driver.tune_run import RunBrokeError, run_study
    from study.lifecycle.finish import finish

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
