"""Launches and resumes studies: checks everything, runs the trials, and draws the front."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.cluster.preflight import CHECKS, check_config, require
from study.cluster.ray_settings import listen_locally
from study.cluster.start import Start, new_start
from study.config.loading import load_config, write_yaml, yaml_text
from study.config.paths import resolved
from study.config.schema import StudyConfig
from study.config.trust import own_code, remember
from study.console import notes, quoted, results
from study.directory.layout import CONFIG_FILE, create, open_config, recorded_id
from study.directory.lock import living_driver, only_driver, refusal
from study.directory.rows import count_rows
from study.directory.seed_plan import read_plan
from study.driver.signals import StopSignals
from study.errors import UsageError
from study.lifecycle.background import detach
from study.search.optuna_study import out_of_time
from study.search.storage import move_trials

if TYPE_CHECKING:
    from trainables.data.base import ImageData


def launch(
    source: str | Mapping[str, Any],
    /,
    *,
    assignments: Sequence[str],
    out: Path,
    data_root: Path | None,
    address: str | None,
    dry_run: bool = False,
    verbose: bool = False,
    detached: bool = False,
) -> None:
    """Run a new study, described by the arguments of `study.cluster.preflight.new_start`, and draw its front.

    With `dry_run`, only run the checks, and print the time and disk space needed; with `verbose`, before that the
    config with all its defaults. With `detached`, run the study in the background, and return once its driver has
    started.

    Raises:
        UsageError: The input is invalid; nothing has been started or written.
    """
    if verbose and not dry_run:
        raise UsageError("--verbose shows the config of a --dry-run: add --dry-run")
    start = new_start(source, assignments=assignments, out=out, data_root=data_root, address=address)
    if verbose:
        results().print(yaml_text(start.config.to_dict()))
    require(start)
    if dry_run:
        from study.lifecycle.estimate import print_estimate

        if start.data is not None:
            print_estimate(start.config, start.study_dir, data=start.data, nodes=start.nodes())
        return
    folder = create(start.config, out)
    remember(folder, own_code(start.config.to_dict()), study_id=recorded_id(folder))
    if detached:
        detach(folder)
    else:
        run(start.config, folder, data=start.data)


def resume(
    study_dir: Path,
    /,
    *,
    add_trials: int = 0,
    assignments: Sequence[str] = (),
    address: str | None = None,
    detached: bool = False,
    move_storage: bool = False,
) -> None:
    """Finish an interrupted study, or show a complete one again.

    Args:
        study_dir: The study's folder.
        add_trials: Number of trials to add to the study's `search.num_trials`.
        assignments: `key=value` replacements of keys that leave its trials comparable.
        address: Replaces `cluster.address`.
        detached: Run the study in the background, and return once its driver has started.
        move_storage: Copy Optuna's trials to the `storage.optuna` that `assignments` name.

    Raises:
        UsageError: There is no study in the folder, a change of its config would make its trials incomparable, its
            data set is missing, its storage changes without `move_storage`, or another driver runs it.
    """
    stored = open_config(study_dir)
    if read_plan(study_dir) is not None:
        raise UsageError(
            f"{study_dir} has the new seeds of another study: resume them with "
            f"`robust-study confirm {quoted(study_dir.parent)} --seeds K`"
        )
    other = living_driver(study_dir)
    if other is not None and other.pid != os.getpid():
        raise refusal(study_dir, other)
    config = resolved(load_config(stored.to_dict(), assignments=assignments, address=address))
    if add_trials:
        config = with_more_trials(config, add_trials)
    _check_place(stored, config, study_dir, move=move_storage)
    given = [text.partition("=")[0] for text in assignments]
    # checked where the trials are: nothing is copied before
    start = Start(_placed(config, stored.storage.optuna), study_dir, is_new=False, given=given)
    is_complete = count_rows(study_dir) >= config.num_trials or out_of_time(start.config, study_dir)
    require(start, [check_config] if is_complete else CHECKS.values())
    if move_storage:
        with only_driver(study_dir):
            move_trials(start.config, study_dir, to=config)
            write_yaml(study_dir / CONFIG_FILE, config.to_dict())
        notes().print(f"Optuna's trials are copied to {_place(config)}; those in {_place(stored)} are no longer used")
    elif config != stored:
        write_yaml(study_dir / CONFIG_FILE, config.to_dict())
    remember(study_dir, own_code(config.to_dict()), study_id=recorded_id(study_dir))
    if detached:
        detach(study_dir)
    else:
        run(config, study_dir, data=start.data)


def _check_place(stored: StudyConfig, config: StudyConfig, study_dir: Path, /, *, move: bool) -> None:
    """Check that the search's storage stays where it is, or is to be moved to another place."""
    before, now = _place(stored), _place(config)
    if move and before == now:
        raise UsageError("--move-storage needs the new place: --set storage.optuna=...")
    if not move and before != now:
        raise UsageError(
            f"`storage.optuna` is {before} in {study_dir / CONFIG_FILE}, where the trials are, and would be {now}: add "
            "--move-storage to copy them there, or leave out its --set"
        )


