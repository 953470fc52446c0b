"""Probabilities of the front, from the per-example outcomes of one or several studies."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from study.console import notes

_SEED = 0


def belief_of(sources: Mapping[str, Path], table: Any, /) -> Any:
    """Return the `front_posterior.FrontPosterior` of the outcomes of sound trials near the front.

    Args:
        sources: The studies' folders, or exports with their outcomes beside them, by their label in the table; a
            single study may have any label.
        table: Their result rows, all of the same measurement; those of several studies are
            `analysis.data.combine.relabelled`.

    Returns:
        None, with a note, if outcomes are missing or the trials do not share their examples; None also for fewer than
        two trials.
    """
    import numpy as np

    from analysis.data.schema import ResultsError
    from analysis.fronts.front import feasible, outermost
    from analysis.fronts.objectives import FRONT, values
    from analysis.statistics.front_posterior import CANDIDATES, front_belief
    from analysis.statistics.intervals import outcomes

    measured = np.where(feasible(table)[:, None], values(table, FRONT), np.nan)
    ids = table["trial_id"].to_pylist()
    candidates = {ids[index] for index in outermost(measured, most=CANDIDATES)}
    try:
        validation = outcomes(examples_of(sources, candidates), split="val")
    except ResultsError as error:
        notes().print(f"no probabilities for the front: {error}")
        return None
    if len(validation.trials) < 2 or not len(validation.index):
        return None
    return front_belief(validation, generator=np.random.default_rng(_SEED))


def examples_of(sources: Mapping[str, Path], trials: Collection[str], /) -> Any:
    """Return the per-example outcomes of some trials, with the trials' ids in the table.

    Args:
        sources: As `belief_of` takes them.
        trials: Ids of the trials in the table.

    Raises:
        ResultsError: The outcomes of a study are missing or damaged.
    """
    from analysis.data.combine import by_study, joined, relabelled
    from analysis.data.results import read_examples
    from analysis.data.schema import EXAMPLE, ResultsError

    # outcomes are in a study's folder, or in the file that `export` writes beside its rows
    homes = {
        label: source.with_suffix(".examples.parquet") if source.is_file() else source
        for label, source in sources.items()
    }
    if missing := [home for home in homes.values() if not (home.is_file() or (home / EXAMPLE.folder).is_dir())]:
        raise ResultsError(f"no per-example outcomes in {missing[0]}")
    if len(homes) == 1:
        return read_examples(next(iter(homes.values())), trials=trials)
    parts = []
    for label, home in homes.items():
        ids = {trial.removeprefix(f"{label}/") for trial in trials if trial.startswith(f"{label}/")}
        studies = by_study(read_examples(home, trials=ids))
        # an export may hold several studies, labelled by name, and by name and file if two have the same name
        parts += [
            relabelled(rows, label)
            for name, rows in studies.items()
            if len(studies) == 1 or label == name or label.startswith(f"{name} (")
        ]
    return joined(parts)
