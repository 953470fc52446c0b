"""The Ray Tune class: it runs the plain training loop in steps, saves, loads and reports trials, and is reused.

One actor runs many trials in turn (`reset_config`): starting a process takes seconds, but starting a
trial in a running process takes milliseconds.
"""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune

from trainables.checkpoints.files import exists, join, remove, with_retries
from trainables.checkpoints.format import CheckpointError
from trainables.data.base import ImageData
from trainables.runtime import release_memory
from trainables.spec import TrialSpec
from trainables.training.fit import trainer_for
from trainables.training.loop import LAST, PARTIAL, Trainer
from trainables.training.save_requests import is_asked_to_save, report_saved

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""Shortest time between two checks, between batches, of whether the driver has asked for a save."""

_RETRY_SECONDS = 60.0


class TrialTrainable(tune.Trainable):
    """Runs one `TrialSpec` epoch by epoch.

    Its config has `spec` (a `TrialSpec` as nested dicts) and, optionally, `checkpoint_dir`: the trial's folder, where
    every epoch is saved and from which the trial resumes if it ran before; `checkpoint_minutes`: the interval at which
    it is also saved within long epochs (and whenever the driver asks, see `save_requests`); `given_up`: the trial is
    not retried, and its only result has the status `failed`.

    A result is the epoch's row with `status` (`running`, `completed` or `failed`), `done`, and, after epochs with a
    measurement, `flags` and `outcome`: a reference to the trial's `Outcome` in the object store, because per-example
    arrays are too large for Tune's own records. The first result of a resumed trial also has `earlier`: the rows of
    the measured epochs before, which a new scheduler has not seen. `note`, if present, is shown to the user.
    """

    _trainer: Trainer
    _folder: str | None
    _note: str
    _earlier: list[dict[str, Any]]

    def setup(self, config: dict[str, Any], *, data: ImageData | None = None) -> None:
        """Start the first trial of this actor.

        Args:
            config: See the class.
            data: The data set, shared through the object store; loaded as the spec says when None.
        """
        self._data = data
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start another trial in this process with the same data set.

        Always returns True: Tune loses track of a trial whose reset fails, so `step` raises the error instead.
        """
        self._start(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch and return its result.

        Raises:
            StoreDownError: The checkpoint storage stayed unavailable for minutes.
            Exception: The error that prevented this trial from starting.
        """
        if self._given_up:
            # raising would end the process, which the next trial can reuse
            return {"epoch": 0, "status": "failed", "done": True}
        if self._failure is not None:
            raise self._failure
        trainer = self._trainer
        if self._must_load:
            with_retries(self._resume)
        if trainer.done:
            row = dict(trainer.history[-1])
        else:
            row = trainer.run_epoch(between=self._save_between)
            with_retries(self._save_epoch)
        result: dict[str, Any] = {**row, "status": "running", "done": trainer.done}
        if self._note:
            result["note"] = self._note
            self._note = ""
        if self._earlier:
            result["earlier"] = self._earlier
            self._earlier = []
        if trainer.done or not row["stale"]:
            outcome = trainer.outcome()
            result |= {"outcome": ray.put(outcome), "flags": outcome.flags}
            if trainer.done:
                result["status"] = outcome.status
        return result

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the trial's state into `checkpoint_dir`."""
        self._trainer.save(Path(checkpoint_dir) / LAST)

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Resume from the state that `save_checkpoint` wrote into a folder."""
        if checkpoint is not None:
            self._trainer.load(Path(checkpoint) / LAST)

    def _start(self, config: dict[str, Any]) -> None:
        self._failure: Exception | None = None
        self._earlier = []
        self._note = ""
        self._given_up = bool(config.get("given_up"))
        self._folder = config.get("checkpoint_dir")
        minutes = config.get("checkpoint_minutes")
        self._save_seconds = math.inf if minutes is None else 60 * float(minutes)
        self._due = time.monotonic() + self._save_seconds
        self._polled, self._saved_on_request = -math.inf, False
        self._must_load = self._folder is not None
        vars(self).pop("_trainer", None)
        release_memory()  # the previous trial may have left the device full of cached memory
        if self._given_up:
            return
        try:
            self._trainer = trainer_for(TrialSpec.from_dict(config["spec"]), data=self._data)
        except Exception as error:  # noqa: BLE001 - reset_config must not raise; step does instead
            self._failure = error
            return
        try:
            self._resume()
        except OSError:
            # `step` retries, as Tune expects a reset to be quick
            logger.debug("the checkpoints in %s are unreachable", self._folder, exc_info=True)
        except Exception as error:  # noqa: BLE001 - as above
            self._failure = error

    def _resume(self) -> None:
        """Resume from the newest readable checkpoint; a damaged one loses its progress, but does not fail the trial.

        Raises:
            OSError: The checkpoint storage is unavailable, so it is unknown whether there are checkpoints.
        """
        if self._folder is None:
            return
        damaged: CheckpointError | None = None
        for name in (PARTIAL, LAST):
            path = join(self._folder, name)
            if not exists(path):
                continue
            try:
                self._trainer.load(path)
            except CheckpointError as error:
                if isinstance(error.__cause__, OSError):
                    raise error.__cause__ from error
                damaged = error
                continue
            self._earlier = [dict(row) for row in self._trainer.history if not row["stale"]]
            break
        self._must_load = False
        if damaged is not None:
            self._note = f"{damaged}: the trial resumes from epoch {self._trainer.epoch}"

    def _save_epoch(self) -> None:
        if self._folder is not None:
            self._trainer.save_checkpoints(self._folder)
            remove(join(self._folder, PARTIAL))
            self._due = time.monotonic() + self._save_seconds

    def _save_between(self) -> None:
        """Save the trial between two batches if it is due or the driver has asked for it."""
        now = time.monotonic()
        if self._folder is None:
            return
        asked, due = False, now >= self._due
        if not self._saved_on_request and now - self._polled >= POLL_SECONDS:
            self._polled = now
            asked = is_asked_to_save()
        if not (asked or due):
            return
        try:
            self._trainer.save(join(self._folder, PARTIAL))
        except OSError:
            # the trial continues without; the save at the epoch's end is retried
            logger.debug("the trial could not be saved within its epoch", exc_info=True)
            self._due = now + _RETRY_SECONDS if due else self._due
            return
        self._due = time.monotonic() + self._save_seconds
        if asked:
            report_saved(self.trial_id)
            self._saved_on_request = True
