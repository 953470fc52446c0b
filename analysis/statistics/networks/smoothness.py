"""Local Lipschitz estimates of single examples, on training images against validation images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from analysis.data.results import Table

SPLITS = ("train", "val")


def by_split(examples: Table, checkpoints: Mapping[str, str], /) -> dict[str, dict[str, np.ndarray]]:
    """Return the estimates of each trial by split, sorted, shape (m,), in the order of `checkpoints`.

    Args:
        examples: Example rows, as `read_examples` gives them.
        checkpoints: Which checkpoint of each trial is meant, by its id.

    Returns:
        Only trials and splits with estimates.
    """
    names = ("trial_id", "checkpoint", "split", "lipschitz")
    found: dict[tuple[str, str], list[float]] = {}
    for trial, checkpoint, split, value in zip(*(examples[name].to_pylist() for name in names), strict=True):
        if value is not None and checkpoints.get(trial) == checkpoint and split in SPLITS:
            found.setdefault((trial, split), []).append(value)
    return {
        trial: parts
        for trial in checkpoints
        if (parts := {split: np.sort(found[trial, split]) for split in SPLITS if (trial, split) in found})
    }
