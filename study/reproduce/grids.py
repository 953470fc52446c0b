"""What each table of the paper holds, as study configs at three scales.

Source: Yang, Rashtchian, Zhang, Salakhutdinov, Chaudhuri 2020, "A Closer Look at Accuracy vs. Robustness" (arXiv
2003.02460); which models are in which table, and their settings, as in the code published with it
(github.com/yangarbiter/robust-local-lipschitz: scripts/Table2.sh, Table3.sh and Table4.sh, lolip/models/__init__.py,
lolip/models/torch_model.py; table 1: notebooks/dataset_dist.ipynb). docs/reproduce.md lists the differences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from study.config.loading import presets, read_yaml

TABLES = ("table1", "table2", "table3", "table4")
SCALES = ("smoke", "laptop", "paper")

Tree = dict[str, Any]

BATCH = 64
"""Images per step in the paper's runs with plain SGD."""


@dataclass(frozen=True, kw_only=True)
class DataPart:
    """One line of table 1.

    Args:
        dataset: The data set's name.
        epsilon: The radius that the paper compares its separation with, linf.
        train: First training images taken; all when None.
        test: First test images taken.
    """

    dataset: str
    epsilon: float
    train: int | None = None
    test: int | None = None


RADII = {"mnist": 0.1, "cifar10": 0.031, "svhn": 0.031, "restricted_imagenet": 0.005}
"""The paper's radius for each of its data sets, linf."""

SEPARATIONS: Mapping[str, tuple[DataPart, ...]] = {
    # a real data set and one whose separation is known, 64/255; both are built in
    "smoke": (DataPart(dataset="digits", epsilon=0.15), DataPart(dataset="synthetic_separated", epsilon=0.1)),
    # Fashion-MNIST is none of the paper's: it is compared with MNIST's radius
    "laptop": (
        DataPart(dataset="mnist", epsilon=RADII["mnist"]),
        DataPart(dataset="fashion_mnist", epsilon=RADII["mnist"]),
        DataPart(dataset="cifar10", epsilon=RADII["cifar10"]),
    ),
    "paper": tuple(DataPart(dataset=name, epsilon=epsilon) for name, epsilon in RADII.items()),
}
"""Table 1's lines by scale."""

_ALL = (
    "natural",
    "gradient_regularization",
    "locally_linear",
    "adversarial_training",
    "robust_self_training",
    "trades",
)
_ATTACKED = ("natural", "adversarial_training", "robust_self_training", "trades")

_FEWER_STRENGTHS = {"robust_self_training.lambda": [2.0], "trades.beta": [3.0, 6.0]}
"""The strengths of table 4; those of tables 2 and 3 are the preset's."""

_DIGITS: Tree = {
    "dataset": {"name": "digits", "val_fraction": 0.2},
    "model": {"name": "cnn_small"},
    "training": {"epochs": 8, "batch_size": 64, "lr": 0.05, "attack_steps": 7, "schedule": "piecewise"},
    "evaluation": {"epsilon": 0.15, "every": 8, "examples": 250, "lipschitz": {"examples": 50}},
}
# the paper's batch size and rate: on so few images LLR, without clipping, collapses at 0.02
_MNIST_SUBSET: Tree = {
    "dataset": {"name": "mnist", "train_size": 3_000},
    "model": {"name": "cnn2"},
    "training": {"epochs": 10, "batch_size": BATCH, "lr": 1e-4 * BATCH, "weight_decay": 0.0, "schedule": "milestones"},
    "evaluation": {"epsilon": RADII["mnist"], "every": 10, "examples": 1000, "lipschitz": {"examples": 200}},
}


def parts(table: str, scale: str, /) -> list[Tree]:
    """Return the configs, as nested values, of the studies of `table2`, `table3` or `table4` at a scale of `SCALES`.

    Each is the preset `paper` with the table's methods, strengths and dropout. The methods' own settings are the
    preset's at every scale; below `paper`, small data, networks and training stand in for the paper's.
    """
    return {"table2": _table2, "table3": _table3, "table4": _table4}[table](scale)


def _table2(scale: str) -> list[Tree]:
    """Return MNIST with two networks, all methods; both networks have dropout 0.5 in the paper's code."""
    networks = ("mlp", "cnn_small") if scale == "smoke" else ("cnn1", "cnn2")
    small = {"smoke": _DIGITS, "laptop": _MNIST_SUBSET}
    return [
        _config(
            f"table2-{scale}-{network}",
            small[scale] if scale in small else _paper("mnist", epochs=160, lr=1e-4 * BATCH, momentum=0.9, gpus="auto"),
            {"model": {"name": network}},
            methods=_ALL,
            dropout=[0.5],
        )
        for network in networks
    ]


