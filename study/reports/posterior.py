"""What the per-example outcomes of one or several studies say of their front."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from study.console import notes

_SEED = 0


def belief_of(sources: Mapping[str, Path], table: Any, /) -> Any:
    """Return what the outcomes of sound trials near the front say, a `front_posterior.FrontPosterior`.

    Args:
        sources: The studies' folders, or exports with their outcomes beside them, by what the table calls them; one
            alone may be called anything.
        table: Their result rows, all of like measurement; those of several are `analysis.data.combine.relabelled`.

    Returns:
        None where outcomes are missing or the trials do not share their examples; a note says which.
    """
    import numpy as np

    from analysis.data.schema import ResultsError
    from analysis.fronts.front import feasible
    from analysis.fronts.objectives import FRONT, values
    from analysis.statistics.front_posterior import CANDIDATES, front_belief, outermost
    from analysis.statistics.intervals import outcomes

    measured = np.where(feasible(table)[:, None], values(table, FRONT), np.nan)
    ids = table["trial_id"].to_pylist()
    wanted = {ids[index] for index in outermost(measured, most=CANDIDATES)}
    try:
        found = outcomes(examples_of(sources, wanted), split="val")
    except ResultsError as error:
        notes().print(f"no probabilities for the front: {error}")
        return None
    if len(found.trials) < 2 or not len(found.index):
        return None
    return front_belief(found, generator=np.random.default_rng(_SEED))


def examples_of(sources: Mapping[str, Path], wanted: Collection[str], /) -> Any:
    """Return the per-example outcomes of some trials, told apart as the table that `sources` name them for does.

    Args:
        sources: As `belief_of` takes them.
        wanted: Ids of the trials in that table.

    Raises:
        ResultsError: A source has none, or damaged ones.
    """
    from analysis.data.combine import by_study, joined, relabelled
    from analysis.data.results import read_examples
    from analysis.data.schema import EXAMPLE, ResultsError

    homes = {label: _home(source) for label, source in sources.items()}
    if lost := [home for home in homes.values() if not (home.is_file() or (home / EXAMPLE.folder).is_dir())]:
        raise ResultsError(f"there are no per-example outcomes in {lost[0]}")
    if len(homes) == 1:
        return read_examples(next(iter(homes.values())), trials=wanted)
    parts = []
    for label, home in homes.items():
        own = {trial.removeprefix(f"{label}/") for trial in wanted if trial.startswith(f"{label}/")}
        found = by_study(read_examples(home, trials=own))
        # an export may hold several studies, each called by its name, with its file's behind it where two share that
        parts += [relabelled(rows, label) for name, rows in found.items() if len(found) == 1 or _is(label, name)]
    return joined(parts)


def _home(source: Path) -> Path:
    """Return where outcomes lie: a study's folder, or what `export` writes beside its file."""
    return source.with_suffix(".examples.parquet") if source.is_file() else source


def _is(label: str, study: str) -> bool:
    return label == study or label.startswith(f"{study} (")
