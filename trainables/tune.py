"""The Ray Tune class: the plain training loop cut into steps, saved, loaded, reported and reused.

One actor serves trial after trial (`reset_config`), because starting a process costs seconds and a
new trial in a warm one milliseconds.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import ray
from ray import tune

from trainables.checkpoints import CheckpointError
from trainables.data.base import ImageData
from trainables.runtime import release_memory
from trainables.spec import TrialSpec
from trainables.storage import exists, join
from trainables.training import LAST, Trainer

logger = logging.getLogger(__name__)


class TrialTrainable(tune.Trainable):
    """Runs one `TrialSpec` epoch by epoch.

    Its config has `spec` (a `TrialSpec` as nested dicts) and, optionally, `checkpoint_dir`: the
    trial's own folder, where every epoch is saved and from where a trial that ran before goes on.

    A result is the epoch's row with `status` (`running`, `completed` or `failed`), `done`, and, after
    epochs that measured, `flags` and `outcome`: a reference to the trial's `Outcome` in the object store,
    because per-example arrays have no place in Tune's own records. The first result of a trial that went on
    from a checkpoint also has `earlier`: the rows of the epochs measured before, which a new scheduler
    has not seen.
    """

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
        if self._failure is not None:
            raise self._failure
        trainer = self._trainer
        if trainer.done:
            row = dict(trainer.history[-1])
        else:
            row = trainer.run_epoch()
            if self._folder is not None:
                trainer.keep(self._folder)
        result: dict[str, Any] = {**row, "status": "running", "done": trainer.done}
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
        vars(self).pop("_trainer", None)
        release_memory()  # the trial before may have left the device full of cached pieces
        self._folder: str | None = config.get("checkpoint_dir")
        try:
            self._trainer = Trainer(TrialSpec.from_dict(config["spec"]), data=self._data)
            if self._folder is not None and exists(last := join(self._folder, LAST)):
                self._resume(last)
        except Exception as error:  # noqa: BLE001 - reset_config must not raise; step does instead
            self._failure = error

    def _resume(self, checkpoint: Path | str) -> None:
        try:
            self._trainer.load(checkpoint)
            self._earlier = [dict(row) for row in self._trainer.history if not row["stale"]]
        except CheckpointError as error:
            logger.warning("%s: the trial starts again from its first epoch", error)
