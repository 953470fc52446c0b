"""Bias and cost of the attacks that could measure a search's trials, against the union of strong attacks.

python benchmarks/search_attack.py [OUT] [--dataset mnist --data-root FOLDER] [--seeds 0 1 2]

Networks and reference outcomes are files below OUT; what is there is not computed again, so a run that was ended goes
on. The reference counts an image as robust if AutoAttack, multi-targeted ascents of 20 steps and two margin ascents of
20 steps all fail. AutoAttack runs on those images that the other two leave nearest to misclassification.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import kendalltau
from torch import Tensor, nn

from trainables.attacks import ATTACKS
from trainables.attacks.base import run_attack
from trainables.attacks.losses import best_margin
from trainables.attacks.threat import Ascent, ThreatModel
from trainables.checkpoints.weights import load_weights, read_weights
from trainables.data import load_dataset
from trainables.data.base import ImageData
from trainables.evaluation.trial import measured_part
from trainables.models.network import network
from trainables.spec import DatasetSpec, EvaluationSpec, LipschitzSpec, ModelSpec, TrainingSpec, TrialSpec
from trainables.training.fit import fit

EPSILON = 0.1
MODELS = {"digits": ("mlp", "cnn_small"), "mnist": ("cnn2",)}
IMAGES = {"mlp": 300, "cnn_small": 300, "cnn2": 200}
RUNS = 5
"""Runs whose median is an attack's time. Those far beyond what a search can afford run once."""

NEAREST = 40
"""Images that AutoAttack runs on. Of 57 networks it fooled at most four on one, the 23rd at the furthest."""

RECIPES: dict[str, tuple[str, dict[str, float], float | None]] = {
    "natural": ("natural", {}, None),
    "at-half": ("adversarial_training", {}, 0.5),
    "at": ("adversarial_training", {}, 1),
    "at-double": ("adversarial_training", {}, 2),
    "trades1": ("trades", {"beta": 1.0}, 1),
    "trades6": ("trades", {"beta": 6.0}, 1),
    "trades6-half": ("trades", {"beta": 6.0}, 0.5),
    "trades10-double": ("trades", {"beta": 10.0}, 2),
    "gr-low": ("gradient_regularization", {"lambda": 0.01}, None),
    "gr-high": ("gradient_regularization", {"lambda": 0.1}, None),
    "ll-low": ("locally_linear", {"lambda": 0.5, "mu": 0.5}, 1),
    "ll-high": ("locally_linear", {"lambda": 4.0, "mu": 3.0}, 1),
    "rst-low": ("robust_self_training", {"lambda": 0.5}, 1),
    "rst-high": ("robust_self_training", {"lambda": 4.0}, 2),
}
"""Method, hyperparameters, and the training radius as a multiple of the evaluation's."""

HELD_OUT = 2
"""The seed on whose networks no constant of an attack was chosen."""

OTHERS: dict[str, tuple[str, dict[str, float], float | None]] = {
    method: (method, {}, 1) for method in ("fat", "hat", "lipschitz_penalty", "mart", "mtl_ibp", "n_fgsm", "score")
}
"""The other methods that train any network, at their defaults: on the digits' networks of the seed that is held out."""

CANDIDATES = (
    ("pgd", 10, 1),
    ("pgd", 40, 5),
    ("margin", 10, 1),
    ("margin", 20, 1),
    ("reachable_targets", 7, 1),
    ("reachable_targets", 10, 1),
    ("reachable_targets", 10, 2),
    ("multi_targeted", 20, 1),
)
"""Attack, steps, restarts; the first one is what costs are compared with."""


