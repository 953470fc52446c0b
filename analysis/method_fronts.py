"""Each method's own front, a line a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analysis.choice import fronts_by
from analysis.fronts import front_hypervolume
from analysis.objectives import FRONT
from analysis.results import Table
from analysis.tables import TextTable


def method_fronts_table(
    table: Table,
    /,
    *,
    objectives: Sequence[str] = FRONT,
    reference: Mapping[str, float] | None = None,
    allow_mixed: bool = False,
) -> TextTable:
    """Return the front of each method's trials alone: its members, best in the first objective first, and hypervolume.

    Args:
        table: Result rows.
        objectives: Names from `OBJECTIVES`.
        reference: Reference values of the hypervolume by objective; an objective's own where not given.
        allow_mixed: Compare rows though they were measured differently.

    Raises:
        MixedStudiesError: A method's rows differ in what they measure, and `allow_mixed` is not set.
    """
    fronts = fronts_by(table, "method", objectives=objectives, allow_mixed=allow_mixed)
    trials = table["method"].to_pylist()
    found: list[tuple[float, str, Table]] = []
    for method, members in fronts.items():
        volume = front_hypervolume(members, objectives=objectives, reference=reference, allow_mixed=allow_mixed)
        found.append((volume.value, method, members))
    return TextTable(
        title="Fronts of each method alone",
        headings=("method", "trials", "members", "hypervolume"),
        formats=("", "d", "", ".4f"),
        rows=tuple(
            (method, trials.count(method), ", ".join(members["trial_id"].to_pylist()), volume)
            for volume, method, members in sorted(found, key=lambda one: -one[0])
        ),
    )
