"""A small study as a user starts it, in a process of its own, and what is looked at afterwards."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna

from analysis.data.results import read_epochs, read_results
from study.config.loading import write_yaml

PATIENCE_SECONDS = 420

# Twelve epochs of a few tenths of a second: long enough to be hit in the middle, short enough for a test.
CONFIG: dict[str, Any] = {
    "name": "small",
    "dataset": {"name": "digits", "train_size": 512},
    "model": {"name": "cnn_small"},
    "training": {"epochs": 12, "batch_size": 64, "attack_steps": 3},
    "evaluation": {"every": 4, "steps": 2, "examples": 64, "lipschitz": {"steps": 2, "examples": 16}},
    "tracking": {"models": 0},
    "search": {"space": "core", "num_trials": 4, "methods": ["adversarial_training", "trades"], "random_fraction": 0.5},
    "resources": {"max_concurrent": 2},
}


def merged(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with changes in their places."""
    found = dict(tree)
    for key, value in changes.items():
        found[key] = merged(found.get(key, {}), value) if isinstance(value, Mapping) else value
    return found


class SmallStudy:
    """A study in a folder of its own.

    Args:
        folder: The working folder; MLflow's store lies there too.
        changes: What differs from `CONFIG`, nested as it is.
        environment: Of its driver.
    """

    def __init__(self, folder: Path, changes: Mapping[str, Any] = {}, *, environment: Mapping[str, str] = {}) -> None:
        self.folder = folder
        self.config = merged(CONFIG, changes)
        self.dir = folder / "studies" / self.config["name"]
        self.log = folder / "driver.log"
        # Ray runs its workers at the lowest priority but one, which a busy machine then forgets
        self._environment = os.environ | {"RAY_worker_niceness": "0"} | environment
        folder.mkdir(parents=True, exist_ok=True)
        write_yaml(folder / "study.yaml", self.config)

    @property
    def epochs(self) -> int:
        return int(self.config["training"]["epochs"])

    @property
    def said(self) -> str:
        """What all drivers so far said, on stdout and stderr."""
        return self.log.read_text(errors="replace")

    def launch(self, *words: str) -> subprocess.Popen[bytes]:
        """Start the study; `words` are further options of `launch`."""
        return self.start("launch", "study.yaml", *words)

    def resume(self) -> subprocess.Popen[bytes]:
        return self.start("resume", str(self.dir))

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        line = [sys.executable, "-m", "study", *words]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                line, cwd=self.folder, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        line = [sys.executable, "-m", "study", *words]
        return subprocess.run(
            line, cwd=self.folder, env=self._environment, capture_output=True, text=True,
            timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip

    def wait_until(self, reached: Callable[[], Any], driver: subprocess.Popen[bytes]) -> Any:
        """Return what `reached` returns once it is true; fail when the driver ends first."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := reached()):
            assert driver.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)
        return found

    def written(self) -> set[str]:
        """Return the ids of trials whose rows are on disk."""
        return {path.stem for path in (self.dir / "results").glob("*.parquet")}

    def contents(self) -> dict[str, dict[str, Any]]:
        """Return the rows on disk by trial, whichever file holds them; damaged files are left out."""
        return {row["trial_id"]: row for row in read_results(self.dir, skip_damaged=True).to_pylist()}

    def running(self) -> set[str]:
        """Return the ids of trials that have a checkpoint and no row."""
        return {path.parent.name for path in (self.dir / "checkpoints").glob("*/last.pt")} - self.written()

    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = read_results(self.dir).to_pylist()
        return found

    def epoch_rows(self, trial_id: str) -> list[dict[str, Any]]:
        return [row for row in read_epochs(self.dir).to_pylist() if row["trial_id"] == trial_id]

    def optuna(self) -> optuna.Study:
        return optuna.load_study(study_name=self.config["name"], storage=f"sqlite:///{self.dir}/optuna.db")

    def runs(self) -> dict[str, list[str]]:
        """Return the statuses of MLflow's runs by the trial they belong to, the study's own run as `study`."""
        query = "select t.value, r.status from runs r join tags t on t.run_uuid = r.run_uuid where t.key = ?"
        found: dict[str, list[str]] = {}
        with sqlite3.connect(self.folder / "mlflow.db") as store:
            for trial, status in store.execute(query, ("robust_study.trial_id",)):
                found.setdefault(trial, []).append(status)
        return found
