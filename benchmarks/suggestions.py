"""What a suggestion costs as a search grows: milliseconds for each sampler at several numbers of finished trials.

The quickstart's space, two objectives, trials in memory: the sampler's own time, without storage or Ray. The
trials already finished have random accuracies and were drawn at random; those of the genetic samplers by
themselves, because they build on generations of their own alone.

    python benchmarks/suggestions.py [--samplers tpe nsga2 random] [--trials 100 1000 2000] [--repeats 10]
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import optuna

from study.configfile import load_config
from study.searcher import open_study

FAILED = optuna.trial.TrialState.FAIL


def main() -> None:
    """Print a line for each sampler."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samplers", nargs="+", default=["tpe", "nsga2", "random"])
    parser.add_argument("--trials", nargs="+", type=int, default=[100, 1000, 2000])
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    print("milliseconds a suggestion, median of", options.repeats)
    for sampler in options.samplers:
        found = suggestion_ms(sampler, sizes=sorted(options.trials), repeats=options.repeats)
        print(f"{sampler:>8}", *(f"{size} trials: {ms:7.1f}" for size, ms in found.items()), sep="   ")


def suggestion_ms(sampler: str, *, sizes: list[int], repeats: int) -> dict[int, float]:
    """Return the median milliseconds of a suggestion by the number of finished trials."""
    changes = [f"search.sampler={sampler}", "search.random_fraction=0", f"search.num_trials={sizes[-1]}"]
    config = load_config("quickstart", assignments=changes)
    space = config.space()
    study = open_study(optuna.storages.InMemoryStorage(), "suggestions", config.search)
    proposing = study.sampler
    filling = proposing if sampler.startswith("nsga") else optuna.samplers.RandomSampler(seed=0)
    draw = np.random.default_rng(0)
    found = {}
    for size in sizes:
        study.sampler = filling
        while len(study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))) < size:
            trial = study.ask()
            space.draw(trial)
            study.tell(trial, np.sort(draw.uniform(size=2))[::-1].tolist())
        study.sampler = proposing
        seconds = []
        for _ in range(repeats):
            begun = time.perf_counter()
            trial = study.ask()
            space.draw(trial)
            seconds.append(time.perf_counter() - begun)
            study.tell(trial, state=FAILED)  # samplers do not learn from it
        found[size] = 1e3 * statistics.median(seconds)
    return found


if __name__ == "__main__":
    main()
