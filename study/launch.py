"""Launching and resuming a study: everything is checked first, then Ray starts, then the front is drawn."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from study.config import StudyConfig
from study.configfile import load_config
from study.console import notes
from study.errors import UsageError
from study.folder import create, free_folder, open_config, pools, read_rows, resolved
from study.preflight import check_resources
from study.quiet import listen_locally
from study.storage import check_storage
from trainables.data import DataError, check_available, load_dataset
from trainables.data.unlabelled import check_images
from trainables.models import build_model
from trainables.registry import UnknownNameError
from trainables.seeding import seeded

if TYPE_CHECKING:
    from trainables.data.base import ImageData


def launch(
    source: str, /, *, assignments: Sequence[str], out: Path, data_root: Path | None, address: str | None
) -> None:
    """Run a new study and draw its front.

    Args:
        source: YAML file or preset.
        assignments: `key=value` replacements.
        out: Folder in which the study's folder is made.
        data_root: Replaces `dataset.root`.
        address: Replaces `cluster.address`.

    Raises:
        UsageError: Bad input of any kind, before anything is started or written.
    """
    config = _checked(source, assignments=assignments, out=out, data_root=data_root, address=address)
    check_storage(config, free_folder(config, out))
    data = _loaded(config)
    _run(config, create(config, out), data=data)


def dry_run(
    source: str, /, *, assignments: Sequence[str], out: Path, data_root: Path | None, address: str | None
) -> None:
    """Check what `launch` would check and print what the study would take; see `launch` for the arguments."""
    from study.estimate import print_estimate

    config = _checked(source, assignments=assignments, out=out, data_root=data_root, address=address)
    folder = free_folder(config, out)
    check_storage(config, folder)
    print_estimate(config, folder, data=_loaded(config))


def resume(study_dir: Path, /) -> None:
    """Finish an interrupted study, or show a complete one again.

    Raises:
        UsageError: The folder holds no study, or its data set is not there.
    """
    config = open_config(study_dir)
    read_rows([study_dir])
    _check_data(config)
    _run(config, study_dir)


def _checked(
    source: str, *, assignments: Sequence[str], out: Path, data_root: Path | None, address: str | None
) -> StudyConfig:
    root = None if data_root is None else str(data_root)
    config = resolved(load_config(source, assignments=assignments, data_root=root, address=address))
    _check_data(config)
    check_resources(config, out / config.name)
    return config


def _check_data(config: StudyConfig) -> None:
    try:
        check_available(config.dataset)
        for pool in pools(config):
            check_images(pool, root=config.dataset.root)
    except (DataError, UnknownNameError) as error:
        raise UsageError(str(error)) from error


def _loaded(config: StudyConfig) -> ImageData:
    """Return the data set without its test split, once the model is known to take its images.

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
            build_model(
                config.model.name,
                image_shape=data.image_shape,
                num_classes=data.num_classes,
                dropout=config.model.dropout,
                mean=data.mean,
                std=data.std,
            )
    except ValueError as error:
        raise UsageError(str(error)) from error
    return data


def _trials(config: StudyConfig) -> str:
    search = config.search
    found = f"{config.num_trials} trials"
    if search.sampler == "grid":
        size = len(config.space().grid())
        found += f" of a grid of {size} points" if config.num_trials < size else f", all of a grid of {size} points"
    return found if search.time_budget is None else f"{found} or {search.time_budget}, whichever comes first,"


def _run(config: StudyConfig, study_dir: Path, *, data: ImageData | None = None) -> None:
    notes().print(
        f"study {config.name}: {_trials(config)} in {study_dir}, tracked in {config.tracking.uri}",
    )
    if config.cluster.address is None:
        listen_locally()
    # imported here: Ray takes seconds, and bad input is answered without it
    from study.driver import run_study
    from study.finish import finish

    tracker = run_study(config, study_dir, data=data)
    if not finish(config, study_dir, tracker=tracker):
        sys.exit(1)
