"""Launching and resuming a study: everything is checked first, then Ray starts, then the front is drawn."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.config import StudyConfig
from study.configfile import load_config, write_yaml
from study.console import notes
from study.detached import detach
from study.disk import check_disk, checkpoint_bytes, disk_need
from study.drivers import living_driver, refusal
from study.errors import UsageError
from study.folder import CONFIG_FILE, create, free_folder, open_config, pools, read_rows, resolved
from study.generations import inherited
from study.meaning import check_unchanged
from study.preflight import check_machines
from study.replicas import read_plan
from study.run import run
from study.storage import check_storage
from study.tracking.reach import endangered
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
    from study.estimate import print_estimate

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
    from study.searcher import recorded_config

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
