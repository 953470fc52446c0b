"""The Ray Tune class: the plain training loop cut into steps, saved, loaded, reported and reused.

One actor serves trial after trial (`reset_config`), because starting a process costs seconds and a
new trial in a warm one milliseconds.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune

from trainables.checkpoints import CheckpointError
from trainables.data.base import ImageData
from trainables.runtime import release_memory
from trainables.spec import TrialSpec
from trainables.storage import exists, join, remove
from trainables.training import LAST, PARTIAL, Trainer


class TrialTrainable(tune.Trainable):
    """Runs one `TrialSpec` epoch by epoch.

    Its config has `spec` (a `TrialSpec` as nested dicts) and, optionally, `checkpoint_dir`: the
    trial's own folder, where every epoch is saved and from where a trial that ran before goes on;
    `checkpoint_minutes`: how often it is saved within long epochs too; `given_up`: the trial is
    not to be tried again, and its one result says `failed`.

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
            Exception: Whatever kept this trial from beginning.
        """
        if self._given_up:
            # not raised, which would cost the next trial this warm process
            return {"epoch": 0, "status": "failed", "done": True}
        if self._failure is not None:
            raise self._failure
        trainer = self._trainer
        if trainer.done:
            row = dict(trainer.history[-1])
        else:
            row = trainer.run_epoch(between=self._save_in_time)
            if self._folder is not None:
                trainer.keep(self._folder)
                remove(join(self._folder, PARTIAL))
                self._saved = time.monotonic()
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
        self._saved = time.monotonic()
        vars(self).pop("_trainer", None)
        release_memory()  # the trial before may have left the device full of cached pieces
        if self._given_up:
            return
        try:
            self._trainer = Trainer(TrialSpec.from_dict(config["spec"]), data=self._data)
            if self._folder is not None:
                self._resume(self._folder)
        except Exception as error:  # noqa: BLE001 - reset_config must not raise; step does instead
            self._failure = error

    def _resume(self, folder: str) -> None:
        """Go on from the newest checkpoint that can be read; a damaged one costs what it held, never the trial."""
        damaged: CheckpointError | None = None
        for name in (PARTIAL, LAST):
            if not exists(join(folder, name)):
                continue
            try:
                self._trainer.load(join(folder, name))
            except CheckpointError as error:
                damaged = error
                continue
            self._earlier = [dict(row) for row in self._trainer.history if not row["stale"]]
            break
        if damaged is not None:
            self._note = f"{damaged}: the trial goes on from epoch {self._trainer.epoch}"

    def _save_in_time(self) -> None:
        if self._folder is not None and time.monotonic() - self._saved >= self._save_seconds:
            self._trainer.save(join(self._folder, PARTIAL))
            self._saved = time.monotonic()
