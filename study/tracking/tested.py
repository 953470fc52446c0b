"""What MLflow shows of test: numbers added to the runs of the trials that were measured there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.heldout.measurements import tracked_metrics
from study.config import StudyConfig
from study.tracking.later import add_later


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
    shown = {row["trial_id"]: tracked_metrics(row, evaluations, study_dir=study_dir) for row in rows}
    metrics = {trial: found for trial, found in shown.items() if found}
    if metrics:
        add_later(config, study_dir, lambda tracker: tracker.measured(metrics), what="the test values", beneath=beneath)
