"""Replay recorded learning curves through the schedulers, and compare the fronts and the epochs that remain.

    python benchmarks/early_stopping.py                                    compare the schedulers
    python benchmarks/early_stopping.py --record studies/learning-curves   rewrite learning_curves.parquet

The curves are from real trials (`learning_curves.yaml` is their study; the Parquet file contains it and the commit).
Trials arrive in shuffled orders on simulated workers, and each epoch takes its recorded time. The schedulers are those
of a study and are called in the same way. A stopped trial is on no front, however good it was.
"""

from __future__ import annotations

import argparse
import heapq
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.fronts.front import hypervolume, reference_point
from analysis.fronts.objectives import FRONT, directions, values
from study.config.early_stopping import AXES
from study.config.loading import read_yaml
from study.config.schema import StudyConfig, parse_config
from study.driver.moasha import judge
from study.driver.schedulers import NoStopping, StudyScheduler, build_scheduler
from trainables.settings import settings_of, with_former_values
from trainables.spec import TrainingSpec

HERE = Path(__file__).parent
CONFIG, CURVES = HERE / "learning_curves.yaml", HERE / "learning_curves.parquet"
COMMAND = "robust-study launch benchmarks/learning_curves.yaml"
WORKERS, ORDERS = 4, 20
MEASURED = ("val_clean_accuracy", "val_robust_accuracy", "val_lipschitz_mean", "val_lipschitz_scale_free_mean")


@dataclass(frozen=True)
class Curves:
    """Learning curves by trial.

    Attributes:
        rows: Each trial's epoch rows, in order.
        status: How each trial ended.
        flagged: Trials whose final measurement is flagged.
    """

    rows: Mapping[str, list[dict[str, Any]]]
    status: Mapping[str, str]
    flagged: frozenset[str]

    @cached_property
    def epochs(self) -> int:
        """Return the total number of epochs."""
        return sum(map(len, self.rows.values()))

    @cached_property
    def axes(self) -> dict[str, np.ndarray]:
        """Return each trial's values on the three axes, shape (epochs, 3)."""
        return {trial: np.array([values(row, AXES) for row in rows]) for trial, rows in self.rows.items()}

    @cached_property
    def reference(self) -> tuple[float, ...]:
        """Return the worst point: accuracies of 0, and the largest Lipschitz estimate of any trial."""
        return (*reference_point(FRONT), max(float(np.nanmax(points[:, 2])) for points in self.axes.values()))

    @cached_property
    def eligible(self) -> frozenset[str]:
        """Return the trials that may be on a front when they have finished."""
        return frozenset(trial for trial, status in self.status.items() if status == "completed") - self.flagged

    def volumes(self, last: Mapping[str, int]) -> tuple[float, float]:
        """Return hypervolumes over (clean, robust) and over all three axes, with each trial at its last epoch."""
        points = np.array([self.axes[trial][epoch - 1] for trial, epoch in last.items()]).reshape(-1, len(AXES))
        return (
            hypervolume(points[:, :2], reference=reference_point(FRONT), maximise=directions(FRONT)).value,
            hypervolume(points, reference=self.reference, maximise=directions(AXES)).value,
        )


def read_curves(path: Path = CURVES, /) -> Curves:
    """Return recorded learning curves."""
    rows: dict[str, list[dict[str, Any]]] = {}
    status: dict[str, str] = {}
    flagged = set()
    for row in pq.read_table(path).to_pylist():
        rows.setdefault(row["trial_id"], []).append(row)
        status[row["trial_id"]] = row["status"]
        if row["flagged"]:
            flagged.add(row["trial_id"])
    return Curves(rows, status, frozenset(flagged))


def record(study_dir: Path, /) -> None:
    """Write a finished study's learning curves to the file that is replayed."""
    from analysis.data.results import read_epochs, read_results

    results = {row["trial_id"]: row for row in read_results(study_dir).to_pylist()}
    rows = []
    for epoch in read_epochs(study_dir).to_pylist():
        result = results[epoch["trial_id"]]
        row = {name: epoch[name] for name in ("trial_id", "epoch", "stale", *MEASURED, "seconds")}
        rows.append(row | {key: result[key] for key in ("method", "status")} | {"flagged": bool(result["flags"])})
    metadata = {
        "command": COMMAND,
        "config": CONFIG.read_text(encoding="utf-8"),
        "code_revision": str(next(iter(results.values()))["code_revision"]),
        "versions": str(next(iter(results.values()))["versions"]),
    }
    table = pa.Table.from_pylist(rows).replace_schema_metadata(metadata)
    pq.write_table(table, CURVES, compression="zstd")
    print(f"{CURVES}: {len(results)} trials, {len(rows)} epochs, {CURVES.stat().st_size / 1000:.0f} kB")


