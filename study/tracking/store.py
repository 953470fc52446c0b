"""A study in an MLflow store: one parent run, one child run a trial, and what each event does to them."""

from __future__ import annotations

import getpass
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.results import read_epochs, trial_file
from analysis.schema import EPOCH, EXAMPLE, differing_columns
from study.tracking.client import connect, experiment_id, is_refusal, short
from study.tracking.models import log_model
from study.tracking.names import BENEATH_TAG, ON_FRONT, PARENT_TAG, STUDY, STUDY_TAG, TRIAL_TAG
from study.tracking.rows import epoch_metrics, metrics, params, row_from_tags, row_tags, tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

STATUS = {"completed": "FINISHED", "stopped_early": "FINISHED", "failed": "FAILED"}
"""MLflow's status of a trial's run."""
OPEN = ("RUNNING", "SCHEDULED")
PAGE = 1000


def runs_of(client: MlflowClient, experiment: str, query: str, /) -> Iterator[Run]:
    """Yield the runs of an experiment that a filter finds, page by page, the oldest first."""
    token = None
    while True:
        page = client.search_runs(
            [experiment], filter_string=query, max_results=PAGE, order_by=["start_time ASC"], page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


@dataclass
class TrackedRun:
    """What is known of a run in the store.

    Attributes:
        run_id: MLflow's id.
        status: MLflow's status of it.
        row: Its trial's result row, where it has one.
        on_front: Whether it is tagged as a member of the front.
        params: Parameters it had when it was found.
        steps: Epochs it has metrics of; None until asked for.
        waiting: Metrics of epochs to be sent with the next batch: step to time and values.
    """

    run_id: str
    status: str = "RUNNING"
    row: dict[str, Any] | None = None
    on_front: bool = False
    params: dict[str, str] = field(default_factory=dict)
    steps: set[int] | None = None
    waiting: dict[int, tuple[int, Mapping[str, Any]]] = field(default_factory=dict)


class Store:
    """The runs of one study, found by their tags before they are created.

    Every event may come twice: what has arrived is recognised by its run, its step or its time.

    Args:
        uri: Tracking URI.
        experiment: Experiment name.
        study: The study's name, also the parent run's.
        study_id: What identifies the study, whatever its name or folder.
        study_dir: The study's folder; paths of artifacts count from there.
        beneath: Id of the study beneath whose parent run this one's lies.
    """

    def __init__(
        self,
        *,
        uri: str,
        experiment: str,
        study: str,
        study_id: str,
        study_dir: Path,
        beneath: str | None = None,
    ) -> None:
        self.client = connect(uri)
        self.experiment_id = experiment_id(self.client, experiment)
        self.refused: list[str] = []
        self.runs: dict[str, TrackedRun] = {}
        self._study = study
        self._study_id = study_id
        self._dir = study_dir
        for run in runs_of(self.client, self.experiment_id, f"tags.`{STUDY_TAG}` = '{study_id}'"):
            self.runs.setdefault(run.data.tags.get(TRIAL_TAG, ""), _known(run))
        self.parent = self._open(STUDY, run_name=study, tags={"study": study} | self._above(beneath))

    def _above(self, beneath: str | None) -> dict[str, str]:
        """Return the tags that put this study's run beneath another's."""
        if beneath is None:
            return {}
        query = f"tags.`{STUDY_TAG}` = '{beneath}' and tags.`{TRIAL_TAG}` = '{STUDY}'"
        found = next(runs_of(self.client, self.experiment_id, query), None)
        return {BENEATH_TAG: beneath} | ({} if found is None else {PARENT_TAG: found.info.run_id})

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

    def steps(self, run: TrackedRun, /) -> set[int]:
        """Return the epochs that a run has metrics of."""
        if run.steps is None:
            run.steps = {metric.step for metric in self.client.get_metric_history(run.run_id, "epoch")}
        return run.steps

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
        new = {name: str(value) for name, value in event["params"].items() if value is not None}
        # parameters never change in MLflow; a setting that did (more trials) is told by a tag
        changed = {name: value for name, value in new.items() if name in known and known[name] != value}
        fresh = {name: value for name, value in new.items() if name not in known}
        self._log(self.parent, params=fresh, tags={**event["tags"], **changed})
        known |= fresh

    def _on_dataset(self, event: Mapping[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=event["name"],
            digest=event["digest"],
            source_type="code",
            source=json.dumps({"tags": {"loader": event["source"]}}),
            profile=json.dumps(event["profile"]),
        )
        self.client.log_inputs(
            self.parent.run_id, datasets=[DatasetInput(dataset, tags=[InputTag("mlflow.data.context", "training")])]
        )

    def _on_start(self, event: Mapping[str, Any]) -> None:
        run = self._child(event["trial"], tags=event["tags"])
        if run.row is None:
            self._reopen(run)
            self._send_params(run, event["params"])

    def _on_epoch(self, event: Mapping[str, Any]) -> None:
        run = self._child(event["trial"])
        if run.row is None and event["step"] not in self.steps(run):
            run.waiting.setdefault(event["step"], (event["time"], event["metrics"]))

    def _on_end(self, event: Mapping[str, Any]) -> None:
        row = event["row"]
        run = self._child(row["trial_id"], tags=tags(row))
        if run.row is None or differing_columns(run.row, row, columns={*run.row, *row}):
            self._send_params(run, params(row))
            self._wait_for_missing(run, row, time=event["time"] - 1)
            self._send_epochs(run)
            self._attach(run, row["trial_id"])
            # the row last: where it is, everything else is
            self._log(run, metrics=metrics(row), step=row["epochs"] or 0, time=event["time"], tags=tags(row))
            self._log(run, tags=row_tags(row))
            run.row = dict(row)
        self._terminate(run, STATUS[row["status"]])

    def _on_measured(self, event: Mapping[str, Any]) -> None:
        if event["trial"] in self.runs:
            self._log(self.runs[event["trial"]], metrics=event["metrics"], time=event["time"])

    def _on_progress(self, event: Mapping[str, Any]) -> None:
        self._log(self.parent, metrics=event["metrics"], step=event["step"], time=event["time"])

    def _on_front(self, event: Mapping[str, Any]) -> None:
        for trial_id, run in self.runs.items():
            if trial_id in event["trials"] and not run.on_front:
                self.client.set_tag(run.run_id, ON_FRONT, "true")
            elif run.on_front and trial_id not in event["trials"]:
                self.client.delete_tag(run.run_id, ON_FRONT)
            run.on_front = trial_id in event["trials"]

    def _on_artifact(self, event: Mapping[str, Any]) -> None:
        path = self._dir / event["path"]
        if path.exists():  # one that was removed since is made and handed over again by `publish`
            self.client.log_artifact(self.runs[event["trial"]].run_id, str(path), event["folder"])

    def _on_model(self, event: Mapping[str, Any]) -> None:
        run, folder = self.runs[event["trial"]], self._dir / event["path"]
        if folder.exists():
            log_model(self.client, folder, run_id=run.run_id, experiment_id=self.experiment_id)

    def _on_close(self, event: Mapping[str, Any]) -> None:
        for run in self.runs.values():
            if run.status in OPEN and run is not self.parent:
                self._send_epochs(run)
                self._log(run, tags={"status": "unfinished", "reason": event["reason"]})
                self._terminate(run, "KILLED")
        self._log(self.parent, tags={"status": event["status"].lower(), "reason": event["reason"]})
        self._terminate(self.parent, event["status"])

    def _child(self, trial_id: str, *, tags: Mapping[str, Any] | None = None) -> TrackedRun:
        parent = {PARENT_TAG: self.parent.run_id}
        return self._open(trial_id, run_name=f"{self._study}-{trial_id}", tags={**(tags or {}), **parent})

    def _open(self, trial_id: str, *, run_name: str, tags: Mapping[str, Any]) -> TrackedRun:
        if trial_id not in self.runs:
            own = {STUDY_TAG: self._study_id, TRIAL_TAG: trial_id, "mlflow.user": _user()}
            merged = {name: str(value) for name, value in {**tags, **own}.items() if value is not None}
            created = self.client.create_run(self.experiment_id, tags=merged, run_name=run_name)
            self.runs[trial_id] = TrackedRun(created.info.run_id, steps=set())
        return self.runs[trial_id]

    def _reopen(self, run: TrackedRun) -> None:
        if run.status not in OPEN:
            self.client.update_run(run.run_id, status="RUNNING")
            run.status = "RUNNING"

    def _terminate(self, run: TrackedRun, status: str) -> None:
        if run.status != status:
            self.client.set_terminated(run.run_id, status=status)
            run.status = status

    def _send_params(self, run: TrackedRun, asked: Mapping[str, Any]) -> None:
        fresh = {name: value for name, value in asked.items() if name not in run.params and value is not None}
        if fresh:
            self._log(run, params=fresh)
            run.params |= {name: str(value) for name, value in fresh.items()}

    def _send_epochs(self, run: TrackedRun) -> None:
        if run.waiting:
            points = [(step, time, values) for step, (time, values) in sorted(run.waiting.items())]
            self._log_points(run, points)
            self.steps(run).update(run.waiting)
            run.waiting.clear()

    def _wait_for_missing(self, run: TrackedRun, row: Mapping[str, Any], *, time: int) -> None:
        """Take from the epoch rows what no report brought: its driver died between a checkpoint and the report."""
        known = self.steps(run) | set(run.waiting)
        path = trial_file(self._dir, row["trial_id"], schema=EPOCH)
        if len(known) < (row["epochs"] or 0) and path.exists():
            for epoch in read_epochs(path).to_pylist():
                if epoch["epoch"] not in known:
                    run.waiting[epoch["epoch"]] = (time, epoch_metrics(epoch))

    def _attach(self, run: TrackedRun, trial_id: str) -> None:
        examples = trial_file(self._dir, trial_id, schema=EXAMPLE)
        traceback = self._dir / "errors" / f"{trial_id}.txt"
        for path, folder in ((examples, EXAMPLE.folder), (traceback, "error")):
            if path.exists():
                self.client.log_artifact(run.run_id, str(path), folder)

    def _log_points(self, run: TrackedRun, points: Iterable[tuple[int, int, Mapping[str, Any]]]) -> None:
        from mlflow.entities import Metric

        found = [
            Metric(name, float(value), time, step)
            for step, time, values in points
            for name, value in values.items()
            if value is not None
        ]
        self.client.log_batch(run.run_id, metrics=found)

    def _log(
        self,
        run: TrackedRun,
        *,
        metrics: Mapping[str, Any] | None = None,
        step: int = 0,
        time: int = 0,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        self.client.log_batch(
            run.run_id,
            metrics=[Metric(key, float(value), time, step) for key, value in (metrics or {}).items()],
            params=[Param(key, str(value)) for key, value in (params or {}).items() if value is not None],
            tags=[RunTag(key, str(value)) for key, value in (tags or {}).items() if value is not None],
        )


def _known(run: Run) -> TrackedRun:
    return TrackedRun(
        run.info.run_id,
        status=run.info.status,
        row=row_from_tags(run.data.tags),
        on_front=ON_FRONT in run.data.tags,
        params=dict(run.data.params),
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"  # a container's user id without a name
