"""A study's own checkpoint given to `evaluate --checkpoint`: each attack on it counts as a use of test data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.data.results import read_results
from analysis.data.schema import RESULT, ResultsError
from study.console import notes
from study.evaluation.checkpoint_input import CheckpointRequest
from trainables.checkpoints.files import is_url

if TYPE_CHECKING:
    from trainables.evaluation.evaluate import Measures


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Whose network a checkpoint is.

    Attributes:
        folder: The study's folder, or that of its new seeds.
        row: The trial's result row.
        weights: `last` or `best`.
    """

    folder: Path
    row: Mapping[str, Any]
    weights: str


def owner_of(request: CheckpointRequest, /) -> Owner | None:
    """Return the trial whose file in a study's `checkpoints/` a request names, measured on its study's data set.

    None for any other file; a copy elsewhere, and one in an object store, cannot be told from a network without a
    study.
    """
    from trainables.training.loop import BEST, LAST

    if is_url(request.checkpoint):
        return None
    path = Path(request.checkpoint).expanduser().resolve()
    folder, weights = path.parent.parent.parent, {LAST: "last", BEST: "best"}.get(path.name)
    if weights is None or path.parent.parent.name != "checkpoints" or not (folder / RESULT.folder).is_dir():
        return None
    try:
        rows = read_results(folder, skip_damaged=True).to_pylist()
    except ResultsError:
        return None
    mine = [row for row in rows if row["trial_id"] == path.parent.name]
    # Rows name a data set in a folder by the folder alone.
    same = mine and mine[0]["dataset"] in (request.dataset, Path(request.dataset).name)
    return Owner(folder=folder, row=mine[0], weights=weights) if same else None


def count_use(
    request: CheckpointRequest, owner: Owner, /, *, under: Mapping[str, Measures], seed: int, seconds: float
) -> None:
    """Write an evaluation row for each attack, which is a use of test data, with its per-example outcomes.

    A measurement with the same settings as one before gives what is known already, and is not written again.

    Args:
        request: What was measured.
        owner: The trial.
        under: What each attack left; the estimate of Lipschitzness with one of them.
        seed: Of the measurement's draws.
        seconds: Spent on all of them.
    """
    import torch

    from study.evaluation.jobs import MeasurementJob, now, record
    from trainables.evaluation.checkpoint import CheckpointMeasurement, MeasurementSpec
    from trainables.runtime import machine_columns
    from trainables.spec import LipschitzSpec

    occasion, uses = now(), 0
    for attack, measures in under.items():
        estimated = len(measures.lipschitz)
        wanted = MeasurementSpec(
            checkpoint=str(Path(request.checkpoint).expanduser().resolve()),
            seed=seed,
            attack=attack,
            norm=request.norm,
            epsilon=request.epsilon,
            steps=request.steps,
            restarts=request.restarts,
            examples=len(measures.clean_correct),
            checks="full" if estimated else "cheap",
            lipschitz=replace(LipschitzSpec(), examples=estimated) if estimated else None,
        )
        job = MeasurementJob(
            folder=owner.folder, row=owner.row, checkpoint=owner.weights, chosen_by="trial", wanted=wanted
        )
        if job.done:
            continue
        found = CheckpointMeasurement(
            measures=measures,
            index=np.arange(len(measures.clean_correct)),
            threads=torch.get_num_threads(),
            seconds=seconds / len(under),
            device="cuda" if torch.cuda.is_available() else "cpu",
            machine=machine_columns(),
        )
        record(job, found, occasion=occasion)
        uses += 1
    named = f"trial {owner.row['trial_id']} of {owner.folder}"
    notes().print(f"{named}: {uses} uses of its test data counted" if uses else f"{named}: counted before")
