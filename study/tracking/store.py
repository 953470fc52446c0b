"""A study in an MLflow store: one parent run, one child run a trial, and what each event does to them."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.data.results import read_epochs
from analysis.data.schema import differing_columns
from study.tracking.artifacts import attachments, log_model
from study.tracking.client import (
    OPEN,
    STATUS,
    TrackedRun,
    connect,
    dataset_input,
    experiment_id,
    is_refusal,
    known,
    parent_tags,
    points,
    runs_of,
    short,
    user_name,
)
from study.tracking.row_mapping import (
    ON_FRONT,
    OUTCOME_TAGS,
    PARENT_TAG,
    ROW_TAG,
    STUDY,
    STUDY_TAG,
    TRIAL_TAG,
    differing_metrics,
    epoch_metrics,
    metrics,
    param_text,
    params,
    row_tags,
    span,
    tags,
)

if TYPE_CHECKING:
    from mlflow.entities import Metric

logger = logging.getLogger(__name__)

ARTIFACT_PAUSE = 300.0
"""Seconds without uploads after an artifact store failed: each attempt at one may wait for minutes."""


class Store:
    """The runs of one study, found by their tags before they are created.

    Every event may come twice: what has arrived is recognised by its run, its step or its time.

    Args:
        uri: Tracking URI.
        experiment: Experiment name.
        study: The study's name, also the parent run's.
        study_id: What identifies the study, whatever its name or folder.
        study_dir: The study's folder; paths of artifacts count from there.
        begun: When the study began, in milliseconds since 1970; None is now.
        parent_study_id: Id of the study beneath whose parent run this one's lies.

    Attributes:
        refused: What the store would not take, and why.
        artifact_error: Why the last artifact could not be stored.
    """

    def __init__(
        self,
        *,
        uri: str,
        experiment: str,
        study: str,
        study_id: str,
        study_dir: Path,
        begun: int | None = None,
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
            self.runs.setdefault(run.data.tags.get(TRIAL_TAG, ""), known(run))
        self.parent = self._open(
            STUDY,
            run_name=study,
            tags={"study": study} | parent_tags(self.client, self.experiment_id, parent_study_id),
            begun=begun,
        )

    def apply(self, events: Iterable[Mapping[str, Any]], /) -> None:
        """Do what the events say; one that the store refuses is left out and noted in `refused`.

        Raises:
            Exception: The store cannot be reached; the same events may be applied again.
        """
        for run in self.runs.values():
            run.waiting.clear()
        for event in events:
            self._guarded(event["kind"], lambda event=event: getattr(self, f"_on_{event['kind']}")(event))
        for run in list(self.runs.values()):
            self._guarded("epoch", lambda run=run: self._send_epochs(run))

    def repair(
        self, rows: Iterable[Mapping[str, Any]], /, *, unattached: Collection[str], front: Iterable[str] | None
    ) -> None:
        """Log trials' ends again with every part looked at, whatever their runs say they have.

        Args:
            rows: Their result rows.
            unattached: Ids of those that lack nothing but their artifacts.
            front: Ids of the front's members; None leaves the tags as they are.
        """
        self._artifacts_from = 0.0
        for row in rows:
            now = int(time.time() * 1000)
            begun, ended = span(row) or (now, now)
            run = self._child(row["trial_id"], tags=tags(row), begun=begun)
            if row["trial_id"] in unattached:
                self._attach(run, row["trial_id"])
                continue
            run.row, run.doubted = None, True
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
        except Exception as error:  # what is no refusal is raised again
            if not is_refusal(error):
                raise
            logger.debug("refused: %s", what, exc_info=True)
            self.refused.append(f"{what}: {short(error)}")

    def _on_study(self, event: Mapping[str, Any]) -> None:
        self._reopen(self.parent)
        known = self.parent.params
        new = {name: param_text(value) for name, value in event["params"].items() if value is not None}
        # parameters never change in MLflow; a setting that did (more trials) is told by a tag
        changed = {name: value for name, value in new.items() if name in known and known[name] != value}
        fresh = {name: value for name, value in new.items() if name not in known}
        self._log(self.parent, params=fresh, tags={**event["tags"], **changed})

    def _on_dataset(self, event: Mapping[str, Any]) -> None:
        self.client.log_inputs(self.parent.run_id, datasets=[dataset_input(event)])

    def _on_start(self, event: Mapping[str, Any]) -> None:
        run = self._child(event["trial"], tags=event["tags"], begun=event.get("begun", event["time"]))
        if run.row is None:
            self._reopen(run)
            self._send_params(run, event["params"])

    def _on_epoch(self, event: Mapping[str, Any]) -> None:
        run = self._child(event["trial"], begun=event["time"])
        if run.row is None and event["step"] not in self.steps(run):
            run.waiting.setdefault(event["step"], (event["time"], event["metrics"]))

    def _on_end(self, event: Mapping[str, Any]) -> None:
        row, ended = event["row"], event.get("ended", event["time"])
        run = self._child(row["trial_id"], tags=tags(row), begun=ended)
        status = STATUS[row["status"]]
        if run.row is None or differing_columns(run.row, row, columns={*run.row, *row}):
            self._send_params(run, params(row))
            self._send_final(run, row, time=event["time"])
            self._terminate(run, status, ended=ended)
            self._attach(run, row["trial_id"])
            # the row last: where it is, everything else is that the stores would take
            pieces: dict[str, str | None] = {**row_tags(row)}
            longer = {name for name in run.tags if name.startswith(ROW_TAG)} - pieces.keys()
            self._log(run, tags=pieces | dict.fromkeys(longer))
            run.row = dict(row)
        self._terminate(run, status, ended=ended)

    def _on_measured(self, event: Mapping[str, Any]) -> None:
        run = self.runs.get(event["trial"])
        if run is not None:
            fresh = {name: value for name, value in event["metrics"].items() if run.metrics.get(name) != value}
            step = 0 if run.row is None else run.row["epochs"] or 0
            self._log(run, metrics=fresh, step=step, time=event["time"])

    def _on_progress(self, event: Mapping[str, Any]) -> None:
        self._log(self.parent, metrics=event["metrics"], step=event["step"], time=event["time"])

    def _on_front(self, event: Mapping[str, Any]) -> None:
        members = set(event["trials"])
        for trial_id, run in self.runs.items():
            own = {ON_FRONT: "true" if trial_id in members else None}
            self._guarded("front", lambda run=run, own=own: self._log(run, tags=own))

    def _on_artifact(self, event: Mapping[str, Any]) -> None:
        path, run = self._dir / event["path"], self.runs[event["trial"]]
        if path.exists():  # one that was removed since is made and handed over again by `publish`
            what = f"{event['folder']}/{path.name}"
            self._store(what, lambda: self.client.log_artifact(run.run_id, str(path), event["folder"]))

    def _on_model(self, event: Mapping[str, Any]) -> None:
        run, folder = self.runs[event["trial"]], self._dir / event["path"]
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

    def _child(self, trial_id: str, *, tags: Mapping[str, Any] | None = None, begun: int) -> TrackedRun:
        """Return a trial's run, opened if it is not there: named so that it can be told from its siblings."""
        tags = tags or {}
        name = " ".join([trial_id, *filter(None, [tags.get("method")])])
        return self._open(trial_id, run_name=name, tags={**tags, PARENT_TAG: self.parent.run_id}, begun=begun)

    def _open(self, trial_id: str, *, run_name: str, tags: Mapping[str, Any], begun: int | None) -> TrackedRun:
        if trial_id not in self.runs:
            own = {STUDY_TAG: self._study_id, TRIAL_TAG: trial_id, "mlflow.user": user_name()}
            merged = {name: str(value) for name, value in {**tags, **own}.items() if value is not None}
            created = self.client.create_run(self.experiment_id, start_time=begun, tags=merged, run_name=run_name)
            self.runs[trial_id] = TrackedRun(created.info.run_id, tags=merged, steps={"epoch": set()})
        return self.runs[trial_id]

    def _reopen(self, run: TrackedRun) -> None:
        """Let a run go on that a stopped driver closed, without what was said of its end."""
        if run.status not in OPEN:
            self.client.update_run(run.run_id, status="RUNNING")
            run.status = "RUNNING"
            self._log(run, tags={"status": None, "reason": None})

    def _terminate(self, run: TrackedRun, status: str, *, ended: int) -> None:
        if run.status != status:
            self.client.set_terminated(run.run_id, status=status, end_time=ended)
            run.status = status

    def _send_params(self, run: TrackedRun, asked: Mapping[str, Any]) -> None:
        self._log(run, params={name: value for name, value in asked.items() if name not in run.params})

    def _send_epochs(self, run: TrackedRun) -> None:
        if run.waiting:
            found = [points(values, time, step) for step, (time, values) in sorted(run.waiting.items())]
            self._log(run, found=[point for each in found for point in each])
            self.steps(run).update(run.waiting)
            run.waiting.clear()

    def _send_final(self, run: TrackedRun, row: Mapping[str, Any], *, time: int) -> None:
        """Send what no report brought of a trial's epochs, then the row's own values and tags."""
        epochs = self._epochs_to_look_at(run, row)
        for epoch in epochs:
            step, values = epoch["epoch"], epoch_metrics(epoch)
            there = {name for name in values if step in self.steps(run, name if run.doubted else "epoch")}
            if lacking := {name: value for name, value in values.items() if value is not None and name not in there}:
                run.waiting.setdefault(step, (time - 1, lacking))
        self._send_epochs(run)
        final = differing_metrics(run.metrics, row, epochs)
        step = max(row["epochs"] or 0, *self.steps(run), 0)
        if run.doubted:  # behind whatever value is there instead
            step = max(step, *(last for name in final for last in self.steps(run, name)), 0)
        else:
            final |= metrics(row)
        outcome = tags(row)
        self._log(run, metrics=final, step=step, time=time, tags={name: outcome.get(name) for name in OUTCOME_TAGS})

    def _epochs_to_look_at(self, run: TrackedRun, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return a trial's epoch rows where its run may lack some: a driver died between a checkpoint and a report."""
        if not run.doubted and len(self.steps(run) | set(run.waiting)) >= (row["epochs"] or 0):
            return []
        found: list[dict[str, Any]] = read_epochs(self._dir, trials=[row["trial_id"]], skip_damaged=True).to_pylist()
        return found

    def _attach(self, run: TrackedRun, trial_id: str) -> None:
        with attachments(self._dir, trial_id) as files:
            for found in files:
                path, folder = str(found[0]), found[1]
                self._store("", lambda path=path, folder=folder: self.client.log_artifact(run.run_id, path, folder))

    def _store(self, what: str, action: Any) -> None:
        """Upload to the artifact store; one that fails while the runs' store answers holds up nothing else.

        Args:
            what: What is noted as refused when it fails; nothing when empty, because the read-back looks for it.
            action: The upload, a function of nothing.

        Raises:
            Exception: The runs' store does not answer either.
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
        found: Iterable[Metric] = (),
        step: int = 0,
        time: int = 0,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """Log in one batch what a run has not; a tag whose value is None is taken away."""
        from mlflow.entities import Param, RunTag

        new = {name: str(value) for name, value in (tags or {}).items() if value is not None}
        new = {name: value for name, value in new.items() if run.tags.get(name) != value}
        asked = {name: param_text(value) for name, value in (params or {}).items() if value is not None}
        found = [*found, *points(metrics or {}, time, step)]
        if found or asked or new:
            self.client.log_batch(
                run.run_id,
                metrics=found,
                params=[Param(name, value) for name, value in asked.items()],
                tags=[RunTag(name, value) for name, value in new.items()],
            )
        run.params |= asked
        run.metrics |= {point.key: point.value for point in found if point.step >= run.last_step(point.key)}
        run.tags |= new
        for name in [name for name, value in (tags or {}).items() if value is None and name in run.tags]:
            del run.tags[name]
            self._guarded(f"tag {name}", lambda name=name: self.client.delete_tag(run.run_id, name))