@dataclass(frozen=True)
class Replay:
    """The trials under one scheduler.

    Attributes:
        last: The last epoch of every trial.
        stopped: Trials that were stopped.
    """

    last: dict[str, int]
    stopped: frozenset[str]

    @property
    def epochs(self) -> int:
        """Return the number of epochs run."""
        return sum(self.last.values())


def replay(curves: Curves, scheduler: StudyScheduler, /, *, seed: int, workers: int = WORKERS) -> Replay:
    """Report the curves to a scheduler as if the trials were running.

    Args:
        curves: The trials' reports.
        scheduler: A new scheduler.
        seed: Seed of the order in which trials arrive.
        workers: Number of trials that run concurrently.
    """
    waiting = sorted(curves.rows)
    random.Random(seed).shuffle(waiting)
    running = [(0.0, trial, 0) for trial in waiting[:workers]]
    del waiting[:workers]
    last: dict[str, int] = {}
    stopped = set()
    while running:
        now, trial, epoch = heapq.heappop(running)
        rows = curves.rows[trial]
        if epoch:
            last[trial] = epoch
            handle = SimpleNamespace(trial_id=trial, config={"trial_id": trial})
            done = epoch == len(rows)
            result = {**rows[epoch - 1], "status": curves.status[trial] if done else "running"}
            stop = not done and scheduler.on_trial_result(None, handle, result) == "STOP"
            if stop:
                stopped.add(trial)
            if done or stop:
                scheduler.on_trial_complete(None, handle, result)
                if not waiting:
                    continue
                trial, epoch = waiting.pop(0), 0
        heapq.heappush(running, (now + curves.rows[trial][epoch]["seconds"], trial, epoch + 1))
    return Replay(last, frozenset(stopped))


class RandomStopping(StudyScheduler):
    """Stops as many trials at the same rungs as halving does, but at random."""

    def __init__(self, *, rungs: list[int], reduction_factor: float, seed: int) -> None:
        super().__init__(list(FRONT), epochs=rungs)
        self._factor = reduction_factor
        self._random = random.Random(seed)
        self._draws: dict[int, dict[str, tuple[float]]] = {}

    def reason_to_stop(self, trial: str, epoch: int) -> str | None:
        """Draw a random value for the trial and let halving judge it."""
        draws = self._draws.setdefault(epoch, {})
        draws[trial] = (self._random.random(),)
        verdict = judge(draws, trial, maximise=[True], reduction_factor=self._factor)
        return None if verdict.continues else "stopped at random"


@dataclass(frozen=True)
class Score:
    """The result of one scheduler, with one entry per order of arrival, relative to no stopping.

    Attributes:
        epochs: Share of all epochs that were run.
        front: Hypervolume over (clean, robust) accuracy of the trials that finished.
        axes: The same over all three axes.
        axes_with_stopped: The same with stopped trials at their last value.
        finished: Number of trials that finished.
    """

    epochs: np.ndarray
    front: np.ndarray
    axes: np.ndarray
    axes_with_stopped: np.ndarray
    finished: np.ndarray


def score(
    curves: Curves, make: Callable[[int], StudyScheduler], /, *, orders: int = ORDERS, workers: int = WORKERS
) -> Score:
    """Replay the curves in several orders of arrival, each with a new scheduler."""
    full = curves.volumes({trial: len(curves.rows[trial]) for trial in curves.eligible})
    rows = []
    for seed in range(orders):
        run = replay(curves, make(seed), seed=seed, workers=workers)
        eligible = {trial: epoch for trial, epoch in run.last.items() if trial in curves.eligible}
        finished = {trial: epoch for trial, epoch in eligible.items() if trial not in run.stopped}
        front, axes = curves.volumes(finished)
        with_stopped = curves.volumes(eligible)[1]
        shares = (front / full[0], axes / full[1], with_stopped / full[1])
        rows.append((run.epochs / curves.epochs, *shares, len(finished)))
    return Score(*np.array(rows).T)


