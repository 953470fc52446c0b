"""Does the search earn its keep? Hypervolume over trials of each sampler, on real trials of the digits.

    python benchmarks/samplers.py [OUT] [--samplers tpe nsga2 random] [--seeds 0 1 2 3 4] [--trials 60]

Every sampler searches the space `core` over all methods with the same seeds and the same number of trials, one after
another: small networks, trained for ten epochs. Each run is a file below OUT; what is there is not run again. Printed
are the hypervolume of the front as validation measured it after so many trials, and at the end that of the front's
members on test, which no search saw: means over seeds with 95 % t-intervals, and differences from random at equal
seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch
from scipy import stats

from analysis.fronts.front import hypervolume, non_dominated
from study.config.loading import load_config
from study.config.schema import StudyConfig
from study.search.optuna_study import open_study
from study.search.searcher import StudySearcher
from trainables.attacks import ATTACKS
from trainables.attacks.base import run_attack
from trainables.attacks.threat import Ascent, ThreatModel
from trainables.data import load_dataset
from trainables.data.base import ImageData
from trainables.evaluation.evaluate import clean_measures
from trainables.evaluation.trial import measured_part
from trainables.spec import TrialSpec
from trainables.training.loop import Trainer

MARKS = (10, 20, 30, 40, 60)
"""Numbers of trials at which the hypervolume is reported."""

EPOCHS = 10


def main() -> None:
    """Run what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, nargs="?", default=Path("samplers"), help="folder of the runs")
    parser.add_argument("--samplers", nargs="+", default=["tpe", "nsga2", "random"], help="samplers to compare")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="seeds of the searches")
    parser.add_argument("--trials", type=int, default=max(MARKS), help="trials of each search")
    given = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    given.out.mkdir(parents=True, exist_ok=True)
    runs: dict[str, list[pd.DataFrame]] = {sampler: [] for sampler in given.samplers}
    for seed in given.seeds:
        for sampler in given.samplers:
            file = given.out / f"{sampler}-{seed}-{given.trials}.csv"
            if not file.exists():
                _search(sampler, seed, given.trials).to_csv(file, index=False)
                print(f"ran {file.stem}", flush=True)
            runs[sampler].append(pd.read_csv(file))
    marks = [mark for mark in MARKS if mark <= given.trials]
    reached = {sampler: np.array([_volumes(run, marks) for run in each]) for sampler, each in runs.items()}
    columns = [f"{mark} trials" for mark in marks] + ["front on test"]
    print("\nhypervolume, reference (0, 0)")
    print(_table(reached, columns))
    if "random" in reached:
        print("\ndifference from random")
        print(_table({name: each - reached["random"] for name, each in reached.items() if name != "random"}, columns))


def _config(sampler: str, seed: int, trials: int) -> StudyConfig:
    tree: dict[str, Any] = {
        "name": "samplers",
        "dataset": {"name": "digits", "val_fraction": 0.2},
        "model": {"name": "mlp"},
        "training": {"epochs": EPOCHS, "batch_size": 64, "attack_steps": 5},
        "evaluation": {
            "epsilon": 0.15, "examples": 300, "every": EPOCHS, "lipschitz": {"steps": 1, "restarts": 1, "examples": 1},
        },
        "search": {"space": "core", "sampler": sampler, "seed": seed, "num_trials": trials},
    }  # fmt: skip
    return load_config(tree)


def _search(sampler: str, seed: int, trials: int) -> pd.DataFrame:
    """Return a search's trials in order: settings, accuracies on validation, and on test those of the front."""
    config = _config(sampler, seed, trials)
    data = load_dataset(config.dataset)
    rows: dict[str, dict[str, Any]] = {}
    kept: list[Trainer] = []
    searcher = StudySearcher(
        open_study(optuna.storages.InMemoryStorage(), config.name, config.search),
        space=config.space(),
        search=config.search,
        configure=lambda number, proposal, kind: {"number": number, "proposal": dict(proposal)},
        before_tell=lambda name, *, error: rows[name],
        pending=[],
    )
    for name in map(str, range(trials)):
        asked = searcher.suggest(name)
        if not isinstance(asked, dict):
            raise RuntimeError("the searcher has no more proposals")
        trainer = _trained(config.trial_spec(asked["proposal"], number=asked["number"]), data)
        kept.append(trainer)
        outcome = trainer.outcome()
        rows[name] = {**outcome.row, "status": outcome.status, "flags": " ".join(outcome.flags)}
        searcher.on_trial_complete(name, {})
    table = pd.DataFrame([{**row, "trial": number} for number, row in enumerate(rows.values())])
    points = _points(table)
    table[["test_clean_accuracy", "test_robust_accuracy"]] = np.nan
    for number in np.flatnonzero(non_dominated(points, maximise=True) & np.isfinite(points).all(axis=1)):
        table.loc[number, ["test_clean_accuracy", "test_robust_accuracy"]] = _on_test(kept[number], config, data)
    return table


def _trained(spec: TrialSpec, data: ImageData) -> Trainer:
    trainer = Trainer(spec, data=data, device="cpu")
    while not trainer.done:
        trainer.run_epoch()
    return trainer


def _on_test(trainer: Trainer, config: StudyConfig, data: ImageData) -> tuple[float, float]:
    if data.test is None:
        raise RuntimeError("the digits have a test split")
    part: dict[str, Any] = {"scale": data.scale, "layout": torch.contiguous_format, "device": torch.device("cpu")}
    images, labels = measured_part(data.test, len(data.test), **part)
    model, evaluation = trainer.measured.eval(), config.evaluation
    ascent = Ascent(ThreatModel(evaluation.norm, evaluation.epsilon), evaluation.steps, evaluation.restarts)
    robust, _ = run_attack(ATTACKS.load(evaluation.attack), model, images, labels, ascent=ascent, seed=0)
    return clean_measures(model, images, labels)[0], float(robust.double().mean())


def _points(table: pd.DataFrame, split: str = "val") -> np.ndarray:
    """Return clean and robust accuracy, shape (n, 2), NaN for trials that failed or are flagged."""
    sound = (table["status"] == "completed") & (table["flags"].isna() | table["flags"].eq(""))
    points = table[[f"{split}_clean_accuracy", f"{split}_robust_accuracy"]].to_numpy(dtype=float)
    return np.where(sound.to_numpy()[:, None], points, np.nan)


def _volumes(run: pd.DataFrame, marks: list[int]) -> list[float]:
    """Return the hypervolume after so many trials, and that of the last front on test."""
    found, tested = _points(run), _points(run, "test")
    sets = [found[:mark] for mark in marks] + [tested]
    return [hypervolume(each[np.isfinite(each).all(axis=1)], reference=(0, 0), maximise=True).value for each in sets]


def _table(values: dict[str, np.ndarray], columns: list[str]) -> str:
    """Return means over seeds, in rows by sampler, each with the half width of its 95 % t-interval."""
    cells = {}
    for name, each in values.items():
        half = stats.t.ppf(0.975, len(each) - 1) * each.std(axis=0, ddof=1) / len(each) ** 0.5
        cells[name] = [f"{mean:.3f} ± {width:.3f}" for mean, width in zip(each.mean(axis=0), half, strict=True)]
    return pd.DataFrame(cells, index=columns).T.to_string()


if __name__ == "__main__":
    main()
