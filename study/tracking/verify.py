"""Reading a study's runs back from MLflow and comparing them with its result files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.data.results import read_epochs, read_results
from analysis.data.schema import EPOCH, RESULT, differing_columns
from study.errors import short
from study.tracking.artifacts import expected_artifacts
from study.tracking.client import STATUS, runs_of, stored_row
from study.tracking.row_mapping import (
    OUTCOME_TAGS,
    PARENT_TAG,
    STUDY,
    STUDY_TAG,
    TRIAL_TAG,
    along_front,
    differing_metrics,
    differing_params,
    front_tags,
    tags,
)
from study.tracking.shared_view import CLEAN

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from study.tracking.store import Store

ARTIFACTS = "artifacts: "
"""Prefix of the problem of a run that is missing only artifacts."""
READERS = 8
"""Runs compared at a time."""

Row = Mapping[str, Any]


def missing(store: Store, study_dir: Path, /, *, study_id: str, front: Collection[str] | None = None) -> dict[str, str]:
    """Return what MLflow is missing of a study's rows on disk, by trial id; empty if nothing.

    Compared for every trial: one run, nested under the parent's, with the status of the row; every column of the row;
    parameters, tags and the latest value of every metric; a step for each epoch on disk; artifacts.

    Args:
        store: The study's runs.
        study_dir: The study's folder.
        study_id: Identifies the study.
        front: Ids of the trials that must have the front's tags; None skips these tags.
    """
    all_runs = list(runs_of(store.client, store.experiment_id, f"tags.`{STUDY_TAG}` = '{study_id}'"))
    counts = Counter(run.data.tags.get(TRIAL_TAG) for run in all_runs)
    runs = {run.data.tags.get(TRIAL_TAG): run for run in reversed(all_runs)}
    problems: dict[str, str] = {} if STUDY in counts else {STUDY: "no parent run"}
    epochs: dict[str, list[Row]] = {}  # ascending
    if (study_dir / EPOCH.folder).is_dir():
        for row in read_epochs(study_dir, skip_damaged=True).to_pylist():
            epochs.setdefault(row["trial_id"], []).append(row)
    files = expected_artifacts(study_dir)
    client, parent = store.client, store.parent.run_id
    rows = rows_on_disk(study_dir)
    along = None if front is None else along_front(front, {row["trial_id"]: row[CLEAN] or 0.0 for row in rows})

    def problem(row: Row) -> str | None:
        trial = row["trial_id"]
        if counts[trial] != 1:
            return f"{counts[trial]} runs" if counts[trial] else "no run"
        run, steps = runs[trial], epochs.get(trial, [])
        # what needs no request is compared first
        problem = _in_run(run, row, steps, parent=parent, front=along) or _in_steps(client, run, steps)
        return problem or _in_artifacts(client, run, files.get(trial, []))

    with ThreadPoolExecutor(READERS) as pool:
        answers = zip(rows, pool.map(problem, rows), strict=True)
        return problems | {row["trial_id"]: text for row, text in answers if text is not None}


def rows_on_disk(study_dir: Path, /) -> list[dict[str, Any]]:
    """Return the result rows of a study's folder."""
    if not (study_dir / RESULT.folder).is_dir():
        return []
    rows: list[dict[str, Any]] = read_results(study_dir, skip_damaged=True).to_pylist()
    return rows


def _in_run(run: Run, row: Row, epochs: Sequence[Row], *, parent: str, front: Sequence[str] | None) -> str | None:
    data, stored = run.data, stored_row(run)
    if stored is None:
        return "its run has no complete result row"
    if differing := differing_columns(stored, row, columns={*RESULT.by_name, *row}):
        return f"differs in {', '.join(differing)}"
    if wrong := differing_metrics(data.metrics, row, epochs):
        name, value = next(iter(wrong.items()))
        return f"the metric {name} is {data.metrics.get(name, 'missing')}, not {value}"
    if names := differing_params(data.params, row):
        return f"the parameter {names[0]} is {data.params.get(names[0], 'missing')}, not {row[names[0]]}"
    expected: dict[str, str | None] = {**dict.fromkeys(OUTCOME_TAGS), **tags(row), PARENT_TAG: parent}
    if front is not None:
        expected |= front_tags(row["trial_id"], front)
    for name, text in expected.items():
        if data.tags.get(name) != text:
            return f"the tag {name} is {data.tags.get(name, 'missing')}, not {text or 'absent'}"
    status = STATUS[row["status"]]
    return None if run.info.status == status else f"its run is {run.info.status}, not {status}"


def _in_steps(client: MlflowClient, run: Run, epochs: Sequence[Row]) -> str | None:
    if not epochs:
        return None
    steps = sorted(point.step for point in client.get_metric_history(run.info.run_id, "epoch"))
    if steps == [row["epoch"] for row in epochs]:
        return None
    return f"{len(steps)} steps up to {max(steps, default=0)}, {len(epochs)} on disk"


def _in_artifacts(client: MlflowClient, run: Run, files: Sequence[str]) -> str | None:
    try:
        folders = {path.partition("/")[0] for path in files}
        listed = {item.path for folder in folders for item in client.list_artifacts(run.info.run_id, folder)}
    except Exception as error:  # noqa: BLE001 - each kind of artifact store raises its own
        return f"{ARTIFACTS}cannot be listed: {short(error)}"
    absent = sorted({*files} - listed)
    return f"{ARTIFACTS}no {absent[0]}" if absent else None
