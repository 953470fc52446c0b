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
    """Return what was found: a sentence for the front, one for each of its ends, and one for the rank correlation.

    Args:
        table: Result rows of one study, at least one.

    Raises:
        MixedStudiesError: The rows differ in what they measure.
    """
    return [*_front_lines(table), _correlation_line(table)]


def _front_lines(table: Table) -> list[str]:
    front = front_of(table)
    if not front.num_rows:
        return [f"There is no front: {why_no_front(table)}."]
    rows = front.to_pylist()
    if len(rows) == 1:
        return [f"The front has one member, {_describe(rows[0])}."]
    lines = [
        f"The front has {len(rows)} members. Its clean end is {_describe(rows[0])}; "
        f"its robust end is {_describe(rows[-1])}."
    ]
    best = best_at_floor(values(front, FRONT))
    if best is not None and 0 < best.index < len(rows) - 1:
        lines.append(f"With at least {best.floor:.0%} clean, the most robust is {_describe(rows[best.index])}.")
    return lines


def _correlation_line(table: Table) -> str:
    """Return the rank correlation of Lipschitzness with robust accuracy with its interval, or why there is none.

    Both measures of Lipschitzness are named, the raw one first, over all trials and within methods.
    """
    outcome = next(iter(OUTCOMES.values()))
    rows = [row for row in lipschitz_associations(random_share(table)) if row.outcome == outcome]
    found = {(row.of, row.among): row.found for row in rows}
    overall = [found[of, "all methods"] for of in LIPSCHITZ.values()]
    known = [each for each in overall if each is not None]
    if len(known) < len(overall):
        return why_no_association(table)
    within = [found[of, "within method"] for of in LIPSCHITZ.values()]
    same = [each.signed(digits=2) for each in within if each is not None]
    among = f"; within methods {' and '.join(same)}" if len(same) == len(within) else ""
    values = ", ".join(f"{of} {each.signed(digits=2)}" for of, each in zip(LIPSCHITZ.values(), known, strict=True))
    return (
        f"Rank correlation of Lipschitzness with {outcome} (n = {known[0].n} independent proposals): {values}{among}. "
        f"{_reading(known)}."
    )


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
