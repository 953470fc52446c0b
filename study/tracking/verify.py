"""Reads a study's runs back from MLflow and says what of its result files is not there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.results import read_epochs, read_results
from analysis.schema import EPOCH, RESULT, differing_columns
from study.tracking.names import STUDY, STUDY_TAG, TRIAL_TAG
from study.tracking.rows import metrics, row_from_tags
from study.tracking.store import STATUS, runs_of

if TYPE_CHECKING:
    from mlflow.entities import Run

    from study.tracking.store import Store


def missing(store: Store, study_dir: Path, /, *, study_id: str) -> dict[str, str]:
    """Return what tracking lacks of a study's rows on disk: trial id to what is wrong; empty when all is there.

    Compared for every trial: that it has one run, closed as its row says; every column of the row; the metrics; and
    that each epoch on disk has its step.

    Args:
        store: The study's runs.
        study_dir: The study's folder.
        study_id: What identifies the study.
    """
    found = list(runs_of(store.client, store.experiment_id, f"tags.`{STUDY_TAG}` = '{study_id}'"))
    counts = Counter(run.data.tags.get(TRIAL_TAG) for run in found)
    runs = {run.data.tags.get(TRIAL_TAG): run for run in reversed(found)}
    wanted = epochs_on_disk(study_dir)
    problems: dict[str, str] = {}
    for row in rows_on_disk(study_dir):
        trial = row["trial_id"]
        problem = f"{counts[trial]} runs" if counts[trial] > 1 else _problem(runs.get(trial), row)
        if problem is None and trial in wanted:
            history = store.client.get_metric_history(runs[trial].info.run_id, "epoch")
            steps = sorted(metric.step for metric in history)
            if steps != wanted[trial]:
                problem = f"{len(steps)} steps up to {max(steps, default=0)}, {len(wanted[trial])} on disk"
        if problem is not None:
            problems[trial] = problem
    if STUDY not in counts:
        problems[STUDY] = "no parent run"
    return problems


def rows_on_disk(study_dir: Path, /) -> list[dict[str, Any]]:
    """Return the result rows of a study's folder."""
    if not (study_dir / RESULT.folder).is_dir():
        return []
    rows: list[dict[str, Any]] = read_results(study_dir, skip_damaged=True).to_pylist()
    return rows


def epochs_on_disk(study_dir: Path, /) -> dict[str, list[int]]:
    """Return each trial's epochs, ascending."""
    found: dict[str, list[int]] = {}
    if (study_dir / EPOCH.folder).is_dir():
        table = read_epochs(study_dir, skip_damaged=True)
        for trial, epoch in zip(table["trial_id"].to_pylist(), table["epoch"].to_pylist(), strict=True):
            found.setdefault(trial, []).append(epoch)
    return {trial: sorted(epochs) for trial, epochs in found.items()}


def _problem(run: Run | None, row: Mapping[str, Any]) -> str | None:
    if run is None:
        return "no run"
    there = row_from_tags(run.data.tags)
    if there is None:
        return "its run has no result row"
    differing = differing_columns(there, row, columns={*RESULT.by_name, *row})
    if differing:
        return f"differs in {', '.join(differing)}"
    lacking = [name for name in metrics(row) if name not in run.data.metrics]
    if lacking:
        return f"lacks the metric {lacking[0]}"
    status = STATUS[row["status"]]
    return None if run.info.status == status else f"its run is {run.info.status}, not {status}"
