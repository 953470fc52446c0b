"""Launching and resuming a study: everything is checked first, then Ray starts, then the front is drawn."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.cluster.preflight import check_machines
from study.cluster.ray_settings import listen_locally
from study.config.changes import check_unchanged
from study.config.loading import load_config, write_yaml
from study.config.paths import pools, resolved
from study.config.schema import StudyConfig
from study.console import notes
from study.directory.disk import check_disk, checkpoint_bytes, disk_need
from study.directory.layout import CONFIG_FILE, create, free_folder, open_config
from study.directory.lock import living_driver, only_driver, refusal
from study.directory.rows import read_rows
from study.directory.seed_plan import read_plan
from study.driver.restarts import DriverRestart, hand_over, inherited, peak_memory_mb
from study.driver.signals import StopSignals
from study.errors import UsageError
from study.lifecycle.background import detach
from study.search.optuna_study import out_of_time
from study.search.storage import check_storage
from study.tracking.availability import endangered
from trainables.data import DataError, check_available, load_dataset
from trainables.data.unlabelled import check_images
from trainables.models import build_model
from trainables.registry import UnknownNameError
from trainables.seeding import seeded

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
    config = _checked(source, assignments=assignments, out=out, data_root=data_root, address=address)
    check_storage(config, free_folder(config, out))
    data, weights = _loaded(config)
    need = disk_need(config, checkpoint=checkpoint_bytes(weights, config), val_size=len(data.val))
    warning = check_disk(need, config, out / config.name)
    if warning:
        notes().print(warning)
    _warn_of_tracking(config)
    folder = create(config, out)
    if detached:
        detach(folder)
    else:
        run(config, folder, data=data)


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

    config = _checked(source, assignments=assignments, out=out, data_root=data_root, address=address)
    folder = free_folder(config, out)
    check_storage(config, folder)
    print_estimate(config, folder, data=_loaded(config)[0])
    _warn_of_tracking(config)


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
    if read_plan(study_dir) is not None:
        raise UsageError(
            f"{study_dir} holds new seeds of another study: go on with `robust-study confirm {study_dir.parent} "
            "--seeds K`"
        )
    other = living_driver(study_dir, say=notes().print)
    if other is not None and other.pid != os.getpid():
        raise refusal(study_dir, other)
    config = load_config(str(study_dir / CONFIG_FILE), assignments=assignments, address=address)
    if add_trials:
        more = {"num_trials": config.search.num_trials + add_trials}
        config = config.model_copy(update={"search": config.search.model_copy(update=more)})
    read_rows([study_dir])
    if before is None:
        _check_meaning(config, study_dir, assignments)
    _check_data(config)
    if config != stored:
        write_yaml(study_dir / CONFIG_FILE, config.to_dict())
    if detached:
        detach(study_dir)
    else:
        run(config, study_dir, before=before)


def _warn_of_tracking(config: StudyConfig) -> None:
    """Say that MLflow's file may be lost; `sync` brings back what it held, so that this refuses nothing."""
    uri = str(config.tracking.uri)
    problem = endangered(uri)
    if problem:
        notes().print(f"MLflow's store {uri} {problem}. The results do not depend on it")


def _check_meaning(config: StudyConfig, study_dir: Path, assignments: Sequence[str]) -> None:
    from study.search.optuna_study import recorded_config

    recorded = recorded_config(config, study_dir)
    if recorded is not None:
        given = [text.partition("=")[0] for text in assignments]
        check_unchanged(recorded, config, where=str(study_dir / CONFIG_FILE), given=given)


def _checked(
    source: str | Mapping[str, Any],
    *,
    assignments: Sequence[str],
    out: Path,
    data_root: Path | None,
    address: str | None,
) -> StudyConfig:
    root = None if data_root is None else str(data_root)
    config = resolved(load_config(source, assignments=assignments, data_root=root, address=address))
    _check_data(config)
    check_machines(config, out / config.name)
    return config


def _check_data(config: StudyConfig) -> None:
    try:
        check_available(config.dataset)
        for pool in pools(config):
            check_images(pool, root=config.dataset.root)
    except (DataError, UnknownNameError) as error:
        raise UsageError(str(error)) from error


def _loaded(config: StudyConfig) -> tuple[ImageData, int]:
    """Return the data set without its test split, once the model is known to take its images, and its weights' bytes.

    Raises:
        UsageError: The data set or the model does not fit the config.
    """
    evaluation = config.evaluation
    try:
        data = load_dataset(config.dataset).without_test()
        largest = math.sqrt(math.prod(data.image_shape))
        if evaluation.norm == "l2" and evaluation.epsilon > largest:
            raise UsageError(
                f"`evaluation.epsilon` must be in [0, {largest:g}] in l2 on images of {data.image_shape}, "
                f"got {evaluation.epsilon:g}"
            )
        with seeded(config.search.seed, "check"):
            model = build_model(
                config.model.name,
                image_shape=data.image_shape,
                num_classes=data.num_classes,
                dropout=config.model.dropout,
                mean=data.mean,
                std=data.std,
            )
    except ValueError as error:
        raise UsageError(str(error)) from error
    return data, sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())


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
    from study.directory.rows import count_rows
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
