"""What the per-example outcomes of one or several studies say of their front."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from study.console import notes

_SEED = 0


def belief_of(sources: Mapping[str, Path], table: Any, /) -> Any:
    """Return what the outcomes of sound trials near the front say, an `analysis.beliefs.FrontBelief`.

    Args:
        sources: The studies' folders by what the table calls them; one alone may be called anything.
        table: Their result rows, all of like measurement; those of several are `analysis.several.relabelled`.

    Returns:
        None where outcomes are missing or the trials do not share their examples.
    """
    import numpy as np

    from analysis.beliefs import CANDIDATES, front_belief, outermost
    from analysis.fronts import feasible
    from analysis.objectives import FRONT, values
    from analysis.schema import EXAMPLE, ResultsError
    from analysis.uncertainty import outcomes

    if not all((source / EXAMPLE.folder).is_dir() for source in sources.values()):
        return None
    measured = np.where(feasible(table)[:, None], values(table, FRONT), np.nan)
    ids = table["trial_id"].to_pylist()
    wanted = {ids[index] for index in outermost(measured, most=CANDIDATES)}
    try:
        found = outcomes(_examples(sources, wanted), split="val")
    except ResultsError as error:
        notes().print(f"no probabilities for the front: {error}")
        return None
    if len(found.trials) < 2 or not len(found.index):
        return None
    return front_belief(found, generator=np.random.default_rng(_SEED))


def _examples(sources: Mapping[str, Path], wanted: set[str]) -> Any:
    from analysis.results import read_examples
    from analysis.several import joined, relabelled

    if len(sources) == 1:
        return read_examples(next(iter(sources.values())), trials=wanted)
    parts = []
    for label, source in sources.items():
        own = {trial.removeprefix(f"{label}/") for trial in wanted if trial.startswith(f"{label}/")}
        parts.append(relabelled(read_examples(source, trials=own), label))
    return joined(parts)
