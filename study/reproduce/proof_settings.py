"""What the proof of concept trains at each scale, as configs.

Source: Yang et al. 2020, whose code (scripts/run_proof_of_concept.sh and experiments/hypo.py) trains RST on both sets
of each of four data sets. docs/reproduce.md lists the differences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from study.config.loading import presets, read_yaml
from study.reproduce.grids import RADII, Tree

_SMALL: Mapping[str, Any] = {
    "adversarial_training": {},
    "trades": {"beta": 6.0},
}
"""The methods below the scale `paper`, with what is fixed of them."""


@dataclass(frozen=True, kw_only=True)
class ProofPart:
    """One data set of the proof of concept.

    Args:
        tree: The config, whose `dataset.train_size` is the number of training images; every method is run once.
        test: Number of test images; all when None.
    """

    tree: Tree
    test: int | None = None


def proof_parts(scale: str, /) -> list[ProofPart]:
    """Return the data sets of a scale of `study.reproduce.grids.SCALES`."""
    if scale == "smoke":
        training = {"epochs": 25, "batch_size": 64, "lr": 0.05, "attack_steps": 7}
        return [ProofPart(tree=_tree("digits", "cnn_small", 0.1, _SMALL, training, examples=2000))]
    if scale == "laptop":
        training = {"epochs": 25, "batch_size": 64, "lr": 0.05, "attack_steps": 5, "threads": 2}
        tree = _tree("mnist", "cnn2", RADII["mnist"], _SMALL, training, examples=1000, train_size=2000)
        return [ProofPart(tree=tree, test=1000)]
    adam = {"optimizer": "adam", "lr": 1e-3}
    papers: list[tuple[str, str, float, Tree]] = [
        ("mnist", "cnn2", 4.0, {"epochs": 40, "batch_size": 128, "lr": 0.05}),
        ("cifar10", "wrn_40_10", 4.0, {"epochs": 70, "batch_size": 64, **adam}),
        ("svhn", "wrn_40_10", 4.0, {"epochs": 60, "batch_size": 64, **adam}),
        ("restricted_imagenet", "resnet50", 2.0, {"epochs": 30, "batch_size": 128, **adam}),
    ]
    return [
        ProofPart(
            tree=_tree(
                name, model, RADII[name], {"robust_self_training": {"lambda": strength}}, training, examples=10_000
            )
        )
        for name, model, strength, training in papers
    ]


def _as_in_the_paper() -> Tree:
    """Return the preset's settings for training without warm-up, ramp, clipping and early ends."""
    recipe = read_yaml(presets()["paper"])["training"]
    return {name: recipe[name] for name in ("warmup", "ramp", "clip_norm", "give_up_after")}


def _tree(
    dataset: str,
    model: str,
    epsilon: float,
    methods: Mapping[str, Mapping[str, float]],
    training: Tree,
    *,
    examples: int,
    train_size: int | None = None,
) -> Tree:
    fixed = {f"{method}.{name}": value for method, values in methods.items() for name, value in values.items()}
    return {
        "name": f"proof-of-concept-{dataset}",
        "dataset": {"name": dataset, "train_size": train_size},
        "model": {"name": model},
        # the images are to be fitted, not generalised from
        "training": {**_as_in_the_paper(), "weight_decay": 0.0, "schedule": "cosine", **training},
        # an attack that is exact on linear networks: a weaker one would prove less
        "evaluation": {
            "epsilon": epsilon,
            "attack": "multi_targeted",
            "examples": examples,
            "every": training["epochs"],
            "lipschitz": {"examples": 500},
        },
        "search": {
            "space": "core",
            "methods": list(methods),
            "num_trials": 1,
            "fixed": {"train_epsilon": epsilon, "dropout": 0.0, **fixed},
        },
    }
