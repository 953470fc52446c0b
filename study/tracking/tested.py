"""What MLflow shows of test: numbers added to the runs of the trials that were measured there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.evaluations import tracked_metrics
from study.config import StudyConfig
from study.console import notes
from study.errors import UsageError
from study.tracking.tracker import FLUSH_SECONDS, Tracker, known_study_id


def track_tested(
    config: StudyConfig,
    study_dir: Path,
    rows: Sequence[Mapping[str, Any]],
    evaluations: Sequence[Mapping[str, Any]],
    /,
    *,
    beneath: str | None = None,
) -> None:
    """Add trials' test values to their runs; what tracking cannot take now waits in the study's spool.

    Args:
        config: The study's config.
        study_dir: Its folder.
        rows: Result rows of the trials.
        evaluations: Evaluation rows.
        beneath: Id of the study beneath whose parent run this one's lies.
    """
    study_id = known_study_id(study_dir)
    metrics = {row["trial_id"]: found for row in rows if (found := tracked_metrics(row, evaluations))}
    if study_id is None or not metrics:
        return
    try:
        tracker = Tracker(
            study=config.name,
            study_id=study_id,
            study_dir=study_dir,
            uri=config.tracking.uri,
            experiment=config.tracking.experiment,
            beneath=beneath,
        )
    except UsageError as error:
        notes().print(f"MLflow does not show the test values yet: {error}")
        return
    tracker.measured(metrics)
    problem = tracker.close(None, timeout=FLUSH_SECONDS)
    if problem:
        notes().print(f"tracking lacks the test values: {problem}; upload them with: robust-study sync {study_dir}")