def _place(config: StudyConfig) -> str:
    return config.storage.optuna or "null (optuna.db in the study's folder)"


def _placed(config: StudyConfig, storage: str | None, /) -> StudyConfig:
    return config.model_copy(update={"storage": config.storage.model_copy(update={"optuna": storage})})


def run(config: StudyConfig, study_dir: Path, /, *, data: ImageData | None = None) -> None:
    """Run a study's missing trials, draw its front, and exit with a status code unless all went well.

    Args:
        config: The study's config.
        study_dir: Its folder.
        data: The data set without its test split; loaded when None and there are trials to run.

    Raises:
        UsageError: Another driver runs the study.
        SystemExit: 1 when trials are missing or all failed, 130 or 143 when a signal ended it.
    """
    console = notes()
    with only_driver(study_dir), StopSignals() as interrupts:
        trials = trials_phrase(config) + ("" if config.search.time_budget is None else ",")
        console.print(f"study {config.name}: {trials} in {study_dir}, tracked in {config.tracking.uri}")
        console.print(f"follow it here: robust-study status {quoted(study_dir)} --watch")
        if config.cluster.address is None:
            listen_locally()
        # imported here: Ray takes seconds to import, and input is checked before
        from study.driver.tune_run import RunFailedError, run_study
        from study.lifecycle.finish import finish

        try:
            tracker = run_study(config, study_dir, data=data, interrupts=interrupts)
        except RunFailedError as error:
            console.print(f"the run failed: {error}")
            tracker = error.tracker
        if not finish(config, study_dir, tracker=tracker, stopped=lambda: interrupts.requested):
            sys.exit(interrupts.exit_code or 1)


def with_more_trials(config: StudyConfig, by: int, /) -> StudyConfig:
    """Return the config of a study with `by` more trials.

    Raises:
        UsageError: Its grid has no more.
    """
    search = config.search.model_copy(update={"num_trials": config.search.num_trials + by})
    extended = config.model_copy(update={"search": search})
    if extended.num_trials == config.num_trials:  # a grid ends at its last point
        raise UsageError(
            f"--add-trials has no trials to add: the grid has {config.num_trials}; more seeds of each point are added "
            f"by --set search.seeds={search.seeds + 1}"
        )
    return extended


def trials_phrase(config: StudyConfig, /) -> str:
    """Return how many trials a study runs, "4 trials of a grid of 15 points"."""
    search = config.search
    trials = f"{config.num_trials} trials"
    if search.sampler == "grid":
        size = len(config.space().grid())
        grid = f"a grid of {size} points" + (f", {search.seeds} seeds each" if search.seeds > 1 else "")
        trials += f" of {grid}" if config.num_trials < size * search.seeds else f", all of {grid}"
    return trials if search.time_budget is None else f"{trials} or {search.time_budget}, whichever comes first"
