"""What commands add to the runs of a study that has ended: test values, the report, figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.heldout.measurements import tracked_metrics
from study.config.file_urls import default_uri, missing_file
from study.config.schema import StudyConfig
from study.console import notes, quoted
from study.directory.layout import CONFIG_FILE, open_config
from study.errors import UsageError
from study.tracking.tracker import FLUSH_SECONDS, Tracker, known_study_id, open_tracker


def _upload(config: StudyConfig, study_dir: Path, record: Callable[[Tracker], None], /, *, what: str) -> None:
    """Add something to the runs of a tracked study, which `record` leaves closed; what cannot be sent waits."""
    study_id = known_study_id(study_dir)
    if study_id is None:
        return
    uri = config.tracking.uri or default_uri()
    if (database := missing_file(uri)) is not None:
        notes().print(
            f"MLflow is missing {what}, since {database} does not exist; create it with: "
            f"robust-study sync {quoted(study_dir)}"
        )
        return
    try:
        tracker = open_tracker(config, study_dir, study_id=study_id)
    except UsageError as error:
        notes().print(f"MLflow is missing {what}: {error}")
        return
    record(tracker)
    problem = tracker.close(None, timeout=FLUSH_SECONDS)
    if problem:
        notes().print(f"MLflow is missing {what}: {problem}; upload with: robust-study sync {quoted(study_dir)}")


def add_files(study_dir: Path, paths: Iterable[Path], folder: str, /) -> None:
    """Upload files made from a study to its parent run; do nothing if the study was not tracked.

    Args:
        study_dir: The study's folder, or an exported file, which has no run.
        paths: The files.
        folder: The run's artifact folder; also the name of the files in messages.
    """
    if not (study_dir / CONFIG_FILE).is_file() or known_study_id(study_dir) is None:
        return

    def record(tracker: Tracker) -> None:
        tracker.artifacts(paths, folder)
        tracker.measured({})

    notes().print(f"adding the {folder} to the study's run in MLflow ...")
    _upload(open_config(study_dir), study_dir, record, what=f"the {folder}")


def track_tested(
    config: StudyConfig, study_dir: Path, rows: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]], /
) -> None:
    """Add trials' test values to their runs; what cannot be sent now waits in the study's spool.

    The trials are given by their result rows, their values by evaluation rows.
    """
    by_trial = {row["trial_id"]: tracked_metrics(row, evaluations, study_dir=study_dir) for row in rows}
    metrics = {trial: values for trial, values in by_trial.items() if values}
    if metrics:
        _upload(config, study_dir, lambda tracker: tracker.measured(metrics), what="the test values")
