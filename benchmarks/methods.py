"""Every method on the digits: clean, robust and certified accuracy, Lipschitzness and time, one network each.

python benchmarks/methods.py [OUT] [--only fat hat] [--epochs 60] [--seed 0]

No image that is certified may be fooled: by multi-targeted ascents on all validation images, and by AutoAttack on the
first 20, or by Square where AutoAttack's package is not installed. It fails if one is.

Each row is a file below OUT, and so is its network; what is there is not computed again, and a training that was ended
goes on after its last epoch.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from trainables.attacks import ATTACKS, MissingExtraError, require_package
from trainables.attacks.base import run_attack
from trainables.attacks.threat import Ascent, ThreatModel
from trainables.certified.certificate import certified_correct
from trainables.checkpoints.weights import load_weights, read_weights
from trainables.data import load_dataset
from trainables.data.base import ImageData
from trainables.evaluation.trial import measured_part
from trainables.methods import METHODS
from trainables.models.network import network
from trainables.spec import DatasetSpec, EvaluationSpec, LipschitzSpec, ModelSpec, Norm, TrainingSpec, TrialSpec
from trainables.training.fit import fit
from trainables.training.loop import LAST

STEPS = 20
"""Steps of the multi-targeted attack, which judges; the search's attack has its default of 10."""

IMAGES = 20
"""Validation images, the first, that AutoAttack runs on: it takes twenty times as long as the other attacks."""


@dataclass(frozen=True)
class Recipe:
    """What a row is trained by.

    Attributes:
        method: Registered name.
        params: Its hyperparameters; the others have their defaults.
        training: Settings of the training section that the other rows do not share.
        model: Its network.
        norm: Of the ball of training and measurement.
        epsilon: Its radius.
    """

    method: str
    params: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    model: str = "cnn_small"
    norm: Norm = "linf"
    epsilon: float = 0.15


RECIPES = {
    **{name: Recipe(name) for name in METHODS},
    "lipschitz_penalty, scale-free": Recipe("lipschitz_penalty", {"form": "scale_free"}),
    "lipschitz_penalty, adversarial": Recipe("lipschitz_penalty", {"on": "adversarial"}),
    "adversarial_training, awp": Recipe("adversarial_training", training={"awp": 0.005}),
    "trades, awp": Recipe("trades", training={"awp": 0.005}),
    "mtl_ibp, 0.1": Recipe("mtl_ibp", {"alpha": 0.1}),
    "large_margin": Recipe(
        "large_margin",
        training={"optimizer": "adam", "lr": 0.005, "weight_decay": 0.0},
        model="lipschitz_cnn",
        norm="l2",
        epsilon=0.6,
    ),
}

COLUMNS = {
    "val_clean_accuracy": "clean",
    "multi_targeted": "multi-targeted",
    "autoattack": f"AutoAttack ({IMAGES})",
    "val_robust_accuracy": "search's attack",
    "val_certified_accuracy": "certified",
    "certified_first": f"certified ({IMAGES})",
    "broken": "certified and fooled",
    "val_lipschitz_mean": "Lipschitz",
    "val_lipschitz_scale_free_mean": "scale-free",
    "seconds_certify": "s certifying",
    "certify_share": "of the trial",
    "seconds_training": "s training",
    "seconds": "s trial",
    "seconds_attacks": "s attacks",
}


def main() -> None:
    """Train and measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, nargs="?", default=Path("methods"), help="folder of rows and networks")
    parser.add_argument("--only", nargs="+", choices=list(RECIPES), default=list(RECIPES), help="rows to compute")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = given.out / f"{given.epochs}-{given.seed}"
    specs = {name: _spec(RECIPES[name], epochs=given.epochs, seed=given.seed) for name in given.only}
    data = load_dataset(next(iter(specs.values())).dataset)
    rows = []
    for name, spec in specs.items():
        rows.append({"method": name} | _row(spec, data, folder=folder / name.replace(", ", "-")))
        print(f"{len(rows)} of {len(specs)}: {name}", flush=True)
    print(pd.DataFrame(rows).set_index("method").rename(columns=COLUMNS).round(3).to_string())
    if broken := [row["method"] for row in rows if row["broken"]]:
        raise SystemExit(f"an attack fools certified images of {', '.join(broken)}")


def _spec(recipe: Recipe, *, epochs: int, seed: int) -> TrialSpec:
    return TrialSpec(
        dataset=DatasetSpec(name="digits", val_fraction=0.25),
        method=recipe.method,
        params=recipe.params,
        train_epsilon=recipe.epsilon if METHODS.load(recipe.method).attacks else None,
        model=ModelSpec(name=recipe.model),
        training=TrainingSpec(epochs=epochs, batch_size=64, **{"lr": 0.05, **recipe.training}),
        evaluation=EvaluationSpec(
            norm=recipe.norm, epsilon=recipe.epsilon, every=epochs, certify="ibp", lipschitz=LipschitzSpec(examples=200)
        ),
        seed=seed,
    )


def _row(spec: TrialSpec, data: ImageData, /, *, folder: Path) -> dict[str, Any]:
    """Return a row, from its file if it was measured by this spec."""
    file, last = folder / "row.json", folder / LAST
    if file.exists():
        stored: dict[str, Any] = json.loads(file.read_text())
        if stored.pop("spec") == json.loads(spec.to_json()):
            return stored
        raise SystemExit(f"{file} is of another spec: remove {folder} or name another OUT")
    resume_from = last if last.exists() else None
    outcome = fit(spec, data=data, device="cpu", checkpoint_dir=folder, resume_from=resume_from)
    row = outcome.row | _attacked(spec, data, weights=last)
    row["certify_share"] = row["seconds_certify"] / row["seconds"]
    row = {name: row[name] for name in COLUMNS} | {"status": outcome.status, "flags": ", ".join(outcome.flags)}
    file.write_text(json.dumps(row | {"spec": spec.to_dict()}))
    return row


def _attacked(spec: TrialSpec, data: ImageData, /, *, weights: Path) -> dict[str, Any]:
    """Return what the attacks leave of validation, and how many images that they fool are certified nevertheless."""
    started, device = time.perf_counter(), torch.device("cpu")
    model, layout = network(spec, data, device=device)
    load_weights(model, read_weights(weights)[0], source=weights)
    images, labels = measured_part(data.val, len(data.val), scale=data.scale, layout=layout, device=device)
    threat = ThreatModel(spec.evaluation.norm, spec.evaluation.epsilon)

    def left(attack: str, first: int) -> Tensor:
        part = images[:first], labels[:first]
        return run_attack(ATTACKS.load(attack), model.eval(), *part, ascent=Ascent(threat, STEPS, 1), seed=11)[0]

    ascents, strongest = left("multi_targeted", len(images)), left(_strongest(), IMAGES)
    proved = certified_correct(model, images, labels, threat=threat, effort="ibp")
    robust = ascents.clone()
    robust[:IMAGES] &= strongest
    return {
        "multi_targeted": float(ascents.double().mean()),
        "autoattack": float(strongest.double().mean()),
        "certified_first": float(proved[:IMAGES].double().mean()),
        "broken": int((proved & ~robust).sum()),
        "seconds_attacks": time.perf_counter() - started,
    }


def _strongest() -> str:
    try:
        require_package("autoattack")
    except MissingExtraError:
        return "square"
    return "autoattack"


if __name__ == "__main__":
    main()
