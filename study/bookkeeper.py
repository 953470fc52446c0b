"""The study's books: as trials start, report and end, rows become durable, then Optuna, then MLflow.

The driver is the single writer. Tune calls these hooks in its own loop, so each does little.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune

from study.ledger import Ledger
from study.progress import StudyProgress
from study.tracking.rows import epoch_metrics, params, tags
from study.tracking.tracker import Tracker
from trainables.outcome import OUT_OF_MEMORY

logger = logging.getLogger(__name__)

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Bookkeeper(tune.Callback):
    """Follows a study's trials.

    Args:
        ledger: Writes the result files.
        tracker: Hands runs and metrics to MLflow.
        progress: The live line.
        stop_reason: Says why the trial that Tune calls so was stopped early, None where that is not known.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        tracker: Tracker,
        progress: StudyProgress,
        stop_reason: Callable[[str], str | None] = lambda tune_id: None,
    ) -> None:
        self._ledger = ledger
        self._tracker = tracker
        self._progress = progress
        self._stop_reason = stop_reason
        self._trials: dict[str, Any] = {}
        self._outcomes: dict[str, ray.ObjectRef[Any]] = {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Open the trial's run."""
        self._trials[trial.trial_id] = trial
        asked = self._ledger.asked(trial.config)
        self._tracker.trial_started(asked["trial_id"], params(asked), tags(asked))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Take the outcome out of Tune's result; log the epoch; write the row when the trial is over."""
        reference = result.pop("outcome", None)
        if reference is not None:
            self._outcomes[trial.trial_id] = reference
        self._tracker.trial_reported(trial.config["trial_id"], result["epoch"], epoch_metrics(result))
        if result["status"] != "running":
            self._close(trial, result["status"])

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Say that a trial is tried again; Tune has put it back in the queue."""
        self._outcomes.pop(trial.trial_id, None)
        reason = _last_line(_error_text(trial))
        self._progress.say(f"trial {trial.config['trial_id']} goes on from its last checkpoint after: {reason}")

    def before_tell(self, tune_id: str, *, error: bool) -> Mapping[str, Any] | None:
        """Make the row of an ending trial durable before Optuna hears of the end, and return it."""
        trial = self._trials.get(tune_id)
        if trial is None:
            return None
        if not self._ledger.has(trial.config["trial_id"]):
            if error:
                self._fail(trial)
            else:
                self._close(trial, "stopped_early", reason=self._stop_reason(tune_id))
        return self._ledger.rows[trial.config["number"]]

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Refresh the live line."""
        for trial in trials:
            # errors before a trial's start reach Optuna without on_trial_start
            self._trials.setdefault(trial.trial_id, trial)
        self._progress.tick(running=sum(trial.status == "RUNNING" for trial in trials))

    def _close(self, trial: Any, status: str, *, reason: str | None = None) -> None:
        reference = self._outcomes.pop(trial.trial_id, None)
        if reference is None:
            self._fail(trial, reason="stopped before anything was measured")
            return
        outcome = ray.get(reference)
        row = self._ledger.record(trial.config, outcome, status=status, reason=reason, run_id=self._run_id(trial))
        self._end(trial, row)

    def _fail(self, trial: Any, *, reason: str | None = None) -> None:
        text = _error_text(trial)
        row = self._ledger.record_failure(
            trial.config, reason=reason or _last_line(text), traceback=text, run_id=self._run_id(trial)
        )
        self._end(trial, row)
        self._progress.say(f"trial {row['trial_id']} failed: {row['reason']}")

    def _run_id(self, trial: Any) -> str | None:
        return self._tracker.run_id(trial.config["trial_id"])

    def _end(self, trial: Any, row: Mapping[str, Any]) -> None:
        self._tracker.trial_ended(row)
        self._tracker.study_reported(self._ledger.count, self._ledger.progress())
        self._progress.trial_ended(failed=row["status"] == "failed", front_size=self._ledger.front_size)
        self._outcomes.pop(trial.trial_id, None)

    def __getstate__(self) -> dict[str, Any]:
        """Keep everything out of Tune's own files: a resumed study makes a new bookkeeper."""
        return {}


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
