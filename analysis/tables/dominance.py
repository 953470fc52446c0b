"""The probability that one member of a front truly dominates another, as a table and as data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.data.results import Table
from analysis.fronts.front import front_of, spread_along
from analysis.fronts.objectives import FRONT, values
from analysis.statistics.front_posterior import FrontPosterior
from analysis.tables.text_table import TextTable, csv_text

SHOWN = 10
"""Most members in the table, spread along the front; the data have all of them."""


def dominance(belief: FrontPosterior, trials: Sequence[str], /) -> np.ndarray:
    """Return the probabilities that the row's trial truly dominates the column's, shape (t, t); NaN on the diagonal.

    Args:
        belief: Posterior of the front given the per-example outcomes.
        trials: Ids of t trials in its model.
    """
    probabilities = np.array([[belief.dominates(first, second) for second in trials] for first in trials])
    probabilities = probabilities.reshape(len(trials), len(trials))
    np.fill_diagonal(probabilities, np.nan)
    return probabilities


def dominance_table(table: Table, belief: FrontPosterior | None, /) -> TextTable | None:
    """Compare at most `SHOWN` of the front's members with each other; None for fewer than two in the model.

    Args:
        table: Result rows measured alike, or marked by `with_mixed_allowed`.
        belief: Posterior of their front given the per-example outcomes; None without them.
    """
    members = front_of(table)
    modelled = _in_model(members, belief)
    if belief is None or len(modelled) < 2:
        return None
    candidates = members.take(modelled)
    chosen = np.sort(spread_along(values(candidates, FRONT), cap=SHOWN))
    trials = [str(trial) for trial in candidates.take(chosen)["trial_id"].to_pylist()]
    omitted = len(modelled) - len(trials)
    more = f" {omitted} more are not shown; `pareto` writes all to pareto_dominance.csv." if omitted else ""
    return TextTable(
        title="Probability that the row's network truly dominates the column's",
        headings=("trial", *trials),
        formats=("", *[".2f"] * len(trials)),
        rows=tuple((trial, *row) for trial, row in zip(trials, dominance(belief, trials).tolist(), strict=True)),
        notes=(
            "Truly better in both accuracies, given the per-example outcomes on validation. As measured, no trial "
            f"dominates a member.{more}",
        ),
    )


def dominance_csv(table: Table, belief: FrontPosterior, /) -> str:
    """Return the probabilities of all members as CSV, a row and a column for each; the diagonal is empty."""
    members = front_of(table)
    trials = [str(trial) for trial in members.take(_in_model(members, belief))["trial_id"].to_pylist()]
    cells = [
        [trial, *(None if np.isnan(value) else value for value in row)]
        for trial, row in zip(trials, dominance(belief, trials).tolist(), strict=True)
    ]
    return csv_text(["trial_id", *trials], cells)


def _in_model(members: Table, belief: FrontPosterior | None) -> np.ndarray:
    """Return the positions of the members in the posterior's model, none where it leaves the front undecided."""
    modelled = set(belief.trials) if belief is not None and belief.decided else set()
    return np.flatnonzero([trial in modelled for trial in members["trial_id"].to_pylist()])
