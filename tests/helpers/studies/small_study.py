"""A small study started in its own process as a user does, and access to its results."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna

from analysis.data.results import read_epochs, read_results
from study.config.loading import write_yaml
from study.search.storage import study_url

PATIENCE_SECONDS = 420

# Twelve epochs of a few tenths of a second: long enough to be interrupted, short enough for a test.
CONFIG: dict[str, Any] = {
    "name": "small",
    "dataset": {"name": "digits", "train_size": 512},
    "model": {"name": "cnn_small"},
    "training": {"epochs": 12, "batch_size": 64, "attack_steps": 3},
    "evaluation": {"every": 4, "steps": 2, "examples": 64, "lipschitz": {"steps": 2, "examples": 16}},
    "tracking": {"models": 0},
    "front": {"strong_images": 0},
    "search": {"space": "core", "num_trials": 4, "methods": ["adversarial_training", "trades"], "random_fraction": 0.5},
    "resources": {"max_concurrent": 2},
}


def merged(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with nested changes."""
    result = dict(tree)
    for key, value in changes.items():
        result[key] = merged(result.get(key, {}), value) if isinstance(value, Mapping) else value
    return result


class SmallStudy:
    """A study in its own working folder.

    Args:
        folder: The working folder, also of MLflow's store.
        changes: Changes to `CONFIG`, nested in the same way.
        environment: Added to the environment of its driver.
        prefix: Words before its commands, which run them on another machine.
    """

    def __init__(
        self,
        folder: Path,
        changes: Mapping[str, Any] = {},
        *,
        environment: Mapping[str, str] = {},
        prefix: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.config = merged(CONFIG, changes)
        self.dir = folder / "studies" / self.config["name"]
        self.log = folder / "driver.log"
        # Ray runs workers at nearly the lowest priority, at which they hardly run on a busy machine
        self._environment = os.environ | {"RAY_worker_niceness": "0"} | environment
        self._command = [*prefix, sys.executable, "-m", "study"]
        folder.mkdir(parents=True, exist_ok=True)
        write_yaml(folder / "study.yaml", self.config)

    @property
    def epochs(self) -> int:
        return int(self.config["training"]["epochs"])

    @property
    def output(self) -> str:
        """The output of all drivers so far, stdout and stderr."""
        return self.log.read_text(errors="replace")

    def launch(self, *options: str) -> subprocess.Popen[bytes]:
        """Start the study; `options` are further options of `launch`."""
        return self.start("launch", "study.yaml", *options)

    def resume(self) -> subprocess.Popen[bytes]:
        return self.start("resume", str(self.dir))

    def start(self, *words: str, environment: Mapping[str, str] = {}) -> subprocess.Popen[bytes]:
        line = [*self._command, *words]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                line, cwd=self.folder, env=self._environment | environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command and wait for its end."""
        line = [*self._command, *words]
        return subprocess.run(
            line, cwd=self.folder, env=self._environment, capture_output=True, text=True,
            timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip

    def wait_until(self, condition: Callable[[], Any], driver: subprocess.Popen[bytes]) -> Any:
        """Return the value of `condition` once it is true; fail if the driver ends first."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (value := condition()):
            assert driver.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.02)
        return value

    def written(self) -> set[str]:
        """Return the ids of trials whose rows are on disk."""
        return {path.stem for path in (self.dir / "results").glob("*.parquet")}

    def contents(self) -> dict[str, dict[str, Any]]:
        """Return the rows on disk by trial, compacted or not; damaged files are skipped."""
        return {row["trial_id"]: row for row in read_results(self.dir, skip_damaged=True).to_pylist()}

    def running(self) -> set[str]:
        """Return the ids of trials with a checkpoint but no row."""
        return {path.parent.name for path in (self.dir / "checkpoints").glob("*/last.pt")} - self.written()

    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = read_results(self.dir).to_pylist()
        return rows

    def epoch_rows(self, trial_id: str) -> list[dict[str, Any]]:
        return [row for row in read_epochs(self.dir).to_pylist() if row["trial_id"] == trial_id]

    def optuna(self) -> optuna.Study:
        return optuna.load_study(study_name=self.config["name"], storage=study_url(self.dir))

    def runs(self) -> dict[str, list[str]]:
        """Return the statuses of MLflow's runs by trial; the study's own run is under `study`."""
        query = "select t.value, r.status from runs r join tags t on t.run_uuid = r.run_uuid where t.key = ?"
        statuses: dict[str, list[str]] = {}
        with sqlite3.connect(self.folder / "mlflow.db") as store:
            for trial, status in store.execute(query, ("robust_study.trial_id",)):
                statuses.setdefault(trial, []).append(status)
        return statuses
