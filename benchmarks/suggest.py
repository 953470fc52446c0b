"""Time that the searcher takes to propose a trial, and to tell Optuna its result, as a study grows.

A study of the space `core` grows to N trials, one in ten of them failed, and is then asked for more, one after the
other; the medians are per trial. For nsga2 and nsga3 the trials are their own generations, for the others they are
random. The samplers are timed in memory; SQLite in the study's folder adds the same to all, and is timed with
`random`.

    python benchmarks/suggest.py [--sizes 100,1000,2000] [--samplers tpe,nsga2,random]
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

from study.config.loading import load_config
from study.config.schema import StudyConfig
from study.search.optuna_study import open_study, outcome_for_optuna, tell
from study.search.searcher import StudySearcher
from study.search.storage import open_storage

PROPOSALS = 9
OBJECTIVES = ["val_clean_accuracy", "val_robust_accuracy", "val_lipschitz_scale_free_log10"]
FAILED = {"status": "failed"}


def outcome(proposal: dict[str, Any], generator: np.random.Generator) -> dict[str, Any]:
    """Return a synthetic row: strength and radius lower clean accuracy and Lipschitz estimate, and raise robustness."""
    weights = sum(proposal.get(name, 0.0) for name in ("beta", "lambda", "mu"))
    strength = math.tanh(5 * proposal.get("train_epsilon", 0.0)) * (0.6 + 0.1 * math.log(1 + weights))
    clean, robust, scale = generator.normal(0, 0.02, size=3)
    return {
        "status": "completed",
        "val_clean_accuracy": float(np.clip(0.97 - 0.2 * strength**2 - 0.1 * proposal["dropout"] + clean, 0, 1)),
        "val_robust_accuracy": float(np.clip(0.1 + 0.7 * strength - 0.2 * proposal["dropout"] ** 2 + robust, 0, 1)),
        "val_lipschitz_scale_free_mean": float(10 ** (1.5 - strength + scale)),
    }


def grow(study: optuna.Study, config: StudyConfig, size: int, generator: np.random.Generator) -> None:
    """Ask and tell until the study has `size` trials."""
    sampler = study.sampler
    if config.search.sampler == "tpe":
        study.sampler = optuna.samplers.RandomSampler(seed=0)
    space = config.space()
    for number in range(len(study.get_trials(deepcopy=False)), size):
        trial = study.ask()
        row = outcome(space.draw(trial), generator)
        tell(study, trial, outcome_for_optuna(config.search, FAILED if number % 10 == 9 else row))
    study.sampler = sampler


def measure(study: optuna.Study, config: StudyConfig, generator: np.random.Generator) -> tuple[float, float]:
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
    asking, telling = [], []
    for index in range(PROPOSALS):
        name = str(index)
        start = time.perf_counter()
        proposal = searcher.suggest(name)
        asking.append(time.perf_counter() - start)
        if not isinstance(proposal, dict):
            raise RuntimeError("the searcher has no more proposals")
        rows[name] = outcome(proposal, generator)
        start = time.perf_counter()
        searcher.on_trial_complete(name, {})
        telling.append(time.perf_counter() - start)
    return 1000 * median(asking), 1000 * median(telling)


def report(where: str, sampler: str, *, objectives: int, sizes: list[int]) -> None:
    """Grow a study from size to size and print the times at each."""
    methods = "search.methods=[natural, adversarial_training, trades]"
    config = load_config("quickstart", assignments=[methods, f"search.sampler={sampler}", "search.random_fraction=0"])
    search = config.search.model_copy(update={"objectives": OBJECTIVES[:objectives], "num_trials": max(sizes)})
    config = config.model_copy(update={"search": search})
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        memory = where == "memory"
        storage = optuna.storages.InMemoryStorage() if memory else open_storage(config, Path(folder))
        study = open_study(storage, config.name, config.search)
        for size in sizes:
            grow(study, config, size, generator)
            ask, end = measure(study, config, generator)
            print(f"{where:8} {sampler:8} {objectives:10} {size:7} {ask:8.1f} {end:8.1f}", flush=True)


def main() -> None:
    """Print one line for each storage, sampler, number of objectives and size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", default="100,1000,2000")
    parser.add_argument("--samplers", default="tpe,nsga2,random")
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.sizes.split(",")]
    print(f"{'storage':8} {'sampler':8} objectives {'trials':>7} {'ask ms':>8} {'tell ms':>8}")
    for sampler in arguments.samplers.split(","):
        for objectives in (2, 3):
            report("memory", sampler, objectives=objectives, sizes=sizes)
    report("sqlite", "random", objectives=2, sizes=sizes)


if __name__ == "__main__":
    main()
