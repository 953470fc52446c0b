"""A study in an MLflow store: one parent run, one child run for each trial, and what each event does to them."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.data.results import read_epochs
from analysis.data.schema import differing_columns
from study.errors import short
from study.tracking.artifacts import artifact_files, log_model, own_file
from study.tracking.client import (
    OPEN,
    STATUS,
    TrackedRun,
    connect,
    dataset_input,
    experiment_id,
    is_refusal,
    parent_tags,
    points,
    runs_of,
    tracked_run,
    user_name,
)
from study.tracking.row_mapping import (
    OUTCOME_TAGS,
    PARENT_TAG,
    ROW_TAG,
    STUDY,
    STUDY_TAG,
    TRIAL_TAG,
    along_front,
    differing_metrics,
    epoch_metrics,
    front_tags,
    metrics,
    param_text,
    params,
    row_tags,
    tags,
    trial_times,
)
from study.tracking.shared_view import CLEAN, set_note, set_view

if TYPE_CHECKING:
    from mlflow.entities import Metric

logger = logging.getLogger(__name__)

ARTIFACT_PAUSE = 300.0
"""Seconds without uploads after the artifact store failed: each attempt may take minutes to fail."""


class Store:
    """The runs of one study, found by their tags or created.

    Every event may be applied twice: what has arrived is recognised by its run, its step or its time.

    Args:
        uri: Tracking URI.
        experiment: Experiment name.
        study: The study's name, also the parent run's.
        study_id: Identifies the study, independent of its name and folder.
        study_dir: The study's folder; artifacts' paths are relative to it.
        started: When the study started, in milliseconds since 1970; None is now.
        parent_study_id: Id of the study that this one confirms.

    Attributes:
        refused: What the store refused, and why.
        artifact_error: Why the last upload of an artifact failed; empty if none did.
    """

    def __init__(
        self,
        *,
        uri: str,
        experiment: str,
        study: str,
        study_id: str,
        study_dir: Path,
        started: int | None = None,
        parent_study_id: str | None = None,
    ) -> None:
        self.client = connect(uri)
        self.experiment_id = experiment_id(self.client, experiment)
        self.refused: list[str] = []
        self.artifact_error = ""
        self._artifacts_from = 0.0
        self.runs: dict[str, TrackedRun] = {}
        self._study_id = study_id
        self._dir = study_dir
        for run in runs_of(self.client, self.experiment_id, f"tags.`{STUDY_TAG}` = '{study_id}'"):
            self.runs.setdefault(run.data.tags.get(TRIAL_TAG, ""), tracked_run(run))
        study_tags = {"study": study} | parent_tags(self.client, self.experiment_id, parent_study_id)
        self.parent = self._open(STUDY, run_name=study, tags=study_tags, started=started)

    def apply(self, events: Iterable[Mapping[str, Any]], /) -> None:
        """Send events to the runs; one that the store refuses is skipped and listed in `refused`.

        Raises:
            Exception: The store cannot be reached; the same events may be applied again.
        """
        for run in self.runs.values():
            run.pending.clear()
        for event in events:
            self._guarded(event["kind"], lambda event=event: getattr(self, f"_on_{event['kind']}")(event))
        for run in list(self.runs.values()):
            self._guarded("epoch", lambda run=run: self._send_epochs(run))

    def repair(
        self, rows: Iterable[Mapping[str, Any]], /, *, unattached: Collection[str], front: Iterable[str] | None
    ) -> None:
        """Log trials' ends again, comparing every part of their runs.

        Args:
            rows: The trials' result rows.
            unattached: Ids of the trials of which only artifacts are missing.
            front: Ids of the front's members; None leaves the tags as they are.
        """
        self._artifacts_from = 0.0
        for row in rows:
            now = int(time.time() * 1000)
            started, ended = trial_times(row) or (now, now)
            run = self._child(row["trial_id"], tags=tags(row), started=started)
            if row["trial_id"] in unattached:
                self._attach(run, row["trial_id"])
                continue
            run.row, run.suspect = None, True
            self._guarded("end", lambda event={"row": row, "time": now, "ended": ended}: self._on_end(event))
        if front is not None:
            self._on_front({"trials": list(front)})

    def steps(self, run: TrackedRun, name: str = "epoch", /) -> set[int]:
        """Return the epochs at which a run has points of a metric."""
        if name not in run.steps:
            run.steps[name] = {point.step for point in self.client.get_metric_history(run.run_id, name)}
        return run.steps[name]

    def _guarded(self, what: str, action: Any) -> None:
        try:
            action()
        except Exception as error:  # any other than a refusal is raised again
            if not is_refusal(error):
                raise
            logger.debug("refused: %s", what, exc_info=True)
            self.refused.append(f"{what}: {short(error)}")

    def _on_study(self, event: Mapping[str, Any]) -> None:
        self._reopen(self.parent)
        logged = self.parent.params
        new = {name: param_text(value) for name, value in event["params"].items() if value is not None}
        # parameters cannot change in MLflow: a changed setting (more trials) is logged as a tag
        changed = {name: value for name, value in new.items() if name in logged and logged[name] != value}
        fresh = {name: value for name, value in new.items() if name not in logged}
        self._log(self.parent, params=fresh, tags={**event["tags"], **changed, **front_tags(STUDY, [])})

    def _on_dataset(self, event: Mapping[str, Any]) -> None:
        self.client.log_inputs(self.parent.run_id, datasets=[dataset_input(event)])

    def _on_start(self, event: Mapping[str, Any]) -> None:
        run = self._child(event["trial"], tags=event["tags"], started=event.get("begun", event["time"]))
        if run.row is None:
            self._reopen(run)
            self._send_params(run, event["params"])

    def _on_epoch(self, event: Mapping[str, Any]) -> None:
        run = self._child(event["trial"], started=event["time"])
        if run.row is None and event["step"] not in self.steps(run):
            run.pending.setdefault(event["step"], (event["time"], event["metrics"]))

    def _on_end(self, event: Mapping[str, Any]) -> None:
        row, ended = event["row"], event.get("ended", event["time"])
        run = self._child(row["trial_id"], tags=tags(row), started=ended)
        status = STATUS[row["status"]]
        if run.row is None or differing_columns(run.row, row, columns={*run.row, *row}):
            self._send_params(run, params(row))
            self._send_final(run, row, time=event["time"])
            self._terminate(run, status, ended=ended)
            self._attach(run, row["trial_id"])
            # the row last: if it is there, so is everything else that the stores accepted
            pieces: dict[str, str | None] = {**row_tags(row)}
            longer = {name for name in run.tags if name.startswith(ROW_TAG)} - pieces.keys()
            self._log(run, tags=pieces | dict.fromkeys(longer))
            # Of each ended trial: its column names shared with the others', and no second copy of its row's text.
            run.row = {sys.intern(name): value for name, value in row.items()}
            run.tags |= dict.fromkeys(pieces, "")
        self._terminate(run, status, ended=ended)

    def _on_measured(self, event: Mapping[str, Any]) -> None:
        run = self.runs.get(event["trial"])
        if run is not None:
            fresh = {name: value for name, value in event["metrics"].items() if run.metrics.get(name) != value}
            step = 0 if run.row is None else run.row["epochs"] or 0
            self._log(run, metrics=fresh, step=step, time=event["time"], tags=event.get("tags"))

    def _on_progress(self, event: Mapping[str, Any]) -> None:
        self._log(self.parent, metrics=event["metrics"], step=event["step"], time=event["time"])

    def _on_front(self, event: Mapping[str, Any]) -> None:
        front = along_front(event["trials"], {name: run.metrics.get(CLEAN, 0) for name, run in self.runs.items()})
        for trial_id, run in self.runs.items():
            self._guarded("front", partial(self._log, run, tags=front_tags(trial_id, front)))

    def _on_view(self, event: Mapping[str, Any]) -> None:
        set_view(self.client, event["state"], self.experiment_id, self._study_id)

    def _on_note(self, event: Mapping[str, Any]) -> None:
        set_note(self.client, event["text"], self.experiment_id, self._study_id, run_id=self.parent.run_id)

    def _on_artifact(self, event: Mapping[str, Any]) -> None:
        path, run = own_file(self._dir, event["path"], refused=self.refused), self.runs[event["trial"]]
        if path.exists():  # a file that was deleted since is written and uploaded again by `publish`
            what = f"{event['folder']}/{path.name}"
            self._store(what, lambda: self.client.log_artifact(run.run_id, str(path), event["folder"]))

    def _on_model(self, event: Mapping[str, Any]) -> None:
        run, folder = self.runs[event["trial"]], own_file(self._dir, event["path"], refused=self.refused)
        if folder.exists():
            ids = {"run_id": run.run_id, "experiment_id": self.experiment_id}
            self._store(f"model of {event['trial']}", lambda: log_model(self.client, folder, **ids))

    def _on_close(self, event: Mapping[str, Any]) -> None:
        for run in self.runs.values():
            if run.status in OPEN and run is not self.parent:
                self._send_epochs(run)
                self._log(run, tags={"status": "unfinished", "reason": event["reason"]})
                self._terminate(run, "KILLED", ended=event["time"])
        self._log(self.parent, tags={"status": event["status"].lower(), "reason": event["reason"]})
        self._terminate(self.parent, event["status"], ended=event["time"])

    def _child(self, trial_id: str, *, tags: Mapping[str, Any] | None = None, started: int) -> TrackedRun:
        tags = tags or {}
        name = " ".join([trial_id, *filter(None, [tags.get("method")])])
        return self._open(trial_id, run_name=name, tags={**tags, PARENT_TAG: self.parent.run_id}, started=started)

    def _open(self, trial_id: str, *, run_name: str, tags: Mapping[str, Any], started: int | None) -> TrackedRun:
        if trial_id not in self.runs:
            identity = {STUDY_TAG: self._study_id, TRIAL_TAG: trial_id, "mlflow.user": user_name()}
            merged = {name: str(value) for name, value in {**tags, **identity}.items() if value is not None}
            created = self.client.create_run(self.experiment_id, start_time=started, tags=merged, run_name=run_name)
            self.runs[trial_id] = TrackedRun(created.info.run_id, tags=merged, steps={"epoch": set()})
        return self.runs[trial_id]

    def _reopen(self, run: TrackedRun) -> None:
        """Reopen a run that a stopped driver closed, and delete the tags of that end."""
        if run.status not in OPEN:
            self.client.update_run(run.run_id, status="RUNNING")
            run.status = "RUNNING"
            self._log(run, tags={"status": None, "reason": None})

    def _terminate(self, run: TrackedRun, status: str, *, ended: int) -> None:
        if run.status != status:
            self.client.set_terminated(run.run_id, status=status, end_time=ended)
            run.status = status

    def _send_params(self, run: TrackedRun, values: Mapping[str, Any]) -> None:
        self._log(run, params={name: value for name, value in values.items() if name not in run.params})

    def _send_epochs(self, run: TrackedRun) -> None:
        if run.pending:
            epochs = sorted(run.pending.items())
            self._log(run, points_of_epochs=[p for step, (time, values) in epochs for p in points(values, time, step)])
            self.steps(run).update(run.pending)
            run.pending.clear()

    def _send_final(self, run: TrackedRun, row: Mapping[str, Any], *, time: int) -> None:
        """Send the epochs of a trial that were not reported, then its row's metrics and tags."""
        epochs = self._epochs_to_compare(run, row)
        for epoch in epochs:
            step, values = epoch["epoch"], epoch_metrics(epoch)
            logged = {name for name in values if step in self.steps(run, name if run.suspect else "epoch")}
            if missing := {name: value for name, value in values.items() if value is not None and name not in logged}:
                run.pending.setdefault(step, (time - 1, missing))
        self._send_epochs(run)
        final = differing_metrics(run.metrics, row, epochs)
        step = max(row["epochs"] or 0, *self.steps(run), 0)
        if run.suspect:  # after any wrong value, to be the latest
            step = max(step, *(last for name in final for last in self.steps(run, name)), 0)
        else:
            final |= metrics(row)
        outcome = tags(row)
        self._log(run, metrics=final, step=step, time=time, tags={name: outcome.get(name) for name in OUTCOME_TAGS})

    def _epochs_to_compare(self, run: TrackedRun, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return a trial's epoch rows if its run may be incomplete: a driver can die before it reports an epoch."""
        if not run.suspect and len(self.steps(run) | set(run.pending)) >= (row["epochs"] or 0):
            return []
        rows: list[dict[str, Any]] = read_epochs(self._dir, trials=[row["trial_id"]], skip_damaged=True).to_pylist()
        return rows

    def _attach(self, run: TrackedRun, trial_id: str) -> None:
        with artifact_files(self._dir, trial_id) as files:
            for path, folder in files:
                self._store("", partial(self.client.log_artifact, run.run_id, str(path), folder))

    def _store(self, what: str, action: Any) -> None:
        """Upload an artifact; if only the artifact store fails, everything else is still sent.

        A failed upload is listed in `refused` as `what`, which is empty for artifacts that the read-back checks.
        """
        if time.monotonic() >= self._artifacts_from:
            try:
                action()
                return
            except Exception as error:  # each kind of artifact store raises its own
                logger.debug("artifact refused: %s", what, exc_info=True)
                self.client.get_experiment(self.experiment_id)
                self.artifact_error = short(error)
                if not is_refusal(error):
                    self._artifacts_from = time.monotonic() + ARTIFACT_PAUSE
        if what:
            self.refused.append(f"{what}: {self.artifact_error}")

    def _log(
        self,
        run: TrackedRun,
        *,
        metrics: Mapping[str, Any] | None = None,
        points_of_epochs: Iterable[Metric] = (),
        step: int = 0,
        time: int = 0,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """Log in one batch what is new to a run; a tag whose value is None is deleted."""
        from mlflow.entities import Param, RunTag

        new = {name: str(value) for name, value in (tags or {}).items() if value is not None}
        new = {name: value for name, value in new.items() if run.tags.get(name) != value}
        texts = {name: param_text(value) for name, value in (params or {}).items() if value is not None}
        new_points = [*points_of_epochs, *points(metrics or {}, time, step)]
        if new_points or texts or new:
            self.client.log_batch(
                run.run_id,
                metrics=new_points,
                params=[Param(name, value) for name, value in texts.items()],
                tags=[RunTag(name, value) for name, value in new.items()],
            )
        run.params |= texts
        run.metrics |= {point.key: point.value for point in new_points if point.step >= run.last_step(point.key)}
        run.tags |= new
        for name in [name for name, value in (tags or {}).items() if value is None and name in run.tags]:
            del run.tags[name]
            self._guarded(f"tag {name}", lambda name=name: self.client.delete_tag(run.run_id, name))
