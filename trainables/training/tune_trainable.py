"""The Ray Tune class: the plain training loop cut into steps, saved, loaded, reported and reused.

One actor serves trial after trial (`reset_config`), because starting a process costs seconds and a
new trial in a warm one milliseconds.
"""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune

from trainables.checkpoints.files import exists, join, patiently, remove
from trainables.checkpoints.format import CheckpointError
from trainables.data.base import ImageData
from trainables.runtime import release_memory
from trainables.spec import TrialSpec
from trainables.training.fit import trainer_for
from trainables.training.loop import LAST, PARTIAL, Trainer
from trainables.training.save_requests import is_asked_to_save, tell_saved

logger = logging.getLogger(__name__)

LISTEN_SECONDS = 1.0
"""How often a worker asks, between batches, whether its driver wants the trial saved."""

_AGAIN_SECONDS = 60.0


class TrialTrainable(tune.Trainable):
    """Runs one `TrialSpec` epoch by epoch.

    Its config has `spec` (a `TrialSpec` as nested dicts) and, optionally, `checkpoint_dir`: the
    trial's own folder, where every epoch is saved and from where a trial that ran before goes on;
    `checkpoint_minutes`: how often it is saved within long epochs too, as it is whenever the driver asks for
    it (`save_requests`); `given_up`: the trial is not to be tried again, and its one result says `failed`.

    A result is the epoch's row with `status` (`running`, `completed` or `failed`), `done`, and, after
    epochs that measured, `flags` and `outcome`: a reference to the trial's `Outcome` in the object store,
    because per-example arrays have no place in Tune's own records. The first result of a trial that went on
    from a checkpoint also has `earlier`: the rows of the epochs measured before, which a new scheduler
    has not seen. `note`, where there is one, is for the user.
    """

    _trainer: Trainer
    _folder: str | None
    _note: str
    _earlier: list[dict[str, Any]]

    def setup(self, config: dict[str, Any], *, data: ImageData | None = None) -> None:
        """Begin the first trial of this actor.

        Args:
            config: See the class.
            data: The data set, shared through the object store; loaded by the spec when None.
        """
        self._data = data
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in this process, the data set kept.

        Always True: Tune loses track of a trial whose reset fails, so a failure waits for `step`.
        """
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch and return its result.

        Raises:
            StoreDownError: The place of its checkpoints could not be used for minutes.
            Exception: Whatever kept this trial from beginning.
        """
        if self._given_up:
            # not raised, which would cost the next trial this warm process
            return {"epoch": 0, "status": "failed", "done": True}
        if self._failure is not None:
            raise self._failure
        trainer = self._trainer
        if self._unread:
            patiently(self._resume)
        if trainer.done:
            row = dict(trainer.history[-1])
        else:
            row = trainer.run_epoch(between=self._save_between)
            patiently(self._keep)
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
        """Go on from what `save_checkpoint` wrote into a folder."""
        if checkpoint is not None:
            self._trainer.load(Path(checkpoint) / LAST)

    def _begin(self, config: dict[str, Any]) -> None:
        self._failure: Exception | None = None
        self._earlier = []
        self._note = ""
        self._given_up = bool(config.get("given_up"))
        self._folder = config.get("checkpoint_dir")
        minutes = config.get("checkpoint_minutes")
        self._save_seconds = math.inf if minutes is None else 60 * float(minutes)
        self._due = time.monotonic() + self._save_seconds
        self._listened, self._answered = -math.inf, False
        self._unread = self._folder is not None
        vars(self).pop("_trainer", None)
        release_memory()  # the trial before may have left the device full of cached pieces
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
            # `step` waits for it: Tune expects a reset to be quick
            logger.debug("the checkpoints of %s cannot be reached", self._folder, exc_info=True)
        except Exception as error:  # noqa: BLE001 - as above
            self._failure = error

    def _resume(self) -> None:
        """Go on from the newest checkpoint that can be read; a damaged one costs what it held, never the trial.

        Raises:
            OSError: Their place does not answer, which says nothing about them.
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
        self._unread = False
        if damaged is not None:
            self._note = f"{damaged}: the trial goes on from epoch {self._trainer.epoch}"

    def _keep(self) -> None:
        if self._folder is not None:
            self._trainer.keep(self._folder)
            remove(join(self._folder, PARTIAL))
            self._due = time.monotonic() + self._save_seconds

    def _save_between(self) -> None:
        """Save the trial between two batches where it is time to, or the driver asks for it."""
        now = time.monotonic()
        if self._folder is None:
            return
        asked, due = False, now >= self._due
        if not self._answered and now - self._listened >= LISTEN_SECONDS:
            self._listened = now
            asked = is_asked_to_save()
        if not (asked or due):
            return
        try:
            self._trainer.save(join(self._folder, PARTIAL))
        except OSError:
            # the trial can go on without; at the epoch's end the place is waited for
            logger.debug("the trial could not be saved within its epoch", exc_info=True)
            self._due = now + _AGAIN_SECONDS if due else self._due
            return
        self._due = time.monotonic() + self._save_seconds
        if asked:
            tell_saved(self.trial_id)
            self._answered = True
