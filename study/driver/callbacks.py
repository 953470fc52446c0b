"""What a driver does as its trials start, report and end.

The driver is the single writer. Tune calls these hooks in its own loop, so each does little. The order in which the end
of a trial becomes durable is that of `StudySearcher.on_trial_complete`.
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

from study.console import StudyProgress
from study.directory.lock import BEAT_SECONDS
from study.driver.checkpoint_retention import CheckpointRetention
from study.driver.final_saves import FinalSaves
from study.driver.result_writer import ResultWriter
from study.driver.retries import MAX_FAILURES, RetryCounter, is_node_loss, lost_nodes
from study.search.searcher import StillOpenError
from study.tracking.row_mapping import epoch_metrics, params, tags
from study.tracking.tracker import Tracker
from trainables.checkpoints.files import StoreDownError
from trainables.training.outcome import OUT_OF_MEMORY

logger = logging.getLogger(__name__)

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class TrialCallback(tune.Callback):
    """Follows a study's trials.

    Args:
        ledger: Writes the result files.
        tracker: Hands runs and metrics to MLflow.
        progress: The live line.
        last_saves: Knows whether the run is to stop, and can.
        retention: Deletes checkpoints that are not to be kept; none are when None.
        stop_reason: Says why the trial that Tune calls so was stopped early, None where that is not known.
    """

    def __init__(
        self,
        *,
        ledger: ResultWriter,
        tracker: Tracker,
        progress: StudyProgress,
        last_saves: FinalSaves,
        retention: CheckpointRetention | None = None,
        stop_reason: Callable[[str], str | None] = lambda tune_id: None,
    ) -> None:
        self._ledger = ledger
        self._tracker = tracker
        self._progress = progress
        self._last_saves = last_saves
        self._retention = retention
        self._stop_reason = stop_reason
        self._open: dict[str, Any] = {}
        self._seen = 0
        self._finished: list[Any] = []
        self._attempts: dict[str, RetryCounter] = {}
        self._lost_at_start: dict[str, int] = {}
        self._given_up: dict[str, str] = {}
        self._unreachable: set[str] = set()
        self._requeued: set[str] = set()
        self._outcomes: dict[str, ray.ObjectRef[Any]] = {}
        self._ended: dict[str, tuple[Any, dict[str, Any]]] = {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Open the trial's run."""
        self._open[trial.trial_id] = trial
        self._requeued.discard(trial.trial_id)
        self._tries(trial).begun()
        self._lost_at_start[trial.trial_id] = lost_nodes()
        asked = self._ledger.spec_columns_of(trial.config)
        self._tracker.trial_started(asked["trial_id"], params(asked), tags(asked))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Take the outcome out of Tune's result; log the epoch; write the row of a trial that has ended."""
        if trial.trial_id in self._given_up:
            self._fail(trial, text=self._given_up[trial.trial_id])
            return
        if note := result.pop("note", ""):
            self._progress.say(f"trial {trial.config['trial_id']}: {note}")
        self._tries(trial).progressed()
        reference = result.pop("outcome", None)
        if reference is not None:
            self._outcomes[trial.trial_id] = reference
        self._last_saves.reported(trial.trial_id)
        self._tracker.trial_reported(trial.config["trial_id"], result["epoch"], epoch_metrics(result))
        if result["status"] != "running":
            self._close(trial, result["status"])

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Count an attempt that ended too early; Tune has put the trial back in the queue.

        Raises:
            StoreDownError: The place of the checkpoints failed, not the trial: the run ends, with all trials open.
        """
        name, text = trial.config["trial_id"], _error_text(trial)
        self._requeued.add(trial.trial_id)
        self._outcomes.pop(trial.trial_id, None)
        node_lost = is_node_loss(_error(trial), text, lost_at_start=self._lost_at_start.get(trial.trial_id, 0))
        reason = _last_line(text)
        if StoreDownError.__name__ in reason:
            raise StoreDownError(reason.partition(": ")[2])
        if self._tries(trial).ended(node_lost=node_lost):
            # Tune would try for ever; the worker answers for this trial at once
            trial.config["given_up"] = True
            self._given_up[trial.trial_id] = text
        elif node_lost:
            self._progress.say(f"trial {name} lost its node and goes on elsewhere from its last checkpoint")
        else:
            self._progress.say(f"trial {name} goes on from its last checkpoint after: {reason}")

    def before_tell(self, tune_id: str, *, error: bool) -> Mapping[str, Any] | None:
        """Make the row of an ending trial durable before Optuna hears of the end, and return it.

        Raises:
            StillOpenError: The worker died with the trial's results, so that there is no row, or Tune counts its death
                twice.
        """
        if tune_id in self._unreachable:
            raise StillOpenError
        trial = self._open.get(tune_id)
        if trial is None:
            return None
        if not self._ledger.has(trial.config["trial_id"]):
            if error:
                self._reopen(trial)
                self._fail(trial)
            else:
                self._close(trial, "stopped_early", reason=self._stop_reason(tune_id))
                if tune_id in self._unreachable:
                    raise StillOpenError
        return self._ledger.rows.get(trial.config["number"])

    def _reopen(self, trial: Any) -> None:
        """Leave a trial open that Tune ends although it has just put it back in its queue.

        A worker that dies while it saves leaves two calls unanswered. The first puts the trial back; the second Tune
        takes for the end of a trial that waits (2.60, `TuneController._process_trial_failure`).

        Raises:
            StillOpenError: It is one, and was not begun too often.
        """
        known = self._requeued - self._given_up.keys()
        if trial.trial_id in known and self._tries(trial).count < MAX_FAILURES:
            self._unreachable.add(trial.trial_id)
            self._progress.say(f"trial {trial.config['trial_id']}: its worker died while it saved; it is run again")
            raise StillOpenError

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Refresh the live line; end the run when it is to stop and running trials have saved, or had their time."""
        for trial in trials[self._seen :]:
            # errors before a trial's start reach Optuna without on_trial_start
            self._open.setdefault(trial.trial_id, trial)
        self._seen = len(trials)
        for trial in self._finished:
            # Tune keeps every trial; of one that is over, these statistics of its metrics are most
            trial.metric_analysis.clear()
            trial.metric_n_steps.clear()
        self._finished.clear()
        running = [(one.trial_id, one.config["trial_id"]) for one in self._open.values() if one.status == "RUNNING"]
        self._progress.tick(running=len(running))
        if self._last_saves.are_done(running):
            # Tune's own way out: it leaves the running trials as they are
            signal.raise_signal(signal.SIGUSR1)

    def _close(self, trial: Any, status: str, *, reason: str | None = None) -> None:
        reference = self._outcomes.pop(trial.trial_id, None)
        if reference is None:
            self._fail(trial, reason="stopped before anything was measured")
            return
        try:
            outcome = ray.get(reference)
        except RayError:
            self._unreachable.add(trial.trial_id)
            self._progress.say(f"trial {trial.config['trial_id']}: its worker died with its results; it is run again")
            return
        row = self._ledger.record(
            trial.config,
            outcome,
            status=status,
            reason=reason,
            run_id=self._run_id(trial),
            attempts=self._tries(trial).count,
        )
        self._ended[trial.trial_id] = trial, row

    def _fail(self, trial: Any, *, reason: str | None = None, text: str | None = None) -> None:
        text = _error_text(trial) if text is None else text
        row = self._ledger.record_failure(
            trial.config,
            reason=reason or _last_line(text),
            traceback=text,
            run_id=self._run_id(trial),
            attempts=self._tries(trial).count,
        )
        self._ended[trial.trial_id] = trial, row
        self._progress.say(f"trial {row['trial_id']} failed: {row['reason']}")

    def _tries(self, trial: Any) -> RetryCounter:
        return self._attempts.setdefault(trial.trial_id, RetryCounter(trial.config.get("attempts", 0)))

    def _run_id(self, trial: Any) -> str | None:
        return self._tracker.run_id(trial.config["trial_id"])

    def after_tell(self, tune_id: str) -> None:
        """Report the row of an ended trial to MLflow and on the live line, and delete checkpoints that are not kept."""
        if tune_id not in self._ended:
            return
        trial, row = self._ended.pop(tune_id)
        self._open.pop(tune_id, None)
        self._finished.append(trial)
        if self._retention is not None:
            self._retention.ended(row)
        self._tracker.trial_ended(row)
        self._tracker.study_reported(self._ledger.count, self._ledger.progress())
        self._tracker.front(self._ledger.front)
        self._progress.trial_ended(failed=row["status"] == "failed", front_size=self._ledger.front_size)
        for of_one_trial in (self._outcomes, self._attempts, self._lost_at_start, self._given_up):
            of_one_trial.pop(trial.trial_id, None)

    def __getstate__(self) -> dict[str, Any]:
        """Keep everything out of Tune's own files: a resumed study makes a new bookkeeper."""
        return {}


