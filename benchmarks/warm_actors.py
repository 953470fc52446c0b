"""The time that reused actors save over Ray's default: a function trainable, with a new process for each trial.

One-epoch trials of a tiny model on the digits, one at a time; both kinds train and measure the same trials, seed for
seed. The first trial of each run includes the start of Ray's first worker and is excluded from the means. The results
are in docs/benchmarks.md.

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

import ray  # noqa: E402 - it reads the variables that silence it when it is imported
from ray import tune  # noqa: E402

from trainables.data import load_dataset  # noqa: E402
from trainables.data.base import ImageData  # noqa: E402
from trainables.spec import DatasetSpec, EvaluationSpec, LipschitzSpec, ModelSpec, TrainingSpec, TrialSpec  # noqa: E402
from trainables.training.fit import fit  # noqa: E402
from trainables.training.tune_trainable import TrialTrainable  # noqa: E402


class Clock(tune.Callback):
    """Records when each trial ends, and its seconds of computing as its worker reports them."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.computing: list[float] = []

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Take the outcome out of Tune's result, as a study's own callback does."""
        outcome = ray.get(result.pop("outcome"))
        self.computing.append(outcome.row["seconds"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record the time."""
        self.ends.append(time.perf_counter())

    def __getstate__(self) -> dict[str, Any]:
        return {}


def spec(number: int) -> dict[str, Any]:
    """Return one of the shortest possible trials."""
    return TrialSpec(
        dataset=DatasetSpec(name="digits", train_size=128),
        method="natural",
        model=ModelSpec(name="mlp"),
        training=TrainingSpec(epochs=1),
        evaluation=EvaluationSpec(steps=1, examples=32, lipschitz=LipschitzSpec(steps=1, restarts=1, examples=8)),
        seed=number,
    ).to_dict()


def fresh(config: dict[str, Any], *, data: ImageData) -> None:
    """Train and measure a trial and report once, as in the first example of Ray Tune's guide."""
    outcome = fit(TrialSpec.from_dict(config["spec"]), data=data)
    tune.report({"outcome": ray.put(outcome)})


def run(trials: int, trainable: Any, /, *, reuse: bool) -> tuple[float, float, float]:
    """Return the seconds of the whole run, and per trial after the first the mean total and the mean of computing."""
    clock = Clock()
    data = load_dataset(DatasetSpec(name="digits", train_size=128)).without_test()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as storage:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(trainable, data=data), {"cpu": 1}),
            param_space={"spec": tune.grid_search([spec(number) for number in range(trials)])},
            tune_config=tune.TuneConfig(max_concurrent_trials=1, reuse_actors=reuse),
            run_config=tune.RunConfig(storage_path=storage, callbacks=[clock], verbose=0),
        )
        tuner.fit()
    wall = time.perf_counter() - started
    gaps = [later - earlier for earlier, later in zip(clock.ends, clock.ends[1:], strict=False)]
    return wall, statistics.mean(gaps), statistics.mean(clock.computing[1:])


def main() -> None:
    """Print both runs and their ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=40)
    trials = parser.parse_args().trials
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    kinds = {
        "reused actors": (TrialTrainable, True),
        "Ray's default": (fresh, False),
    }
    walls, means = {}, {}
    for name, (trainable, reuse) in kinds.items():
        walls[name], means[name], computing = run(trials, trainable, reuse=reuse)
        print(
            f"{name:>13}: {walls[name]:7.1f} s for {trials} trials; {means[name]:7.3f} s per trial after the first, "
            f"of which {computing:6.3f} s computing and {means[name] - computing:7.3f} s overhead"
        )
    reused, default = kinds
    print(f"ratio of wall times, Ray's default / reused actors: {walls[default] / walls[reused]:.1f}")
    print(f"ratio per trial after the first:                    {means[default] / means[reused]:.1f}")
    ray.shutdown()


if __name__ == "__main__":
    main()
