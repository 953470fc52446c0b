"""How long the searcher takes for a proposal, and to tell Optuna of an end, as a study grows.

Each sampler is given a study of N trials that is there already (drawn at random over the space `core`, one in ten of
them failed) and asked for more, one after the other; the medians are per trial. What a study keeps is SQLite in its
folder; the same without a disk says how much of it is the sampler's own.

    python benchmarks/suggest.py [--sizes 100,1000,2000] [--samplers tpe,nsga2,random] [--storages sqlite,memory]
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import optuna

from study.config import StudyConfig
from study.configfile import load_config
from study.searcher import StudySearcher, ending, open_study
from study.storage import open_storage

ASKED = 9
OBJECTIVES = ["val_clean_accuracy", "val_robust_accuracy", "val_lipschitz_scale_free_log10"]


def outcome(params: dict[str, Any], generator: np.random.Generator) -> dict[str, Any]:
    """Return a made-up row: strength and radius cost clean accuracy, buy robustness, lower the Lipschitz estimate."""
    weights = [value for name, value in params.items() if "." in name]
    strength = math.tanh(5 * params.get("train_epsilon", 0.0)) * (0.6 + 0.1 * math.log(1 + sum(weights)))
    clean, robust, scale = generator.normal(0, 0.02, size=3)
    return {
        "status": "completed",
        "val_clean_accuracy": float(np.clip(0.97 - 0.2 * strength**2 - 0.1 * params["dropout"] + clean, 0, 1)),
        "val_robust_accuracy": float(np.clip(0.1 + 0.7 * strength - 0.2 * params["dropout"] ** 2 + robust, 0, 1)),
        "val_lipschitz_scale_free_mean": float(10 ** (1.5 - strength + scale)),
    }


def grown(config: StudyConfig, storage: optuna.storages.BaseStorage, size: int) -> optuna.Study:
    """Return a study that holds `size` finished trials."""
    generator = np.random.default_rng(0)
    study = open_study(storage, config.name, config.search)
    space, drawing = config.space(), optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trials = []
    for number in range(size):
        trial = drawing.ask()
        space.draw(trial)
        drawn = drawing.get_trials(deepcopy=False)[-1]
        end = ending(config.search, outcome(drawn.params, generator))
        failed = number % 10 == 9
        trials.append(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.FAIL if failed else end.state,
                values=None if failed else end.values,
                params=drawn.params,
                distributions=drawn.distributions,
                user_attrs={"proposal": "sampler"},
            )
        )
    study.add_trials(trials)
    return study


def measured(config: StudyConfig, study: optuna.Study) -> tuple[float, float]:
    """Return the median milliseconds of a proposal and of a tell."""
    rows: dict[str, Any] = {}
    searcher = StudySearcher(
        study,
        space=config.space(),
        search=config.search,
        configure=lambda number, proposal, kind: dict(proposal),
        before_tell=lambda name, *, error: rows[name],
        pending=[],
    )
    generator = np.random.default_rng(1)
    asking, telling = [], []
    for index in range(ASKED):
        name = str(index)
        start = time.perf_counter()
        searcher.suggest(name)
        asking.append(time.perf_counter() - start)
        rows[name] = outcome(study.get_trials(deepcopy=False)[-1].params, generator)
        start = time.perf_counter()
        searcher.on_trial_complete(name, {})
        telling.append(time.perf_counter() - start)
    return 1000 * median(asking), 1000 * median(telling)


def main() -> None:
    """Print one line for each storage, sampler, number of objectives and size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", default="100,1000,2000")
    parser.add_argument("--samplers", default="tpe,nsga2,random")
    parser.add_argument("--storages", default="sqlite,memory")
    arguments = parser.parse_args()
    print(f"{'storage':8} {'sampler':8} objectives {'trials':>7} {'ask ms':>8} {'tell ms':>8}")
    for where in arguments.storages.split(","):
        for sampler in arguments.samplers.split(","):
            for count in (2, 3):
                for size in map(int, arguments.sizes.split(",")):
                    config = load_config(
                        "quickstart", assignments=[f"search.sampler={sampler}", "search.random_fraction=0"]
                    )
                    search = config.search.model_copy(update={"objectives": OBJECTIVES[:count], "num_trials": size})
                    config = config.model_copy(update={"search": search})
                    with tempfile.TemporaryDirectory() as folder:
                        memory = optuna.storages.InMemoryStorage()
                        storage = memory if where == "memory" else open_storage(config, Path(folder))
                        ask, tell = measured(config, grown(config, storage, size))
                    print(f"{where:8} {sampler:8} {count:10} {size:7} {ask:8.1f} {tell:8.1f}", flush=True)


if __name__ == "__main__":
    main()
