"""Share of useless trials among random proposals, with warm-up, ramp and clipping and without.

python benchmarks/recipe.py [OUT] [--dataset mnist --data-root FOLDER] [--recipe old] [--ranges old]

Each trial is a file below OUT; those that exist are not run again, so a run that was ended goes on. Every method gets
the same number of proposals, and a proposal and its seed depend on its number alone: both recipes train the same ones.
Trials are not ended early here. Instead the sentinel of `training.give_up_after` is asked after every epoch, so that
its verdict can be compared with what the trial became. A trial is useless if it failed, is at chance, or is below 0.8
clean while a trial of its method is better by more than 0.02 in both objectives.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import torch

from study.config.loading import load_config, presets, read_yaml
from study.config.schema import StudyConfig
from trainables.checkpoints.files import write_text
from trainables.data import load_dataset
from trainables.data.base import ImageData
from trainables.evaluation.trial import measured_part
from trainables.seeding import derive
from trainables.spec import TrialSpec
from trainables.training.collapse import CollapseWatch
from trainables.training.fit import trainer_for

ROOT = Path(__file__).resolve().parents[1]
STUDIES = {"mnist": ROOT / "docs/mnist_study.yaml", "fashion_mnist": ROOT / "docs/mnist_study.yaml"}
"""The study whose space and training are used; that of the digits is the preset `quickstart` with `DIGITS`."""

DIGITS = {"epochs": 8, "attack_steps": 7}

OLD = {"warmup": 0.0, "ramp": 0.0, "clip_norm": None}
NEW = {"warmup": 0.1, "ramp": 0.3, "clip_norm": 3.0}
NARROWED = {"gradient_regularization.lambda": [0.001, 0.03]}
"""Of the search ranges, by Optuna parameter: those of `--ranges new` that are not the defaults."""

SHARE = 0.5
"""`training.give_up_after` of the sentinel that is asked."""

CLEAN, MARGIN = 0.8, 0.02


def main() -> None:
    """Run the trials that are missing, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, nargs="?", default=Path("recipe"), help="folder of the trials' rows")
    parser.add_argument("--dataset", choices=("mnist", "digits", "fashion_mnist"), default="digits", help="data set")
    parser.add_argument("--data-root", help="folder of the data set's files")
    parser.add_argument("--recipe", choices=("old", "new"), default="new", help="old: no warm-up, ramp or clipping")
    parser.add_argument("--ramp", type=float, default=NEW["ramp"], help="`training.ramp` of the new recipe")
    parser.add_argument("--ranges", choices=("old", "new"), default="new", help="search ranges; old: the defaults")
    parser.add_argument("--per-method", type=int, default=10, help="proposals of each method")
    given = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    recipe = OLD if given.recipe == "old" else NEW | {"ramp": given.ramp}
    ranges = {} if given.ranges == "old" else NARROWED
    config = _config(given.dataset, recipe=recipe, ranges=ranges, root=given.data_root)
    data = load_dataset(config.dataset)
    name = "old" if given.recipe == "old" else f"new-ramp-{given.ramp:g}"
    out = given.out / f"{given.dataset}-recipe-{name}-ranges-{given.ranges}"
    rows = []
    for repeat in range(given.per_method):
        for method in config.search.methods:
            rows.append(_row(out / f"{method}-{repeat:02d}.json", _spec(config, method, repeat), data))
            print(_line(rows[-1]), flush=True)
    print(_table(pd.DataFrame(rows)))
    print(_sentinel(rows))


def _config(
    dataset: str, *, recipe: Mapping[str, float | None], ranges: Mapping[str, list[float]], root: str | None
) -> StudyConfig:
    tree = read_yaml(STUDIES.get(dataset, presets()["quickstart"]))
    if dataset not in STUDIES:
        tree["training"] |= DIGITS
        tree["search"]["methods"] = ["natural", "adversarial_training", "trades"]
    tree["dataset"] |= {"name": dataset, "root": root}
    for name in ("attack", "margin_check"):  # both recipes are measured by the default attack
        tree["evaluation"].pop(name, None)
    tree["training"] |= {"give_up_after": None, **recipe}
    methods = tree["search"]["methods"]
    tree["search"]["ranges"] = {key: bounds for key, bounds in ranges.items() if key.partition(".")[0] in methods}
    return load_config(tree)


