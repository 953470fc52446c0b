"""The driver's time and memory per trial in a study of many trials, at its beginning and at its end.

Trials that train nothing go through the real driver: searcher, Optuna's storage, result files, MLflow, Ray Tune.
The times are those at which the result rows are written; the first few trials, which wait for Ray's workers to
start, are excluded.

    python benchmarks/scale.py [--trials 2000] [--window 200] [--sampler random] [--epochs 1]
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from study.cluster.ray_settings import listen_locally
from study.config.loading import load_config
from study.directory.layout import create

listen_locally()

import ray  # noqa: E402 - it reads where to listen when it is imported
from ray import tune  # noqa: E402

from study.driver.tune_run import run_study  # noqa: E402
from trainables.data.base import ImageData  # noqa: E402
from trainables.methods.base import build_method  # noqa: E402
from trainables.spec import TrialSpec  # noqa: E402
from trainables.training.outcome import Outcome, best_columns, data_columns, measure_columns, spec_columns  # noqa: E402

WARM_UP = 10


class Idle(tune.Trainable):
    """Reports what a trial reports, without training."""

    def setup(self, config: dict[str, Any], *, data: ImageData) -> None:
        """Store the data set, whose name and hash are in a row."""
        self._data = data

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Run the next trial in this process."""
        return True

    def step(self) -> dict[str, Any]:
        """Return an epoch's report; the last is that of a completed trial, with random accuracies."""
        spec, number = TrialSpec.from_dict(self.config["spec"]), self.iteration + 1
        if number < spec.training.epochs:
            return {"epoch": number, "stale": True, "val_clean_accuracy": 0.5, "status": "running", "done": False}
        clean, robust = np.sort(np.random.default_rng(self.config["number"]).uniform(size=2))[::-1].tolist()
        accuracies = {"val_clean_accuracy": clean, "val_robust_accuracy": robust}
        row = spec_columns(spec, build_method(spec.method, spec.params)) | data_columns(spec, self._data)
        row |= measure_columns({}) | best_columns(None) | accuracies | {"epochs": number}
        epoch = {"epoch": number, "stale": False, **accuracies}
        outcome = Outcome("completed", None, row, [epoch], {}, {}, [])
        return {**epoch, "status": "completed", "done": True, "outcome": ray.put(outcome)}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save nothing."""


class Monitor(threading.Thread):
    """Records this process's resident memory and CPU time with the number of rows on disk."""

    def __init__(self, rows: Path) -> None:
        super().__init__(daemon=True)
        self._rows = rows
        self._stopping = threading.Event()
        self.samples: list[tuple[int, float, float]] = []

    def run(self) -> None:
        """Take a sample once a second until `stop`."""
        while not self._stopping.wait(1.0):
            rows = sum(1 for _ in self._rows.glob("*.parquet"))
            self.samples.append((rows, resident_mb(), time.process_time()))

    def stop(self) -> None:
        """Stop the thread."""
        self._stopping.set()
        self.join()

    def slope(self, quantity: int, *, first: int, last: int) -> float:
        """Return the increase of a quantity per trial, by a linear fit between two numbers of trials."""
        points = np.array([point for point in self.samples if first <= point[0] <= last])
        return float(np.polyfit(points[:, 0], points[:, quantity], 1)[0])


def resident_mb() -> float:
    """Return this process's resident memory in MB."""
    fields = Path("/proc/self/status").read_text(encoding="utf-8").split("VmRSS:")[1].split()
    return int(fields[0]) / 1e3


def main() -> None:
    """Run the study and print the cost of a trial."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--window", type=int, default=200, help="number of trials at either end to compare")
    parser.add_argument("--sampler", default="random")
    parser.add_argument("--epochs", type=int, default=1, help="reports per trial")
    options = parser.parse_args()
    changes = [f"search.sampler={options.sampler}", f"training.epochs={options.epochs}"]
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), trials=options.trials, window=options.window, changes=changes)


def measure(folder: Path, *, trials: int, window: int, changes: list[str]) -> None:
    """Run one study of `trials` trials in `folder` and print its times and memory."""
    space = ["search.methods=[natural, adversarial_training, trades]", "search.random_fraction=0.25"]
    assignments = [*space, f"search.num_trials={trials}", f"tracking.uri=sqlite:///{folder}/mlflow.db", *changes]
    config = load_config("quickstart", assignments=assignments)
    study_dir = create(config, folder)
    monitor = Monitor(study_dir / "results")
    monitor.start()
    started = time.perf_counter()
    tracker = run_study(config, study_dir, trainable=Idle)
    ran = time.perf_counter() - started
    problem = tracker.close("FINISHED", timeout=3600)
    waited = time.perf_counter() - started - ran
    monitor.stop()
    written = np.sort([path.stat().st_mtime_ns for path in (study_dir / "results").glob("*.parquet")]) / 1e9
    first = (written[WARM_UP + window] - written[WARM_UP]) / window
    last = (written[-1] - written[-1 - window]) / window
    print(f"{trials} idle trials ({', '.join(changes)}): {ran:.0f} s, then {waited:.0f} s until all are in MLflow")
    print(f"a trial takes {1e3 * first:.0f} ms among the first {window}, {1e3 * last:.0f} ms among the last {window}")
    print(f"growth: {last / first:.2f}")
    cpu = [monitor.slope(2, first=start, last=start + window) for start in (WARM_UP, trials - window)]
    print(f"CPU time of the driver: {1e3 * cpu[0]:.0f} ms per trial, {1e3 * cpu[1]:.0f} ms at the end")
    growth = 1e3 * monitor.slope(1, first=window, last=trials)
    print(f"memory of the driver: {resident_mb():.0f} MB at the end, growing by {growth:.1f} kB per trial")
    print(f"optuna.db: {(study_dir / 'optuna.db').stat().st_size / trials / 1e3:.1f} kB per trial, "
          f"mlflow.db: {(folder / 'mlflow.db').stat().st_size / trials / 1e3:.1f} kB per trial")  # fmt: skip
    if problem:
        print(f"tracking: {problem}")


if __name__ == "__main__":
    main()