def _error(trial: Any) -> BaseException | None:
    try:
        found: BaseException | None = trial.get_pickled_error()
    except Exception:  # noqa: BLE001 - an error of a class that cannot be loaded here; its text is kept apart
        return None
    return found


def _error_text(trial: Any) -> str:
    try:
        return _COLOUR.sub("", Path(trial.error_file).read_text(encoding="utf-8")) if trial.error_file else ""
    except OSError:
        logger.debug("no error file for trial %s", trial.trial_id, exc_info=True)
        return ""


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and lines[-1].startswith("torch.OutOfMemoryError"):
        return OUT_OF_MEMORY  # before the first epoch; from then on the trial says so itself
    return lines[-1] if lines else "the worker died without a word"


class HeartbeatCallback(tune.Callback):
    """Beats, and lets as many trials run as there is room for: nodes come late, go, or are added by an autoscaler.

    Args:
        limiter: Holds the trials that run at once, those that wait for room included.
        beat: Shows that the driver is alive.
        room: Returns how many trials the cluster holds now; the limiter stays as it is when None.
    """

    def __init__(
        self, limiter: ConcurrencyLimiter, *, beat: Callable[[], None], room: Callable[[], int] | None = None
    ) -> None:
        self._limiter = limiter
        self._beat = beat
        self._room = room
        self._last = time.monotonic()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Look at the clock, and do what is due."""
        if time.monotonic() - self._last <= BEAT_SECONDS:
            return
        self._last = time.monotonic()
        self._beat()
        if self._room is not None:
            # one trial that waits asks an autoscaler for a node when all are gone
            self._limiter.max_concurrent = max(1, self._room())

    def __getstate__(self) -> dict[str, Any]:
        """Keep everything out of Tune's own files."""
        return {}
