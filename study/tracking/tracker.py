"""MLflow behind a queue: the driver hands events over and never waits, and no failure reaches it."""

from __future__ import annotations

import getpass
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.tracking.rows import metrics, params, tags

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

STUDY_TAG = "robust_study.study_id"
TRIAL_TAG = "robust_study.trial_id"
STUDY = "study"
"""The parent run's `TRIAL_TAG`."""
PARENT_TAG = "mlflow.parentRunId"
DEFAULT_EXPERIMENT = "robust-study"


def default_uri() -> str:
    """Return MLflow's default store, a SQLite file in the working folder, as an absolute URI."""
    return f"sqlite:///{Path('mlflow.db').resolve()}"


_OPEN = ("", "RUNNING", "SCHEDULED")


class Tracker:
    """One parent run for a study, one child run for each trial.

    Every public method returns at once; a single thread talks to MLflow in the order of the calls.
    Runs are found by their tags before they are created, so a resumed study goes on in the same runs.

    Args:
        study: The study's name, also the parent run's.
        study_id: What identifies the study, whatever its name or folder.
        uri: Tracking URI; None is SQLite in the working folder.
        experiment: Experiment name; None is `robust-study`.
    """

    def __init__(self, *, study: str, study_id: str, uri: str | None = None, experiment: str | None = None) -> None:
        self.uri = uri or default_uri()
        self.experiment = experiment or DEFAULT_EXPERIMENT
        self.error: str | None = None
        self._study = study
        self._study_id = study_id
        self._runs: dict[str, str] = {}
        self._parent = ""
        self._experiment_id = ""
        self._client: MlflowClient | None = None
        self._jobs: queue.Queue[Callable[[], object] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)

    @property
    def parent_run_id(self) -> str | None:
        """Return the parent run's id once MLflow gave one."""
        return self._parent or None

    def run_id(self, trial_id: str) -> str | None:
        """Return the id of a trial's run once MLflow gave one."""
        return self._runs.get(trial_id)

    def start(self, params: Mapping[str, Any], tags: Mapping[str, Any]) -> None:
        """Open or find the parent run and log the study's settings in it."""
        self._thread.start()
        self._jobs.put(lambda: self._open(params, tags))

    def trial_started(self, trial_id: str, params: Mapping[str, Any], tags: Mapping[str, Any]) -> None:
        """Open or find a trial's run."""
        self._jobs.put(lambda: self._open_trial(trial_id, params, tags))

    def trial_reported(self, trial_id: str, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Log an epoch's numbers at the step `epoch`, in one request."""
        stamp = _now()
        self._jobs.put(lambda: self._log(self._runs[trial_id], metrics, step=epoch, timestamp=stamp))

    def trial_ended(self, row: Mapping[str, Any]) -> None:
        """Log a trial's result row and close its run."""
        stamp = _now()
        self._jobs.put(lambda: self._end(self._runs[row["trial_id"]], row, timestamp=stamp))

    def settle(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Close the runs that a dead driver left open though their trials' rows are on disk.

        A run that was never opened is opened and closed.
        """
        by_trial = {row["trial_id"]: row for row in rows}

        def repair() -> None:
            states = self._children()
            for trial_id, row in by_trial.items():
                run_id, status = states.get(trial_id, ("", ""))
                if status in _OPEN:
                    run_id = run_id or self._open_trial(trial_id, params(row), tags(row))
                    self._end(run_id, row, timestamp=_now())

        if by_trial:
            self._jobs.put(repair)

    def tag_trial(self, trial_id: str, tags: Mapping[str, str]) -> None:
        """Set tags on a trial's run, also after it ended."""
        self._jobs.put(lambda: self._log(self._run_of(trial_id), {}, step=0, timestamp=0, tags=tags))

    def study_reported(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Log the study's own progress on the parent run; `step` counts finished trials."""
        stamp = _now()
        self._jobs.put(lambda: self._log(self._parent, metrics, step=step, timestamp=stamp))

    def artifacts(self, paths: list[Path], folder: str) -> None:
        """Upload files to a folder of the parent run."""

        def upload() -> None:
            for path in paths:
                self._mlflow.log_artifact(self._parent, str(path), folder)

        self._jobs.put(upload)

    def close(self, status: str | None, *, timeout: float = 60.0) -> str | None:
        """Close the parent run and wait until everything is uploaded.

        Args:
            status: MLflow's run status: `FINISHED`, `FAILED` or `KILLED`; None leaves the run open, because
                another driver goes on in it.
            timeout: Longest wait in seconds.

        Returns:
            What went wrong first, or None when everything arrived.
        """
        if status is not None:
            self._jobs.put(lambda: self._mlflow.set_terminated(self._parent, status=status))
        self._jobs.put(None)
        self._thread.join(timeout)
        if self._thread.is_alive():
            return f"{self._jobs.qsize()} updates were still waiting after {timeout:g} s"
        return self.error

    @property
    def _mlflow(self) -> MlflowClient:
        if self._client is None:
            raise RuntimeError("no connection to MLflow")
        return self._client

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception as error:  # tracking may fail, the study may not
                logger.debug("tracking failed", exc_info=True)
                self.error = self.error or f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"

    def _open(self, params: Mapping[str, Any], tags: Mapping[str, Any]) -> None:
        from study.tracking.client import connect, experiment_id

        self._client = connect(self.uri)
        self._experiment_id = experiment_id(self._client, self.experiment)
        self._parent = self._find_or_create("", run_name=self._study, tags=tags)
        self._log(self._parent, {}, step=0, timestamp=_now(), params=params)

    def _open_trial(self, trial_id: str, asked: Mapping[str, Any], tags: Mapping[str, Any]) -> str:
        all_tags = {**tags, PARENT_TAG: self._parent}
        run_id = self._find_or_create(trial_id, run_name=f"{self._study}-{trial_id}", tags=all_tags)
        self._runs[trial_id] = run_id
        self._log(run_id, {}, step=0, timestamp=_now(), params=asked)
        return run_id

    def _end(self, run_id: str, row: Mapping[str, Any], *, timestamp: int) -> None:
        self._log(run_id, metrics(row), step=row["epochs"] or 0, timestamp=timestamp, tags=tags(row))
        self._mlflow.set_terminated(run_id, status="FAILED" if row["status"] == "failed" else "FINISHED")

    def _children(self) -> dict[str, tuple[str, str]]:
        """Return run id and status of each trial's run."""
        query = f"tags.`{STUDY_TAG}` = '{self._study_id}' and tags.`{TRIAL_TAG}` != '{STUDY}'"
        found: dict[str, tuple[str, str]] = {}
        token = None
        while True:
            page = self._mlflow.search_runs(
                [self._experiment_id], filter_string=query, max_results=1000, page_token=token
            )
            found |= {run.data.tags[TRIAL_TAG]: (run.info.run_id, run.info.status) for run in page}
            token = page.token
            if not token:
                return found

    def _find(self, trial_id: str) -> str | None:
        query = f"tags.`{STUDY_TAG}` = '{self._study_id}' and tags.`{TRIAL_TAG}` = '{trial_id or STUDY}'"
        found = self._mlflow.search_runs([self._experiment_id], filter_string=query, max_results=1)
        return str(found[0].info.run_id) if found else None

    def _run_of(self, trial_id: str) -> str:
        run_id = self._runs.get(trial_id) or self._find(trial_id)
        if run_id is None:
            raise LookupError(f"trial {trial_id} has no run")
        return run_id

    def _find_or_create(self, trial_id: str, *, run_name: str, tags: Mapping[str, Any]) -> str:
        found = self._find(trial_id)
        if found is not None:
            self._mlflow.update_run(found, status="RUNNING")
            return found
        own = {STUDY_TAG: self._study_id, TRIAL_TAG: trial_id or STUDY, "mlflow.user": getpass.getuser()}
        merged = {key: str(value) for key, value in {**tags, **own}.items() if value is not None}
        return str(self._mlflow.create_run(self._experiment_id, tags=merged, run_name=run_name).info.run_id)

    def _log(
        self,
        run_id: str,
        metrics: Mapping[str, Any],
        *,
        step: int,
        timestamp: int,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        self._mlflow.log_batch(
            run_id,
            metrics=[Metric(key, float(value), timestamp, step) for key, value in metrics.items() if value is not None],
            params=[Param(key, str(value)) for key, value in (params or {}).items() if value is not None],
            tags=[RunTag(key, str(value)) for key, value in (tags or {}).items() if value is not None],
        )


def _now() -> int:
    return int(time.time() * 1000)
