"""What a study found, in a few sentences: its front, the front's ends, and whether smoothness goes with robustness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.data.results import Table
from analysis.fronts.front import front_of
from analysis.fronts.member_choice import best_at_floor
from analysis.fronts.objectives import FRONT, values
from analysis.method_styles import styles_for
from analysis.statistics.association import (
    LIPSCHITZ,
    OUTCOMES,
    Association,
    lipschitz_associations,
    random_share,
    why_no_association,
)
from analysis.wording import why_no_front


def finding_lines(table: Table, /) -> list[str]:
    """Return what was found: the front, its ends, and the rank correlation, in short lines of text.

    Args:
        table: Result rows of one study, at least one.

    Raises:
        MixedStudiesError: The rows differ in what they measure.
    """
    return [*_front_lines(table), *_correlation_lines(table)]


def _front_lines(table: Table) -> list[str]:
    front = front_of(table)
    if not front.num_rows:
        return [f"There is no front: {why_no_front(table)}."]
    rows = front.to_pylist()
    if len(rows) == 1:
        return [f"The front has one member, {_describe(rows[0])}."]
    lines = [
        f"The front has {len(rows)} members. Its clean end is {_describe(rows[0])},",
        f"its robust end {_describe(rows[-1])}.",
    ]
    best = best_at_floor(values(front, FRONT))
    if best is not None and 0 < best.index < len(rows) - 1:
        lines.append(f"With at least {best.floor:.0%} clean, the most robust is {_describe(rows[best.index])}.")
    return lines


def _correlation_lines(table: Table) -> list[str]:
    """Return the rank correlation of Lipschitzness with robust accuracy with its interval, or why there is none.

    Both measures of Lipschitzness are named, over all trials and within methods.
    """
    outcome = next(iter(OUTCOMES.values()))
    rows = [row for row in lipschitz_associations(random_share(table)) if row.outcome == outcome]
    overall, within = (
        {row.of: row.found for row in rows if row.among == among and row.found is not None}
        for among in ("all methods", "within method")
    )
    if len(overall) < len(LIPSCHITZ):
        return [why_no_association(table)]
    count = next(iter(overall.values())).n
    return [
        f"Rank correlation of Lipschitzness with {outcome}, over {count} independent proposals:",
        f"  {_intervals(overall)}",
        *([f"  within methods: {_intervals(within)}"] if within else []),
        f"{_reading([*overall.values()])}.",
    ]


def _intervals(found: Mapping[str, Association]) -> str:
    return ", ".join(f"{of} {each.signed(digits=2)}" for of, each in found.items())


def _reading(found: list[Association]) -> str:
    """Return what the intervals of the measures' rank correlations say in words."""
    if all(each.high < 0 for each in found):
        return "Over all, the smoother networks are the more robust ones"
    if all(each.low > 0 for each in found):
        return "Over all, the smoother networks are the less robust ones"
    return "That smoother networks are more robust, or less, is not shown by both measures"


def _describe(row: Mapping[str, Any]) -> str:
    method = styles_for([row["method"]])[row["method"]].label
    return f"trial {row['trial_id']} ({method}: {row[FRONT[0]]:.1%} clean, {row[FRONT[1]]:.1%} robust)"
