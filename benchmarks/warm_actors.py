"""What a warm actor saves: wall time per trial with and without reuse, and Tune's own share of it.

One-epoch trials of a tiny model on the digits, one at a time. The first trial of each run pays for the start
of Ray's first worker and is left out of the means.

    python benchmarks/warm_actors.py [--trials 40] [--cold-trials 40]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from typing import Any

from study.quiet import quiet_ray

quiet_ray()

import ray  # noqa: E402 - its chatter is turned off by variables that it reads when it is imported
from ray import tune  # noqa: E402

from trainables.data import load_dataset  # noqa: E402
from trainables.spec import (  # noqa: E402
    DatasetSpec,
    EvaluationSpec,
    LipschitzSpec,
    ModelSpec,
    TrainingSpec,
    TrialSpec,
)
from trainables.tune import TrialTrainable  # noqa: E402


class Clock(tune.Callback):
    """Notes when each trial ends, and how long its worker says it computed."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.computing: list[float] = []

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Take the outcome out of Tune's result, as the study's own bookkeeper does."""
        outcome = ray.get(result.pop("outcome"))
        self.computing.append(outcome.row["seconds"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note the time."""
        self.ends.append(time.perf_counter())

    def __getstate__(self) -> dict[str, Any]:
        return {}


def spec(number: int) -> dict[str, Any]:
    """Return a trial that takes about as long as a trial can be short."""
    return TrialSpec(
        dataset=DatasetSpec(name="digits", train_size=128),
        method="natural",
        model=ModelSpec(name="mlp"),
        training=TrainingSpec(epochs=1),
        evaluation=EvaluationSpec(steps=1, examples=32, lipschitz=LipschitzSpec(steps=1, restarts=1, examples=8)),
        seed=number,
    ).to_dict()


def run(trials: int, *, reuse: bool) -> tuple[float, float]:
    """Return mean seconds from one trial's end to the next one's, and of computing within."""
    clock = Clock()
    data = load_dataset(DatasetSpec(name="digits", train_size=128)).without_test()
    with tempfile.TemporaryDirectory() as storage:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(TrialTrainable, data=data), {"cpu": 1}),
            param_space={"spec": tune.grid_search([spec(number) for number in range(trials)])},
            tune_config=tune.TuneConfig(max_concurrent_trials=1, reuse_actors=reuse),
            run_config=tune.RunConfig(storage_path=storage, callbacks=[clock], verbose=0),
        )
        tuner.fit()
    gaps = [later - earlier for earlier, later in zip(clock.ends, clock.ends[1:], strict=False)]
    return statistics.mean(gaps), statistics.mean(clock.computing[1:])


def main() -> None:
    """Print both runs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--cold-trials", type=int, default=40)
    options = parser.parse_args()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    found = {}
    for name, trials in (("reused", options.trials), ("fresh", options.cold_trials)):
        wall, computing = run(trials, reuse=name == "reused")
        found[name] = wall
        print(f"{name:>6} actors: {wall:7.3f} s a trial over {trials} trials, {computing:6.3f} s of it computing, "
              f"{wall - computing:7.3f} s Tune's and the process's")  # fmt: skip
    print(f"ratio fresh / reused: {found['fresh'] / found['reused']:.1f}")
    ray.shutdown()


if __name__ == "__main__":
    main()
