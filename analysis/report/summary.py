"""The report's summary: the study's findings in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from analysis.data.results import Table
from analysis.fronts.front import front_hypervolume, front_of
from analysis.fronts.member_choice import knee_of
from analysis.fronts.objectives import FRONT
from analysis.method_styles import short_name
from analysis.statistics.front_posterior import FrontPosterior
from analysis.tables.front_table import infeasible_note, volume_note
from analysis.wording import constraints_missed, count, measured_by, why_no_front


def summary_lines(
    table: Table, /, *, belief: FrontPosterior | None = None, reference: Mapping[str, float] | None = None
) -> list[str]:
    """Return the summary, one or two sentences per line.

    Args:
        table: Result rows of one study.
        belief: Posterior of the front given the per-example outcomes, if there are any.
        reference: Reference values of the hypervolume, by objective.
    """
    counts = count(table)
    missed = f", {counts.infeasible} without flags but missed {constraints_missed(table)}"
    unmeasured = f", {counts.unmeasured} completed without both accuracies"
    methods = Counter(table["method"].to_pylist())
    lines = [
        f"{counts.trials} trial{'s' * (counts.trials != 1)} over {len(methods)} method{'s' * (len(methods) != 1)} on "
        f"{', '.join(dict.fromkeys(table['dataset'].to_pylist()))}: {counts.failed} failed, {counts.stopped_early} "
        f"were stopped early, {counts.flagged} completed with flags"
        f"{missed if counts.infeasible else ''}{unmeasured if counts.unmeasured else ''}.",
        f"Robust accuracy is the share of all examples still classified correctly under {measured_by(table)}"
        f"{_explained(table)}.",
    ]
    front = front_of(table)
    if not front.num_rows:
        reason = why_no_front(table)
        return [*lines, f"{reason[0].upper()}{reason[1:]}, so there is no front.", *_infeasible_lines(table)]
    rows = front.to_pylist()
    lines.append(
        f"The front has {len(rows)} members. Its clean end is {_describe(rows[0])}. "
        f"Its robust end is {_describe(rows[-1])}."
        if len(rows) > 1
        else f"The front has 1 member, {_describe(rows[0])}."
    )
    if knee := knee_of(front):
        middle = next(row for row in rows if row["trial_id"] == knee)
        lines.append(f"Its knee is {_describe(middle)}.")
    measured = front_hypervolume(table, reference=reference)
    text = volume_note(measured, FRONT)
    if belief is not None:
        true = belief.hypervolume(reference=measured.reference)
        text += f" as measured; of the true accuracies {true} (95 %), corrected for the luck of the best estimates"
    lines.append(text[0].upper() + text[1:] + ".")
    return [*lines, *_infeasible_lines(table)]


def _explained(table: Table) -> str:
    """Return what a study's attack does where its name does not say it, empty otherwise."""
    reachable = "reachable_targets" in table["attack"].to_pylist()
    return "; this attack climbs towards those wrong classes that the ball can reach" if reachable else ""


def _infeasible_lines(table: Table) -> list[str]:
    """Return a line on the trials that miss a constraint, empty for none."""
    note = infeasible_note(table)
    return [f"{note[0].upper()}{note[1:]}."] if note else []


def _describe(row: Mapping[str, Any]) -> str:
    return (
        f"trial {row['trial_id']} ({short_name(row['method'])}): {row[FRONT[0]]:.1%} clean, {row[FRONT[1]]:.1%} robust"
    )
