"""What only the figures of a study show: accuracies over the epochs, and the members' Lipschitzness by example."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from study.errors import usage_errors
from study.reports.posterior import examples_of
from study.reports.sources import StudySources

if TYPE_CHECKING:
    from analysis.material import StudyMaterial

MOST = 6
"""Most front members whose Lipschitzness is shown by example, spread along the front."""


def with_figure_data(material: StudyMaterial, sources: StudySources, /) -> StudyMaterial:
    """Return what is known of a study with its epochs and its members' Lipschitzness, as far as they are recorded.

    Raises:
        UsageError: Damaged files.
    """
    from analysis.data.schema import ResultsError

    with usage_errors(ResultsError):
        return replace(material, epochs=_epochs(sources), smoothness=_smoothness(material.table, sources))


def _epochs(sources: StudySources) -> Any:
    """Return the epochs of all trials; None for exported files, which have none."""
    from analysis.data.combine import by_study, joined, relabelled
    from analysis.data.results import read_epochs

    folders = {label: source for label, source in sources.sources.items() if source.is_dir()}
    if len(sources.sources) == 1:
        return next((read_epochs(folder) for folder in folders.values()), None)
    parts = []
    for label, folder in folders.items():
        studies = by_study(read_epochs(folder))  # a folder may hold several
        if (epochs := studies.get(sources.rows[label]["study"][0].as_py())) is not None:
            parts.append(relabelled(epochs, label))
    return joined(parts) if parts else None


def _smoothness(table: Any, sources: StudySources) -> dict[str, dict[str, Any]]:
    """Return at most `MOST` members' Lipschitz estimates by trial and split; empty where none is recorded."""
    from analysis.data.schema import ResultsError
    from analysis.fronts.front import front_of, spread_along
    from analysis.fronts.objectives import FRONT, values
    from analysis.statistics.networks.smoothness import by_split

    front = front_of(table)
    if not front.num_rows:
        return {}
    chosen = front.take(spread_along(values(front, FRONT), cap=MOST))
    checkpoints = dict(zip(chosen["trial_id"].to_pylist(), chosen["checkpoint_kind"].to_pylist(), strict=True))
    try:
        examples = examples_of(sources.sources, checkpoints)
    except ResultsError:
        return {}
    return by_split(examples, checkpoints)
