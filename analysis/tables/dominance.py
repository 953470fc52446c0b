"""How likely one member of a front truly dominates another, as a table and as data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.data.results import Table
from analysis.fronts.front import front_of, spread_along
from analysis.fronts.objectives import FRONT, values
from analysis.statistics.front_posterior import FrontPosterior
from analysis.tables.text_table import TextTable, csv_text

SHOWN = 10
"""Most members that the table has, spread along the front; the data have all of them."""


def dominance(belief: FrontPosterior, trials: Sequence[str], /) -> np.ndarray:
    """Return the probabilities that the row's trial truly dominates the column's, shape (t, t); NaN on the diagonal.

    Args:
        belief: What the per-example outcomes say of the front.
        trials: Ids of t trials that entered it.
    """
    found = np.array([[belief.dominates(first, second) for second in trials] for first in trials])
    found = found.reshape(len(trials), len(trials))
    np.fill_diagonal(found, np.nan)
    return found


def dominance_table(table: Table, belief: FrontPosterior | None, /) -> TextTable | None:
    """Return the front's members against each other, `SHOWN` of them at most; None for fewer than two that are known.

    Args:
        table: Result rows of like measurement, or those of which somebody insists that they are.
        belief: What the per-example outcomes say of their front; None where they are missing.
    """
    members = front_of(table)
    known = _known(members, belief)
    if belief is None or len(known) < 2:
        return None
    kept = members.take(known)
    chosen = np.sort(spread_along(values(kept, FRONT), cap=SHOWN))
    trials = [str(trial) for trial in kept.take(chosen)["trial_id"].to_pylist()]
    left = len(known) - len(trials)
    more = f" {left} more are left out; `pareto` writes all to pareto_dominance.csv." if left else ""
    return TextTable(
        title="Probability that the row's network truly dominates the column's",
        headings=("trial", *trials),
        formats=("", *[".2f"] * len(trials)),
        rows=tuple((trial, *row) for trial, row in zip(trials, dominance(belief, trials).tolist(), strict=True)),
        notes=(
            "Truly better in both accuracies, given the per-example outcomes on validation. A member is dominated by "
            f"none as measured.{more}",
        ),
    )


def dominance_csv(table: Table, belief: FrontPosterior, /) -> str:
    """Return all members of the front against each other as CSV, a row and a column for each; the diagonal is empty."""
    members = front_of(table)
    trials = [str(trial) for trial in members.take(_known(members, belief))["trial_id"].to_pylist()]
    cells = [
        [trial, *(None if np.isnan(value) else value for value in row)]
        for trial, row in zip(trials, dominance(belief, trials).tolist(), strict=True)
    ]
    return csv_text(["trial_id", *trials], cells)


def _known(members: Table, belief: FrontPosterior | None) -> list[int]:
    """Return the places of the members that entered a belief."""
    entered = set() if belief is None else set(belief.trials)
    return [place for place, trial in enumerate(members["trial_id"].to_pylist()) if trial in entered]
