"""The description on a study's run in MLflow: what it searches, its trials and its front, and how to find more."""

from __future__ import annotations

from analysis.data.results import Table
from analysis.fronts.front import front_hypervolume, front_of, spread_along
from analysis.fronts.objectives import FRONT, values
from analysis.tables.front_table import FRONT_COLUMNS, column_table, volume_note
from analysis.wording import count, measured_by, why_no_front
from study.config.schema import StudyConfig

MOST_MEMBERS = 10
MOST_CHARACTERS = 3000
"""Servers take tags of 5,000 characters or more; the links are added to these."""

FILTERS = (
    "tags.on_front = 'true'",
    "tags.method = 'trades' and metrics.val_robust_accuracy > 0.4",
    "tags.status = 'failed'",
)


def study_note(config: StudyConfig, table: Table, /) -> str:
    """Return a study's description as Markdown, at most `MOST_CHARACTERS` long.

    Args:
        config: The study's config.
        table: Its result rows so far, at least one.

    Raises:
        MixedStudiesError: The rows differ in what they measure.
    """
    methods, counts = ", ".join(config.search.methods), count(table)
    paragraphs = [
        f"{counts.trials} of {config.num_trials} trials are done, {counts.failed} failed and {counts.flagged} flagged. "
        f"They train {config.model.name} on {config.dataset.name} with the methods {methods}; robust accuracy is that "
        f"under {measured_by(table)}.",
        _front(table),
        f"Filters for the table: {', '.join(f'`{text}`' for text in FILTERS)}; the one that is there selects this "
        "study, so add yours with `and`.",
    ]
    return "\n\n".join(paragraphs)[:MOST_CHARACTERS]


def _front(table: Table) -> str:
    front = front_of(table)
    if not front.num_rows:
        return f"There is no front: {why_no_front(table)}."
    chosen = front.take(sorted(spread_along(values(front, FRONT), cap=MOST_MEMBERS)))
    size = front.num_rows
    title = f"Front on validation: {size} member{'s' * (size != 1)}"
    if chosen.num_rows < size:
        title += f", {chosen.num_rows} of them, spread along it"
    note = volume_note(front_hypervolume(table), FRONT)
    return column_table(title, FRONT_COLUMNS, chosen.to_pylist(), notes=[note]).markdown().rstrip()
