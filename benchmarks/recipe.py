"""Share of useless trials among random proposals, with warm-up, ramp and clipping and without.

python benchmarks/recipe.py [OUT] [--dataset mnist --data-root FOLDER] [--recipe old] [--ranges default]

Each trial is a file below OUT, named by a digest of all that it depends on; those that exist are not run again, so a
run that was ended goes on, and trials that two recipes or ranges have in common are run once. Every method gets the
same number of proposals, and both recipes train the same ones, with the same seeds. The rows are in OUT/*.csv. Trials
are not ended early here. Instead the sentinel of `training.give_up_after` is asked after every epoch, so that
its verdict can be compared with what the trial became. A trial is useless if it failed, is at chance, or is below 0.8
clean while a trial of its method is better by more than 0.02 in both objectives.
"""

from __future__ import annotations

import argparse
import hashlib
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
STUDIES = {
    "digits": presets()["quickstart"],
    "mnist": ROOT / "docs/mnist_study.yaml",
    "fashion_mnist": ROOT / "docs/mnist_study.yaml",
}
"""The study whose space and training are used."""

OLD = {"warmup": 0.0, "ramp": 0.0, "clip_norm": None}
NEW = {"warmup": 0.1, "ramp": 0.3, "clip_norm": 3.0}
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
    parser.add_argument("--ranges", choices=("default", "study"), default="study", help="study: those of its file")
    parser.add_argument("--per-method", type=int, default=10, help="proposals of each method")
    given = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    recipe = OLD if given.recipe == "old" else NEW | {"ramp": given.ramp}
    config = _config(given.dataset, recipe=recipe, own_ranges=given.ranges == "study", root=given.data_root)
    data = load_dataset(config.dataset)
    rows = []
    for repeat in range(given.per_method):
        for method in config.search.methods:
            rows.append(_row(given.out, f"{given.dataset}-{method}-{repeat:02d}", _spec(config, method, repeat), data))
            print(_line(rows[-1]), flush=True)
    table = pd.DataFrame(rows)
    table = table.assign(useless=[_is_useless(row, table) for _, row in table.iterrows()])
    name = "old" if given.recipe == "old" else f"ramp-{given.ramp:g}"
    table.to_csv(given.out / f"{given.dataset}-{name}-{given.ranges}.csv", index=False)
    print(_table(table))
    print(_sentinel(rows))


def _config(dataset: str, *, recipe: Mapping[str, float | None], own_ranges: bool, root: str | None) -> StudyConfig:
    tree = read_yaml(STUDIES[dataset])
    tree["dataset"] |= {"name": dataset, "root": root}
    for name in ("attack", "margin_check"):  # both recipes are measured by the default attack
        tree["evaluation"].pop(name, None)
    tree["training"] |= {"give_up_after": None, **recipe}
    if not own_ranges:
        tree["search"].pop("ranges", None)
    return load_config(tree)


def _spec(config: StudyConfig, method: str, repeat: int) -> TrialSpec:
    """Return a random proposal of a method as a spec; the same quantiles of the ranges for any ranges."""
    search = config.search
    ranges = {key: form for key, form in search.ranges.items() if key.partition(".")[0] in (method, key)}
    alone = config.model_copy(update={"search": search.model_copy(update={"methods": [method], "ranges": ranges})})
    sampler = optuna.samplers.RandomSampler(seed=derive(search.seed, "recipe", method, repeat) % 2**32)
    proposal = alone.space().draw(optuna.create_study(sampler=sampler).ask())
    return alone.trial_spec(proposal, number=1000 * list(config.search.methods).index(method) + repeat)


def _row(out: Path, name: str, spec: TrialSpec, data: ImageData) -> dict[str, Any]:
    """Return what came of a trial, which is run unless the file of this very spec exists."""
    anywhere = replace(spec, dataset=replace(spec.dataset, root=None))
    file = out / "trials" / f"{name}-{hashlib.sha256(anywhere.to_json().encode()).hexdigest()[:8]}.json"
    if file.exists():
        row: dict[str, Any] = json.loads(file.read_text())
        return row
    trainer = trainer_for(spec, data=data, device="cpu")
    count = min(spec.evaluation.examples, len(data.val))
    part = measured_part(data.val, count, scale=data.scale, layout=torch.contiguous_format, device=torch.device("cpu"))
    watch = CollapseWatch(replace(spec.training, give_up_after=SHARE), *part, classes=data.num_classes)
    ended, collapsed = None, []
    while not trainer.done:
        epoch = trainer.run_epoch()
        loss = epoch["val_loss"]
        if trainer.reason is None and watch.reason({trainer.measured, trainer.model}, epoch=epoch["epoch"], loss=loss):
            ended = ended or epoch["epoch"]
        collapsed.append(watch.collapsed)
    outcome = trainer.outcome()
    kept = ("method", "train_epsilon", "status", "reason", "val_clean_accuracy", "val_robust_accuracy", "seconds")
    row = {name: outcome.row[name] for name in kept}
    row |= {"trial": name, "params": dict(spec.params), "dropout": spec.model.dropout, "seed": spec.seed}
    row |= {"classes": data.num_classes, "ended": ended, "collapsed": collapsed}
    row["losses"] = [epoch["loss"] for epoch in trainer.history]
    row["clean"] = [epoch["val_clean_accuracy"] for epoch in trainer.history]
    row["saved"] = sum(one["seconds"] for one in trainer.history[ended:]) if ended else 0.0
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(row))
    return row


def _line(row: dict[str, Any]) -> str:
    clean, robust = (row[f"val_{name}_accuracy"] for name in ("clean", "robust"))
    values = row["reason"] if clean is None else f"clean {clean:.3f}, robust {robust:.3f}"
    return f"{row['trial']}: {values}, {row['seconds']:.0f} s"


def _table(rows: pd.DataFrame) -> str:
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
