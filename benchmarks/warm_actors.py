"""What a warm actor saves against Ray's default: a function trainable, each trial in a process of its own.

One-epoch trials of a tiny model on the digits, one at a time; both kinds train and measure the same trials, seed for
seed. The first trial of each run pays for the start of Ray's first worker and is left out of the means. The numbers
measured are in docs/benchmarks.md.

    python benchmarks/warm_actors.py [--trials 40]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from typing import Any

from study.cluster.ray_settings import quiet_ray

quiet_ray()

import ray  # noqa: E402 - its chatter is turned off by variables that it reads when it is imported
from ray import tune  # noqa: E402

from trainables.data import load_dataset  # noqa: E402
from trainables.data.base import ImageData  # noqa: E402
from trainables.spec import DatasetSpec, EvaluationSpec, LipschitzSpec, ModelSpec, TrainingSpec, TrialSpec  # noqa: E402
from trainables.training.fit import fit  # noqa: E402
from trainables.training.tune_trainable import TrialTrainable  # noqa: E402


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


def fresh(config: dict[str, Any], *, data: ImageData) -> None:
    """Train and measure a trial, report once and end: what Ray Tune's own guide shows first."""
    outcome = fit(TrialSpec.from_dict(config["spec"]), data=data)
    tune.report({"outcome": ray.put(outcome)})


def run(trials: int, trainable: Any, /, *, reuse: bool) -> tuple[float, float, float]:
    """Return the seconds of the whole run, the mean from one trial's end to the next one's, and of computing within."""
    clock = Clock()
    data = load_dataset(DatasetSpec(name="digits", train_size=128)).without_test()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as storage:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(trainable, data=data), {"cpu": 1}),
            param_space={"spec": tune.grid_search([spec(number) for number in range(trials)])},
            tune_config=tune.TuneConfig(max_concurrent_trials=1, reuse_actors=reuse),
            run_config=tune.RunConfig(storage_path=storage, callbacks=[clock], verbose=0),
        )
        tuner.fit()
    wall = time.perf_counter() - begun
    gaps = [later - earlier for earlier, later in zip(clock.ends, clock.ends[1:], strict=False)]
    return wall, statistics.mean(gaps), statistics.mean(clock.computing[1:])


def main() -> None:
    """Print both runs and how they compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=40)
    trials = parser.parse_args().trials
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    kinds = {
        "warm actors": (TrialTrainable, True),
        "Ray's default": (fresh, False),
    }
    walls, means = {}, {}
    for name, (trainable, reuse) in kinds.items():
        walls[name], means[name], computing = run(trials, trainable, reuse=reuse)
        print(
            f"{name:>13}: {walls[name]:7.1f} s for {trials} trials; {means[name]:7.3f} s a trial after the first, "
            f"{computing:6.3f} s of it computing, {means[name] - computing:7.3f} s Tune's and the process's"
        )
    warm, default = kinds
    print(f"wall time, Ray's default / warm actors: {walls[default] / walls[warm]:.1f}")
    print(f"a trial after the first, likewise:      {means[default] / means[warm]:.1f}")
    ray.shutdown()


if __name__ == "__main__":
    main()