def main() -> None:
    """Train what is missing, measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "out", type=Path, nargs="?", default=Path("search_attack"), help="folder of networks and results"
    )
    parser.add_argument("--dataset", choices=list(MODELS), default="digits", help="data set")
    parser.add_argument("--data-root", help="folder of MNIST's files")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of every network")
    given = parser.parse_args()
    torch.set_num_threads(1)
    specs = {
        f"{model}-{recipe}-{seed}": _spec(given.dataset, model, recipe, seed, root=given.data_root)
        for seed in given.seeds
        for model in MODELS[given.dataset]
        for recipe in (RECIPES | OTHERS if (given.dataset, seed) == ("digits", HELD_OUT) else RECIPES)
    }
    data = load_dataset(next(iter(specs.values())).dataset)
    rows = []
    for name, spec in specs.items():
        rows += _measure(name, spec, data, out=given.out / given.dataset)
        pd.DataFrame(rows).to_csv(given.out / f"{given.dataset}.csv", index=False)
        print(f"{len(rows) // len(CANDIDATES)} of {len(specs)} networks: {name}", flush=True)
    print(_table(pd.DataFrame(rows)))


def _spec(dataset: str, model: str, recipe: str, seed: int, *, root: str | None) -> TrialSpec:
    method, params, factor = (RECIPES | OTHERS)[recipe]
    # with a second derivative in the loss, larger rates diverge
    gentle = method in ("gradient_regularization", "locally_linear")
    if dataset == "digits":
        images = DatasetSpec(name="digits", val_fraction=0.25)
        epochs = 15 if method == "locally_linear" else 20
        training = TrainingSpec(epochs=epochs, batch_size=64, lr=0.02 if gentle else 0.05, attack_steps=7)
    else:
        images = DatasetSpec(name="mnist", root=root, train_size=3000)
        training = TrainingSpec(epochs=4, batch_size=64, lr=0.02 if gentle else 0.04, attack_steps=4)
    quick = LipschitzSpec(steps=1, restarts=1, examples=1)
    return TrialSpec(
        dataset=images,
        method=method,
        params=params,
        train_epsilon=None if factor is None else factor * EPSILON,
        model=ModelSpec(name=model),
        training=training,
        evaluation=EvaluationSpec(epsilon=EPSILON, examples=100, every=1000, lipschitz=quick),
        seed=seed,
    )


def _measure(name: str, spec: TrialSpec, data: ImageData, *, out: Path) -> list[dict[str, Any]]:
    folder = out / name
    if not (folder / "last.pt").exists():
        fit(spec, data=data, device="cpu", checkpoint_dir=folder)
    model, layout = network(spec, data, device=torch.device("cpu"))
    load_weights(model, read_weights(folder / "last.pt")[0], source=folder)
    model.eval().requires_grad_(requires_grad=False)
    part: dict[str, Any] = {"scale": data.scale, "layout": layout, "device": torch.device("cpu")}
    images, labels = measured_part(data.val, IMAGES[spec.model.name], **part)
    file = folder / "reference.npz"
    if not file.exists():
        np.savez(file, robust=_reference(model, images, labels).numpy())
    true = torch.from_numpy(np.load(file)["robust"])
    counted = _Counted(model)
    rows = []
    for attack, steps, restarts in CANDIDATES:
        ascent = Ascent(ThreatModel("linf", EPSILON), steps, restarts)
        seconds = []
        for _ in range(RUNS if steps * restarts <= 20 and attack != "multi_targeted" else 1):
            counted.gradients, started = 0, time.perf_counter()
            robust, _ = run_attack(ATTACKS.load(attack), counted, images, labels, ascent=ascent, seed=spec.seed)
            seconds.append(time.perf_counter() - started)
        rows.append(
            {
                "network": name,
                "method": spec.method,
                "attack": f"{attack} {steps}x{restarts}",
                "robust_accuracy": float(robust.double().mean()),
                # what the candidate alone finds counts against the reference, not for the candidate
                "bias": float(robust.double().mean() - (true & robust).double().mean()),
                "gradients": counted.gradients / len(images),
                "seconds": statistics.median(seconds),
                "reference": float(true.double().mean()),
            }
        )
    return rows


class _Counted(nn.Module):
    """A network that counts the images whose gradient is asked for."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.gradients = model, 0

    def forward(self, x: Tensor) -> Tensor:
        self.gradients += len(x) * x.requires_grad
        logits: Tensor = self.model(x)
        return logits


def _reference(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return which images all strong attacks leave correctly classified, (n,) bool."""
    threat = ThreatModel("linf", EPSILON)
    multi, points = run_attack(
        ATTACKS.load("multi_targeted"), model, images, labels, ascent=Ascent(threat, 20, 1), seed=11
    )
    margin, _ = run_attack(ATTACKS.load("margin"), model, images, labels, ascent=Ascent(threat, 20, 2), seed=12)
    robust = multi & margin
    with torch.no_grad():
        values = best_margin(model(points), labels)
    near = torch.where(robust, values, -torch.inf).argsort(descending=True)[: min(NEAREST, int(robust.sum()))]
    if len(near):
        left, _ = run_attack(
            ATTACKS.load("autoattack"), model, images[near], labels[near], ascent=Ascent(threat, 10, 1), seed=5
        )
        robust[near] = left
    return robust


def _table(rows: pd.DataFrame) -> str:
    order = [f"{attack} {steps}x{restarts}" for attack, steps, restarts in CANDIDATES]
    biases = rows.pivot_table(index="attack", columns="method", values="bias").loc[order]
    table = biases.copy()
    table["largest"] = rows.groupby("attack")["bias"].max()
    table["spread"] = biases.max(axis=1) - biases.min(axis=1)
    for cost in ("gradients", "seconds"):
        wide = rows.pivot_table(index="network", columns="attack", values=cost)
        table[f"{cost} / {order[0]}"] = (wide.sum() / wide[order[0]].sum()).loc[order]
    wide = rows.pivot_table(index="network", columns="attack", values="robust_accuracy")
    true = rows.groupby("network")["reference"].first()
    table["tau"] = [kendalltau(wide[attack], true.loc[wide.index]).statistic for attack in order]
    return table.round(3).to_string()


if __name__ == "__main__":
    main()