def _spec(config: StudyConfig, method: str, repeat: int) -> TrialSpec:
    """Return a random proposal of a method as a spec; the same quantiles of the ranges for any ranges."""
    search = config.search
    ranges = {key: form for key, form in search.ranges.items() if key.partition(".")[0] in (method, key)}
    alone = config.model_copy(update={"search": search.model_copy(update={"methods": [method], "ranges": ranges})})
    sampler = optuna.samplers.RandomSampler(seed=derive(search.seed, "recipe", method, repeat) % 2**32)
    proposal = alone.space().draw(optuna.create_study(sampler=sampler).ask())
    return alone.trial_spec(proposal, number=1000 * list(config.search.methods).index(method) + repeat)


def _row(file: Path, spec: TrialSpec, data: ImageData) -> dict[str, Any]:
    """Return what came of a trial, which is run unless its file exists."""
    if file.exists():
        row: dict[str, Any] = json.loads(file.read_text())
        return row
    trainer = trainer_for(spec, data=data, device="cpu")
    count = min(spec.evaluation.examples, len(data.val))
    part = measured_part(data.val, count, scale=data.scale, layout=torch.contiguous_format, device=torch.device("cpu"))
    watch = CollapseWatch(replace(spec.training, give_up_after=SHARE), *part)
    ended, collapsed = None, []
    while not trainer.done:
        epoch = trainer.run_epoch()
        loss = epoch["val_loss"]
        if trainer.reason is None and watch.reason(trainer.measured, epoch=epoch["epoch"], loss=loss):
            ended = ended or epoch["epoch"]
        collapsed.append(watch.collapsed)
    outcome = trainer.outcome()
    kept = ("method", "train_epsilon", "status", "reason", "val_clean_accuracy", "val_robust_accuracy", "seconds")
    row = {name: outcome.row[name] for name in kept}
    row |= {"trial": file.stem, "params": dict(spec.params), "dropout": spec.model.dropout, "seed": spec.seed}
    row |= {"classes": data.num_classes, "ended": ended, "collapsed": collapsed}
    row["losses"] = [epoch["loss"] for epoch in trainer.history]
    row["clean"] = [epoch["val_clean_accuracy"] for epoch in trainer.history]
    row["saved"] = row["seconds"] - sum(one["seconds"] for one in trainer.history[:ended]) if ended else 0.0
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(row))
    return row


def _line(row: dict[str, Any]) -> str:
    clean, robust = (row[f"val_{name}_accuracy"] for name in ("clean", "robust"))
    values = row["reason"] if clean is None else f"clean {clean:.3f}, robust {robust:.3f}"
    return f"{row['trial']}: {values}, {row['seconds']:.0f} s"


def _table(rows: pd.DataFrame) -> str:
    rows = rows.assign(useless=[_is_useless(row, rows) for _, row in rows.iterrows()])
    lines = {method: _summary(group) for method, group in rows.groupby("method", sort=False)}
    lines["all"] = _summary(rows)
    table: str = pd.DataFrame(lines).T.to_string(float_format="{:.3f}".format)
    return table


def _summary(rows: pd.DataFrame) -> dict[str, float]:
    clean, robust = rows["val_clean_accuracy"], rows["val_robust_accuracy"]
    return {
        "trials": len(rows),
        "useless": rows["useless"].mean(),
        "robust": robust.max(),
        "robust at clean >= 0.8": robust[clean >= 0.8].max(),
        "robust at clean >= 0.9": robust[clean >= 0.9].max(),
        "median seconds": rows["seconds"].median(),
    }


def _is_useless(row: Any, rows: pd.DataFrame) -> bool:
    clean, robust = row["val_clean_accuracy"], row["val_robust_accuracy"]
    if row["status"] == "failed" or clean <= 1.5 / row["classes"]:
        return True
    same = rows[rows["method"] == row["method"]]
    better = (same["val_clean_accuracy"] > clean + MARGIN) & (same["val_robust_accuracy"] > robust + MARGIN)
    return bool(clean < CLEAN and better.any())


def _sentinel(rows: list[dict[str, Any]]) -> str:
    """Return what the sentinel would have ended and saved, and the trials it came closest to ending in error."""
    total, saved = (sum(row[name] for row in rows) for name in ("seconds", "saved"))
    ended = [row for row in rows if row["ended"]]
    lines = [
        f"sentinel: {len(ended)} of {len(rows)} trials ended, {saved / 3600:.2f} of {total / 3600:.2f} hours saved"
    ]
    lines += [f"  ended after epoch {row['ended']}; run on, {_line(row)}" for row in ended]
    spared = [row for row in rows if not row["ended"] and max(row["collapsed"])]
    for row in sorted(spared, key=lambda row: -max(row["collapsed"])):
        lines.append(f"  spared with {max(row['collapsed'])} collapsed epochs in a row: {_line(row)}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
