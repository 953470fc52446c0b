"""What commands add to a study's runs after it ended: test values, a report, figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.heldout.measurements import tracked_metrics
from study.config.schema import StudyConfig
from study.config.values import default_uri, missing_file
from study.console import notes
from study.directory.layout import CONFIG_FILE, open_config
from study.directory.seed_plan import read_plan
from study.errors import UsageError
from study.tracking.tracker import FLUSH_SECONDS, Tracker, known_study_id


def add_later(
    config: StudyConfig,
    study_dir: Path,
    put: Callable[[Tracker], None],
    /,
    *,
    what: str,
    parent_study_id: str | None = None,
) -> None:
    """Hand something to the runs of a study that was tracked; what cannot be sent now waits in the study's spool.

    Args:
        config: The study's config.
        study_dir: Its folder.
        put: Hands it to the tracker, by `measured` at the end: that opens no run again, which `start` would.
        what: What it is, in words.
        parent_study_id: Id of the study beneath whose parent run this one's lies.
    """
    study_id = known_study_id(study_dir)
    if study_id is None:
        return
    uri = config.tracking.uri or default_uri()
    if (gone := missing_file(uri)) is not None:
        notes().print(
            f"{gone} is not there, so MLflow does not show {what}; make it with: robust-study sync {study_dir}"
        )
        return
    try:
        tracker = Tracker(
            study=config.name,
            study_id=study_id,
            study_dir=study_dir,
            uri=uri,
            experiment=config.tracking.experiment,
            parent_study_id=parent_study_id,
        )
    except UsageError as error:
        notes().print(f"MLflow does not show {what} yet: {error}", soft_wrap=True)
        return
    put(tracker)
    problem = tracker.close(None, timeout=FLUSH_SECONDS)
    if problem:
        notes().print(f"tracking lacks {what}: {problem}; upload with: robust-study sync {study_dir}", soft_wrap=True)


def add_files(study_dir: Path, paths: Iterable[Path], folder: str, /) -> None:
    """Hand files made of a study to its parent run; nothing where there is no study that was tracked.

    Args:
        study_dir: The study's folder, or an exported file, which has no run.
        paths: The files.
        folder: Where they go among the run's artifacts; also what they are called in notes.
    """
    if not (study_dir / CONFIG_FILE).is_file() or known_study_id(study_dir) is None:
        return
    plan = read_plan(study_dir)

    def put(tracker: Tracker) -> None:
        tracker.artifacts(paths, folder)
        tracker.measured({})

    notes().print(f"adding {folder} to the study's run in MLflow ...")
    add_later(
        open_config(study_dir),
        study_dir,
        put,
        what=folder,
        parent_study_id=None if plan is None else plan.parent_study_id,
    )


def track_tested(
    config: StudyConfig,
    study_dir: Path,
    rows: Sequence[Mapping[str, Any]],
    evaluations: Sequence[Mapping[str, Any]],
    /,
    *,
    parent_study_id: str | None = None,
) -> None:
    """Add trials' test values to their runs; what tracking cannot take now waits in the study's spool.

    Args:
        config: The study's config.
        study_dir: Its folder.
        rows: Result rows of the trials.
        evaluations: Evaluation rows.
        parent_study_id: Id of the study beneath whose parent run this one's lies.
    """
    shown = {row["trial_id"]: tracked_metrics(row, evaluations, study_dir=study_dir) for row in rows}
    metrics = {trial: found for trial, found in shown.items() if found}
    if metrics:
        add_later(
            config,
            study_dir,
            lambda tracker: tracker.measured(metrics),
            what="the test values",
            parent_study_id=parent_study_id,
        )
