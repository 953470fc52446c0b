"""Starts the tracking of a study that runs, and prints where MLflow shows it."""

from __future__ import annotations

import uuid
from functools import partial
from pathlib import Path
from typing import Any

from study.config.schema import StudyConfig
from study.config.values import is_server
from study.console import notes, quoted
from study.directory.checkpoint_folder import owner_of
from study.directory.seed_plan import read_plan
from study.driver.result_writer import ResultWriter
from study.search.optuna_study import CONFIG_ATTRIBUTE
from study.tracking.study_metadata import settings_of_all_trials, study_params, study_tags
from study.tracking.tracker import Tracker, known_study_id, open_tracker


def _print_links(table: str, charts: str, *, served_by: str | None) -> None:
    """Print where MLflow shows a study; `served_by` is the command that serves it, None for a server."""
    where = "" if served_by is None else f", served by: {served_by}"
    notes().print(f"follow it in MLflow{where}\n  table:  {table}\n  charts: {charts}")


def started_tracker(config: StudyConfig, study_dir: Path, *, study: Any, result_writer: ResultWriter) -> Tracker:
    """Record the study's id and config in the Optuna study, open its tracker, and start it with what it has so far."""
    if "study_id" not in study.user_attrs:
        study.set_user_attr("study_id", _study_id(study_dir))
    if study.user_attrs.get(CONFIG_ATTRIBUTE) != config.to_dict():
        study.set_user_attr(CONFIG_ATTRIBUTE, config.to_dict())
    tracker = open_tracker(config, study_dir, study_id=study.user_attrs["study_id"])
    served_by = None if is_server(tracker.uri) else f"robust-study ui {quoted(study_dir)}"
    on_open = partial(_print_links, served_by=served_by)
    tracker.start(params=study_params(config), tags=study_tags(config), on_open=on_open)
    tracker.view(settings_of_all_trials(config))
    tracker.settle(result_writer.read())
    standing = result_writer.standing
    if standing.done:  # a driver that was killed between a row and its point of the charts never sent that one
        tracker.study_reported(standing.done, standing.metrics())
    return tracker


def _study_id(study_dir: Path) -> str:
    """Return the id of a study that its Optuna study does not have: as tracked before, or its own, or a new one."""
    own = None if read_plan(study_dir) is not None else owner_of(study_dir)
    return known_study_id(study_dir) or (uuid.uuid4().hex if own is None else own.id)
