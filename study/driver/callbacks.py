"""Tune callbacks: what the driver does when a trial starts, reports or ends.

Only the driver writes results. Tune calls these hooks in its own loop, so each is short. The order in which the end of
a trial becomes durable is that of `StudySearcher.on_trial_complete`.
"""

from __future__ import annotations

import logging
import re
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune.search import ConcurrencyLimiter

from study.directory.lock import BEAT_SECONDS
from study.driver.checkpoint_retention import CheckpointRetention
from study.driver.final_saves import FinalSaves
from study.driver.result_writer import ResultWriter
from study.driver.retries import MAX_FAILURES, RetryCounter, is_node_loss, lost_nodes
from study.driver.start_watch import StartWatch
from study.driver.study_progress import StudyProgress
from study.search.searcher import StillOpenError
from study.tracking.row_mapping import epoch_metrics, params, tags
from study.tracking.tracker import Tracker
from trainables.checkpoints.files import StoreDownError
from trainables.training.outcome import OUT_OF_MEMORY

logger = logging.getLogger(__name__)

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# the class of an error that names the user's object and the line itself
_OWN_CODE = re.compile(r"^trainables\.[\w.]+\.(OwnCodeError|UnknownNameError|DataError): ")


class TrialCallback(tune.Callback):
    """Writes the rows of trials as they end, and reports them to MLflow and on the progress line.

    Args:
        result_writer: Writes the result files.
        tracker: Passes runs and metrics to MLflow.
        progress: The progress line.
        final_saves: Decides when a run that is asked to stop can end.
        start_watch: Told how many trials run and start; nothing is when None.
        retention: Deletes checkpoints that are not to be kept; every checkpoint is kept when None.
        stop_reason: Returns why the scheduler stopped a trial, by Tune's id of it; None where it did not.
    """

    def __init__(
        self,
        *,
        result_writer: ResultWriter,
        tracker: Tracker,
        progress: StudyProgress,
        final_saves: FinalSaves,
        start_watch: StartWatch | None = None,
        retention: CheckpointRetention | None = None,
        stop_reason: Callable[[str], str | None] = lambda tune_id: None,
    ) -> None:
        self._result_writer = result_writer
        self._tracker = tracker
        self._progress = progress
        self._final_saves = final_saves
        self._start_watch = start_watch
        self._retention = retention
        self._stop_reason = stop_reason
        self._open: dict[str, Any] = {}
        self._num_seen = 0
        self._finished: list[Any] = []
        self._retries: dict[str, RetryCounter] = {}
        self._lost_at_start: dict[str, int] = {}
        self._final_tracebacks: dict[str, str] = {}
        self._unreachable: set[str] = set()
        self._requeued: set[str] = set()
        self._outcomes: dict[str, ray.ObjectRef[Any]] = {}
        self._ended: dict[str, tuple[Any, dict[str, Any]]] = {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Count the attempt and open the trial's run."""
        self._open[trial.trial_id] = trial
        self._requeued.discard(trial.trial_id)
        self._retry_counter(trial).attempt_started()
        self._lost_at_start[trial.trial_id] = lost_nodes()
        columns = self._result_writer.spec_columns_of(trial.config)
        self._tracker.trial_started(columns["trial_id"], params(columns), tags(columns))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Take the outcome out of Tune's result; log the epoch; write the row of a trial that has ended."""
        if trial.trial_id in self._final_tracebacks:
            self._fail(trial, traceback=self._final_tracebacks[trial.trial_id])
            return
        if note := result.pop("note", ""):
            self._progress.print(f"trial {trial.config['trial_id']}: {note}")
        self._retry_counter(trial).epoch_reported()
        reference = result.pop("outcome", None)
        if reference is not None:
            self._outcomes[trial.trial_id] = reference
        self._final_saves.reported(trial.trial_id)
        self._tracker.trial_reported(trial.config["trial_id"], result["epoch"], epoch_metrics(result))
        if result["status"] != "running":
            self._close(trial, result["status"])

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Count a failed attempt; Tune has put the trial back in the queue.

        Raises:
            StoreDownError: The storage of the checkpoints failed, not the trial: the run ends with all its trials open.
        """
        name, traceback = trial.config["trial_id"], _traceback(trial)
        self._requeued.add(trial.trial_id)
        self._outcomes.pop(trial.trial_id, None)
        node_lost = is_node_loss(_error(trial), traceback, lost_at_start=self._lost_at_start.get(trial.trial_id, 0))
        reason = _last_line(traceback)
        if StoreDownError.__name__ in reason:
            raise StoreDownError(reason.partition(": ")[2])
        if self._retry_counter(trial).attempt_failed(node_lost=node_lost):
            # Tune would retry without limit; with this key the worker reports the trial as failed straight away
            trial.config["given_up"] = True
            self._final_tracebacks[trial.trial_id] = traceback
        elif node_lost:
            self._progress.print(f"trial {name} lost its node; it resumes on another from its last checkpoint")
        else:
            self._progress.print(f"trial {name} is retried from its last checkpoint after: {reason}")

    def before_tell(self, tune_id: str, *, error: bool) -> Mapping[str, Any]:
        """Make the row of an ending trial durable before Optuna is told of the end, and return it.

        Raises:
            StillOpenError: There is no row: the worker died with the trial's results or before its first step, or Tune
                reports its death twice.
        """
        trial = self._open.get(tune_id)
        if trial is None or tune_id in self._unreachable:
            raise StillOpenError
        if not self._result_writer.has(trial.config["trial_id"]):
            if error:
                self._reopen(trial)
                self._fail(trial)
            else:
                self._close(trial, "stopped_early", reason=self._stop_reason(tune_id))
                if tune_id in self._unreachable:
                    raise StillOpenError
        return self._result_writer.rows[trial.config["number"]]

    def _reopen(self, trial: Any) -> None:
        """Raise `StillOpenError` for a trial with attempts left that Tune ends right after requeueing it.

        A worker that dies while saving leaves two calls unanswered. The first puts the trial back in the queue; Tune
        takes the second for the end of a queued trial (2.60, `TuneController._process_trial_failure`).
        """
        requeued = self._requeued - self._final_tracebacks.keys()
        if trial.trial_id in requeued and self._retry_counter(trial).count < MAX_FAILURES:
            self._unreachable.add(trial.trial_id)
            self._progress.print(
                f"trial {trial.config['trial_id']}: worker process died while saving; it continues after the others"
            )
            raise StillOpenError

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Refresh the progress line; end a run that is asked to stop once its trials are saved or out of time."""
        for trial in trials[self._num_seen :]:
            # errors before a trial's start reach Optuna without on_trial_start
            self._open.setdefault(trial.trial_id, trial)
        self._num_seen = len(trials)
        for trial in self._finished:
            # Tune keeps ended trials in memory; their last result and its statistics are the largest part
            trial.metric_analysis.clear()
            trial.metric_n_steps.clear()
            trial.run_metadata.last_result = {}
        self._finished.clear()
        running = [
            (trial.trial_id, trial.config["trial_id"]) for trial in self._open.values() if trial.status == "RUNNING"
        ]
        self._progress.tick(running=len(running))
        if self._start_watch is not None:
            self._start_watch.observe(running=len(running), starting=len(self._open) - len(running))
        if self._final_saves.are_done(running):
            # Tune's own way to end a run: it leaves the running trials as they are
            signal.raise_signal(signal.SIGUSR1)

    def _close(self, trial: Any, status: str, *, reason: str | None = None) -> None:
        reference = self._outcomes.pop(trial.trial_id, None)
        if reference is None:
            self._fail(trial, reason="stopped before the first measurement")
            return
        try:
            outcome = ray.get(reference)
        except RayError:
            self._unreachable.add(trial.trial_id)
            self._progress.print(
                f"trial {trial.config['trial_id']}: worker process died with its results; it continues later"
            )
            return
        row = self._result_writer.record(
            trial.config,
            outcome,
            status=status,
            reason=reason,
            run_id=self._tracker.run_id(trial.config["trial_id"]),
            attempts=self._retry_counter(trial).count,
        )
        self._ended[trial.trial_id] = trial, row

    def _fail(self, trial: Any, *, reason: str | None = None, traceback: str | None = None) -> None:
        traceback = _traceback(trial) if traceback is None else traceback
        row = self._result_writer.record_failure(
            trial.config,
            reason=reason or _last_line(traceback),
            traceback=traceback,
            run_id=self._tracker.run_id(trial.config["trial_id"]),
            attempts=self._retry_counter(trial).count,
        )
        self._ended[trial.trial_id] = trial, row
        self._progress.print(f"trial {row['trial_id']} failed: {row['reason']}")

    def _retry_counter(self, trial: Any) -> RetryCounter:
        return self._retries.setdefault(trial.trial_id, RetryCounter(trial.config.get("attempts", 0)))

    def after_tell(self, tune_id: str) -> None:
        """Report an ended trial to MLflow and on the progress line; delete checkpoints that are not to be kept."""
        if tune_id not in self._ended:
            return
        trial, row = self._ended.pop(tune_id)
        self._open.pop(tune_id, None)
        self._finished.append(trial)
        if self._retention is not None:
            self._retention.ended(row)
        self._tracker.trial_ended(row)
        standing = self._result_writer.standing
        self._tracker.study_reported(standing.done, standing.metrics())
        self._tracker.front(standing.front.trial_ids)
        self._progress.trial_ended()
        for by_tune_id in (self._outcomes, self._retries, self._lost_at_start, self._final_tracebacks):
            by_tune_id.pop(trial.trial_id, None)

    def __getstate__(self) -> dict[str, Any]:
        """Keep all state out of Tune's own files: a resumed study makes a new callback."""
        return {}


def _error(trial: Any) -> BaseException | None:
    try:
        error: BaseException | None = trial.get_pickled_error()
    except Exception:  # noqa: BLE001 - an error of a class that cannot be loaded here; its traceback is a file of its own
        return None
    return error


def _traceback(trial: Any) -> str:
    try:
        return _COLOUR.sub("", Path(trial.error_file).read_text(encoding="utf-8")) if trial.error_file else ""
    except OSError:
        logger.debug("no error file for trial %s", trial.trial_id, exc_info=True)
        return ""


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and lines[-1].startswith("torch.OutOfMemoryError"):
        return OUT_OF_MEMORY  # before the first epoch; from then on the trial itself gives this reason
    return _OWN_CODE.sub("", lines[-1]) if lines else "worker process died"


class HeartbeatCallback(tune.Callback):
    """Shows that the driver is alive, and adapts the number of running trials to the cluster's size.

    Nodes join late, leave, or are added by an autoscaler.

    Args:
        limiter: Limits how many trials run at once; those that wait for resources count too.
        beat: Shows that the driver is alive.
        room: Returns how many trials the cluster can run now; the limit is fixed when None.
    """

    def __init__(
        self, limiter: ConcurrencyLimiter, *, beat: Callable[[], None], room: Callable[[], int] | None = None
    ) -> None:
        self._limiter = limiter
        self._beat = beat
        self._room = room
        self._last = time.monotonic()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Beat and set the limit, at most every `BEAT_SECONDS`."""
        if time.monotonic() - self._last <= BEAT_SECONDS:
            return
        self._last = time.monotonic()
        self._beat()
        if self._room is not None:
            # at least one: a waiting trial makes an autoscaler add a node when all are gone
            self._limiter.max_concurrent = max(1, self._room())

    def __getstate__(self) -> dict[str, Any]:
        """Keep all state out of Tune's own files."""
        return {}
