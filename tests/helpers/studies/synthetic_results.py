"""Complete result rows of synthetic studies."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.data.results import Table, to_table
from analysis.data.schema import RESULT

METHODS = (
    "natural",
    "trades",
    "adversarial_training",
    "gradient_regularization",
    "locally_linear",
    "robust_self_training",
)


def result_row(number: int = 0, **changes: Any) -> dict[str, Any]:
    """Return one complete row; `changes` replace values (hyperparameters have their column names, `param.beta`)."""
    row: dict[str, Any] = {
        "study": "toy",
        "trial_id": f"t{number:05d}",
        "number": number,
        "status": "completed",
        "flags": [],
        "proposal": "sampler",
        "method": "natural",
        "dataset": "digits",
        "split_hash": "0123abcd",
        "model": "mlp",
        "seed": 1000 + number,
        "norm": "linf",
        "param.dropout": 0.1,
        "train_epsilon": None,
        "eval_epsilon": 0.1,
        "attack": "pgd",
        "steps": 10,
        "restarts": 1,
        "examples": 1000,
        "lipschitz_steps": 20,
        "lipschitz_restarts": 2,
        "lipschitz_examples": 500,
        "certify": "ibp",
        "checkpoint_kind": "last",
        "val_clean_accuracy": 0.9,
        "val_robust_accuracy": 0.5,
        "val_lipschitz_mean": 10.0,
        "val_lipschitz_scale_free_mean": 2.0,
        "epochs": 5,
        "seconds": 3.0,
        "threads": 1,
    }
    return {**row, **changes}


def evaluation_row(trial: str = "t00000", /, **changes: Any) -> dict[str, Any]:
    """Return one complete row of a measurement on test; `changes` replace values."""
    row = {
        "study": "toy", "trial_id": trial, "number": int(trial[1:6]), "method": "natural", "seed": 1000,
        "evaluation": f"{trial}-last-0", "chosen_by": "front", "checkpoint": "last", "split": "test",
        "dataset": "digits", "split_hash": "0123abcd", "model": "mlp", "norm": "linf", "epsilon": 0.1,
        "attack": "pgd", "steps": 10, "restarts": 1, "examples": 1000, "checks": "full", "clean_accuracy": 0.88,
        "robust_accuracy": 0.45, "lipschitz_mean": 9.0, "lipschitz_examples": 100, "flags": [], "threads": 1,
        "occasion": "2026-01-01T00:00:00",
    }  # fmt: skip
    return {**row, **changes}


def as_table(rows: list[dict[str, Any]]) -> Table:
    """Return rows as a result table."""
    names = dict.fromkeys(name for row in rows for name in row)
    return to_table({name: [row.get(name) for row in rows] for name in names}, RESULT)


def study_rows(
    count: int, *, methods: tuple[str, ...] = METHODS[:3], seed: int = 0, decades: float = 1.0, failed: float = 0.05
) -> list[dict[str, Any]]:
    """Return rows of a study with a trade-off: robustness costs clean accuracy and lowers the Lipschitz estimate.

    Args:
        count: Number of rows.
        methods: Methods to draw from.
        seed: Seed of the draws.
        decades: Span of the Lipschitz estimates, in powers of ten.
        failed: Share of trials that diverged.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        method = methods[rng.integers(len(methods))]
        strength = 0.05 * rng.random() if method == "natural" else rng.beta(2, 1.3)
        clean = float(np.clip(0.975 - 0.14 * strength**2 - 0.06 * rng.exponential(0.5), 0, 1))
        robust = float(np.clip(clean * (0.93 * strength**0.6) - 0.08 * rng.exponential(0.5), 0, clean))
        lipschitz = float(10 ** (2.2 - decades * strength + 0.1 * rng.normal()))
        row = result_row(
            number,
            method=method,
            train_epsilon=None if method == "natural" else round(0.2 * float(rng.random()), 4),
            val_clean_accuracy=round(clean, 3),
            val_robust_accuracy=round(robust, 3),
            val_lipschitz_mean=lipschitz,
            val_lipschitz_scale_free_mean=lipschitz / 8,
            proposal="random" if rng.random() < 0.2 else "sampler",
        )
        row["param.dropout"] = round(0.5 * float(rng.random()), 3)
        row["param.beta"] = round(float(10 ** rng.uniform(-0.3, 1)), 3) if method == "trades" else None
        if rng.random() < failed:
            row |= {"status": "failed", "reason": "diverged"} | {name: None for name in row if name.startswith("val_")}
        elif rng.random() < 0.04:
            row["flags"] = ["zero_gradients"]
        rows.append(row)
    return rows
