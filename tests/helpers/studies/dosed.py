"""Rows of a grid over methods' doses with several seeds, whose effects are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from helpers.studies.synthetic_results import result_row

DOSES: Mapping[str, tuple[str, Sequence[float]]] = {
    "trades": ("param.beta", (0.5, 1.0, 2.0, 4.0)),
    "lipschitz_penalty": ("param.lambda", (0.01, 0.02, 0.04)),
    "adversarial_training": ("train_epsilon", (0.05, 0.1, 0.2)),
}
"""Each method's column and levels, each a doubling of the one before."""

HALVING = -0.8
"""Change of log2 Lipschitzness by one doubling of a dose, of every method."""

SLOPE = -0.05
"""Change of robust accuracy by one doubling of Lipschitzness, in every method and between seeds."""

DIRECT = {"trades": 0.1, "lipschitz_penalty": 0.0, "adversarial_training": 0.05}
"""What each method adds to robust accuracy besides."""

DROPOUT = -0.04
"""Change of the clean gap by dropout 0.5."""


def dosed_rows(rng: np.random.Generator, /, *, seeds: int = 3, noise: float = 1.0) -> list[dict[str, Any]]:
    """Return the rows of such a study, natural training with log2 Lipschitzness 6 and robust accuracy 0.4 among them.

    Args:
        rng: Draws the noise, of deviation 0.2 in log2 Lipschitzness and 0.02 in robust accuracy and gaps.
        seeds: Trials of each setting, one whole grid after another.
        noise: Factor of the noise.
    """
    settings: list[tuple[str, float, int | None]] = [("natural", dropout, None) for dropout in (0.0, 0.5)]
    settings += [
        (method, dropout, step)
        for method, (_, levels) in DOSES.items()
        for dropout in (0.0, 0.5)
        for step in range(len(levels))
    ]
    rows = []
    for seed in range(seeds):
        for place, (method, dropout, step) in enumerate(settings):
            smooth = 6 + (0 if step is None else HALVING * (step + 1)) + 0.2 * noise * rng.normal()
            robust = 0.4 + SLOPE * (smooth - 6) + DIRECT.get(method, 0.0) + 0.02 * noise * rng.normal()
            row = result_row(
                len(rows),
                method=method,
                proposal="grid",
                replicate_of=place if seed else None,
                val_robust_accuracy=robust,
                val_lipschitz_mean=2 ** (smooth + 1),
                val_lipschitz_scale_free_mean=2**smooth,
                clean_gap=0.1 + DROPOUT * (dropout > 0) + 0.02 * noise * rng.normal(),
                robust_gap=0.2,
                train_epsilon=None if method in ("natural", "adversarial_training") else 0.1,
            )
            row |= {"param.dropout": dropout, "param.beta": None, "param.lambda": None}
            if step is not None:
                row[DOSES[method][0]] = DOSES[method][1][step]
            rows.append(row)
    return rows