def _table3(scale: str) -> list[Tree]:
    """Return CIFAR-10 with a wide network and Restricted ImageNet, the methods that attack, without dropout."""
    if scale != "paper":
        stand_in = _DIGITS if scale == "smoke" else _MNIST_SUBSET
        augment = {} if scale == "smoke" else {"training": {"augment": "crop"}}
        return [_config(f"table3-{scale}", stand_in, augment, methods=_ATTACKED, dropout=[0.0])]
    wide = {"model": {"name": "wrn_40_10"}, "training": {"augment": "crop_flip"}}
    deep = {
        "model": {"name": "resnet50"},
        "training": {"augment": "crop", "optimizer": "adam", "batch_size": 128, "lr": 1e-2},
    }
    slower = dict.fromkeys(("adversarial_training.lr", "robust_self_training.lr"), 1e-3 * BATCH)
    return [
        _config(
            "table3-paper-cifar10",
            _paper("cifar10", epochs=120, lr=1e-2 * BATCH),
            wide,
            methods=_ATTACKED,
            dropout=[0.0],
            fixed=slower,
        ),
        _config(
            "table3-paper-restricted_imagenet",
            _paper("restricted_imagenet", epochs=70, lr=1e-2),
            deep,
            methods=_ATTACKED,
            dropout=[0.0],
        ),
    ]


def _table4(scale: str) -> list[Tree]:
    """Return dropout against none: SVHN at 0.5 and CIFAR-10 at 0.2."""
    common: Tree = {"methods": _ATTACKED, "strengths": _FEWER_STRENGTHS}
    if scale != "paper":
        stand_in = _DIGITS if scale == "smoke" else _MNIST_SUBSET
        return [_config(f"table4-{scale}", stand_in, {}, dropout=[0.0, 0.2, 0.5], **common)]
    wide = {"model": {"name": "wrn_40_10"}}
    slow = 1e-3 * BATCH
    return [
        _config(
            "table4-paper-svhn",
            _paper("svhn", epochs=60, lr=1e-2 * BATCH),
            wide,
            dropout=[0.0, 0.5],
            fixed={"adversarial_training.lr": slow, "robust_self_training.lr": slow},
            **common,
        ),
        _config(
            "table4-paper-cifar10",
            _paper("cifar10", epochs=120, lr=1e-2 * BATCH),
            {**wide, "training": {"augment": "crop_flip"}},
            dropout=[0.0, 0.2],
            fixed={"robust_self_training.lr": slow},
            **common,
        ),
    ]


def _paper(dataset: str, *, epochs: int, lr: float, momentum: float = 0.0, gpus: int | str = 1) -> Tree:
    """Return a data set trained as in the paper's code, whose loss is a sum while ours is a mean: hence lr * BATCH."""
    return {
        "dataset": {"name": dataset, "val_fraction": 0.01},
        "training": {
            "epochs": epochs,
            "batch_size": BATCH,
            "lr": lr,
            "momentum": momentum,
            "weight_decay": 0.0,
            "schedule": "milestones",
        },
        "evaluation": {
            "epsilon": RADII[dataset],
            "every": epochs,
            "examples": 10_000,
            "lipschitz": {"examples": 10_000},
        },
        "resources": {"gpus": gpus},
    }


def _config(
    name: str,
    base: Tree,
    changes: Tree,
    /,
    *,
    methods: Sequence[str],
    dropout: Sequence[float],
    strengths: Mapping[str, list[float]] | None = None,
    fixed: Mapping[str, Any] | None = None,
) -> Tree:
    """Return the preset `paper` with a table's methods, strengths and dropout, and the given data and training."""
    preset: Tree = read_yaml(presets()["paper"])
    ranges = {key: form for key, form in preset["search"]["ranges"].items() if _owner(key) in methods}
    ranges |= {key: {"values": values} for key, values in (strengths or {}).items()}
    ranges["dropout"] = {"values": list(dropout)}
    preset_fixed = {key: value for key, value in preset["search"]["fixed"].items() if _owner(key) in ("", *methods)}
    tree = _merged(_merged(preset, base), changes)
    tree["name"] = name
    tree["search"] = {
        **preset["search"],
        "methods": list(methods),
        "num_trials": 1000,  # more than the grid has points: it ends after the last one
        "ranges": ranges,
        "fixed": {**preset_fixed, "train_epsilon": tree["evaluation"]["epsilon"], **(fixed or {})},
    }
    tree["storage"] = {"keep": "all"}  # every trial is measured on test
    tree["front"] = {"strong_images": 0}  # the tables show all trials, and no front
    return tree


def _owner(key: str) -> str:
    return key.rpartition(".")[0]


def _merged(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> Tree:
    merged = dict(tree)
    for key, value in changes.items():
        merged[key] = _merged(merged.get(key, {}), value) if isinstance(value, Mapping) else value
    return merged