def config_with(**scheduler: Any) -> StudyConfig:
    """Return the recorded study's config with a scheduler."""
    recorded = with_former_values(read_yaml(CONFIG), StudyConfig)  # the curves are of training as it was then
    return parse_config({**recorded, "scheduler": scheduler})


def contenders() -> dict[str, Callable[[int], StudyScheduler]]:
    """Return functions of a seed that create each of the schedulers to compare."""
    moasha = config_with(name="moasha")
    ramped = moasha.scheduler.grace(replace(moasha.training, ramp=settings_of(TrainingSpec)["ramp"].default))
    late = config_with(name="moasha", grace_period=ramped)
    asha, median = (config_with(name=name, metric="val_robust_accuracy") for name in ("asha", "median"))
    rungs = moasha.scheduler.rungs(moasha.training, moasha.evaluation)
    factor = moasha.scheduler.halving()
    return {
        "none": lambda seed: NoStopping(),
        "moasha": lambda seed: build_scheduler(moasha),
        f"moasha from epoch {ramped} on": lambda seed: build_scheduler(late),  # by default with today's ramp
        "asha on robust accuracy": lambda seed: build_scheduler(asha),
        "median on robust accuracy": lambda seed: build_scheduler(median),
        "random stopping": lambda seed: RandomStopping(rungs=rungs, reduction_factor=factor, seed=seed),
    }


def fewer_trials(curves: Curves, share: float, /, *, orders: int = ORDERS) -> Score:
    """Spend a share of the epochs on the first trials of each order, to their end, without a scheduler."""
    full = curves.volumes({trial: len(curves.rows[trial]) for trial in curves.eligible})
    rows = []
    for seed in range(orders):
        order = sorted(curves.rows)
        random.Random(seed).shuffle(order)
        run: dict[str, int] = {}
        while sum(run.values()) < share * curves.epochs:
            run[order[len(run)]] = len(curves.rows[order[len(run)]])
        eligible = {trial: epoch for trial, epoch in run.items() if trial in curves.eligible}
        front, axes = curves.volumes(eligible)
        epochs = sum(run.values()) / curves.epochs
        rows.append((epochs, front / full[0], axes / full[1], axes / full[1], len(eligible)))
    return Score(*np.array(rows).T)


def main() -> None:
    """Print the comparison, or record curves."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--record", type=Path, metavar="STUDY_DIR", help="write the curves of this study and exit")
    parser.add_argument("--orders", type=int, default=ORDERS, help="number of orders of arrival")
    parser.add_argument("--workers", type=int, default=WORKERS, help="number of trials that run concurrently")
    options = parser.parse_args()
    if options.record is not None:
        record(options.record)
        return
    curves = read_curves()
    config = config_with(name="moasha")
    rungs = config.scheduler.rungs(config.training, config.evaluation)
    print(f"{len(curves.rows)} trials, {curves.epochs} epochs; {len(curves.eligible)} may be on the front")
    print(f"rungs at epochs {rungs} of {config.training.epochs}, 1 in {config.scheduler.halving():g} continues")
    print(
        f"{options.orders} orders of arrival, {options.workers} workers; mean (worst) over the orders, 1 = no stopping"
    )
    print(f"{'':28}{'epochs':>15}{'front':>17}{'3 axes':>17}{'with stopped':>17}{'finished':>10}")
    for name, make in contenders().items():
        show(name, score(curves, make, orders=options.orders, workers=options.workers))
    share = score(curves, contenders()["moasha"], orders=options.orders, workers=options.workers).epochs.mean()
    show("fewer trials, none stopped", fewer_trials(curves, float(share), orders=options.orders))


def show(name: str, score: Score, /) -> None:
    """Print one line of the comparison."""
    volumes = "".join(
        f"{volume.mean():9.4f} ({volume.min():.3f})" for volume in (score.front, score.axes, score.axes_with_stopped)
    )
    epochs = f"{score.epochs.mean():7.3f} ({score.epochs.max():.3f})"
    print(f"{name:28}{epochs:>15} {volumes}{score.finished.mean():9.1f}")


if __name__ == "__main__":
    main()
