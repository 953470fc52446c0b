"""Reads a study's runs back from MLflow and says what of its result files is not there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.data.results import read_epochs, read_results
from analysis.data.schema import EPOCH, RESULT, differing_columns
from study.tracking.artifacts import attached
from study.tracking.client import STATUS, runs_of, short, whole_row
from study.tracking.row_mapping import (
    ON_FRONT,
    OUTCOME_TAGS,
    PARENT_TAG,
    STUDY,
    STUDY_TAG,
    TRIAL_TAG,
    differing_metrics,
    differing_params,
    tags,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from study.tracking.store import Store

ARTIFACTS = "artifacts: "
"""How the problem of a run begins that lacks nothing but artifacts."""
READERS = 8
"""Runs looked at at a time."""

Row = Mapping[str, Any]


def missing(store: Store, study_dir: Path, /, *, study_id: str, front: Collection[str] | None = None) -> dict[str, str]:
    """Return what tracking lacks of a study's rows on disk: trial id to what is wrong; empty when all is there.

    Compared for every trial: that it has one run beneath the parent, closed as its row says; every column of the row;
    parameters, tags and the latest value of every metric; that each epoch on disk has its step; its artifacts.

    Args:
        store: The study's runs.
        study_dir: The study's folder.
        study_id: What identifies the study.
        front: Ids of the trials that should be tagged as the front's; None compares no such tag.
    """
    found = list(runs_of(store.client, store.experiment_id, f"tags.`{STUDY_TAG}` = '{study_id}'"))
    counts = Counter(run.data.tags.get(TRIAL_TAG) for run in found)
    runs = {run.data.tags.get(TRIAL_TAG): run for run in reversed(found)}
    problems: dict[str, str] = {} if STUDY in counts else {STUDY: "no parent run"}
    epochs, files = epochs_on_disk(study_dir), attached(study_dir)
    reader = _Reader(client=store.client, parent=store.parent.run_id, front=front)

    def problem(row: Row) -> str | None:
        trial = row["trial_id"]
        if counts[trial] != 1:
            return f"{counts[trial]} runs" if counts[trial] else "no run"
        return reader.problem(runs[trial], row, epochs=epochs.get(trial, []), files=files.get(trial, []))

    with ThreadPoolExecutor(READERS) as pool:
        rows = rows_on_disk(study_dir)
        said = zip(rows, pool.map(problem, rows), strict=True)
        return problems | {row["trial_id"]: text for row, text in said if text is not None}


def rows_on_disk(study_dir: Path, /) -> list[dict[str, Any]]:
    """Return the result rows of a study's folder."""
    if not (study_dir / RESULT.folder).is_dir():
        return []
    rows: list[dict[str, Any]] = read_results(study_dir, skip_damaged=True).to_pylist()
    return rows


def epochs_on_disk(study_dir: Path, /) -> dict[str, list[dict[str, Any]]]:
    """Return each trial's epoch rows, ascending."""
    found: dict[str, list[dict[str, Any]]] = {}
    if (study_dir / EPOCH.folder).is_dir():
        for row in read_epochs(study_dir, skip_damaged=True).to_pylist():
            found.setdefault(row["trial_id"], []).append(row)
    return found


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """Compares runs with what is on disk.

    Attributes:
        client: Of the store.
        parent: Id of the parent run.
        front: Ids of the front's trials, where they are known.
    """

    client: MlflowClient
    parent: str
    front: Collection[str] | None

    def problem(self, run: Run, row: Row, /, *, epochs: Sequence[Row], files: Sequence[str]) -> str | None:
        """Return the first thing wrong with a trial's run, what costs no request before what does."""
        return self._of_itself(run, row, epochs) or self._of_steps(run, epochs) or self._of_files(run, files)

    def _of_itself(self, run: Run, row: Row, epochs: Sequence[Row]) -> str | None:
        data, there = run.data, whole_row(run)
        if there is None:
            return "its run has no whole result row"
        if differing := differing_columns(there, row, columns={*RESULT.by_name, *row}):
            return f"differs in {', '.join(differing)}"
        if wrong := differing_metrics(data.metrics, row, epochs):
            name, value = next(iter(wrong.items()))
            return f"the metric {name} is {data.metrics.get(name, 'missing')}, not {value}"
        if names := differing_params(data.params, row):
            return f"the parameter {names[0]} is {data.params.get(names[0], 'missing')}, not {row[names[0]]}"
        wanted: dict[str, str | None] = {**dict.fromkeys(OUTCOME_TAGS), **tags(row), PARENT_TAG: self.parent}
        if self.front is not None:
            wanted[ON_FRONT] = "true" if row["trial_id"] in self.front else None
        for name, text in wanted.items():
            if data.tags.get(name) != text:
                return f"the tag {name} is {data.tags.get(name, 'missing')}, not {text or 'absent'}"
        status = STATUS[row["status"]]
        return None if run.info.status == status else f"its run is {run.info.status}, not {status}"

    def _of_steps(self, run: Run, epochs: Sequence[Row]) -> str | None:
        if not epochs:
            return None
        steps = sorted(point.step for point in self.client.get_metric_history(run.info.run_id, "epoch"))
        if steps == [row["epoch"] for row in epochs]:
            return None
        return f"{len(steps)} steps up to {max(steps, default=0)}, {len(epochs)} on disk"

    def _of_files(self, run: Run, files: Sequence[str]) -> str | None:
        try:
            folders = {path.partition("/")[0] for path in files}
            there = {item.path for folder in folders for item in self.client.list_artifacts(run.info.run_id, folder)}
        except Exception as error:  # noqa: BLE001 - each kind of artifact store raises its own
            return f"{ARTIFACTS}cannot be listed: {short(error)}"
        lacking = sorted({*files} - there)
        return f"{ARTIFACTS}no {lacking[0]}" if lacking else None
