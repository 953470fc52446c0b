"""The page that sets two studies beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from analysis.fronts.front import front_hypervolume, front_of, require_like_for_like
from analysis.fronts.objectives import FRONT
from analysis.method_styles import short_name
from analysis.plots.trials.two_fronts import fronts_svg
from analysis.report.parts.html import bullets, document, paragraph, table_html
from analysis.tables.comparison import Side, difference_table, differences, paired_lines, unlike_columns
from analysis.tables.front_table import volume_note
from analysis.tables.text_table import TextTable
from analysis.wording import measured_by, provenance, why_no_front


def build_comparison(first: Side, second: Side, /, *, reference: Mapping[str, float] | None = None) -> str:
    """Return the page: what differs, both fronts, hypervolumes, the paper's lines, differences per method.

    Args:
        first: The study that differences are taken from.
        second: The other one.
        reference: Reference values of both hypervolumes, by objective.

    Raises:
        MixedStudiesError: The rows of one study measured different things among themselves.
    """
    sides = (first, second)
    for side in sides:
        require_like_for_like(side.table)
    unlike = unlike_columns(first, second)
    sections = {
        "differs": ("What differs", _differs(first, second, unlike)),
        "fronts": ("Fronts", _fronts(sides, together=not unlike)),
        "volumes": ("Hypervolumes", _volumes(sides, reference, unlike)),
        "table": ("Methods and dropout", table_html(paired_lines(first, second))),
        "methods": ("Differences per method", _methods(first, second, unlike)),
        "provenance": ("Provenance", bullets([f"{side.label}: {provenance(side.table)}" for side in sides])),
    }
    small = " against ".join(f"{side.label} ({side.table.num_rows} trials)" for side in sides)
    return document(f"{first.label} and {second.label}", small, sections)


def _differs(first: Side, second: Side, unlike: list[str]) -> str:
    if unlike:
        verdict = (
            f"These studies measured different things ({', '.join(unlike)}): their numbers are shown side by side, "
            "never on one front, and no difference between them is computed."
        )
    else:
        verdict = (
            "These studies measured the same thing: same data and split, same threat model, same attack and effort. "
            f"Robust accuracy of both is under {measured_by(first.table)}."
        )
    return paragraph(verdict) + table_html(differences(first, second), caption=False)


def _fronts(sides: tuple[Side, Side], *, together: bool) -> str:
    figure = fronts_svg([(side.label, side.table) for side in sides], together=together)
    if together:
        caption = "Colour and dashes are the study, shape is the method; large: its front, faint: its other trials."
    else:
        caption = (
            "Each study has its own plane, axes and colours. Large, outlined: its front; faint: dominated; hollow: "
            "flagged, stopped early or infeasible."
        )
    ends = [line for side in sides for line in _ends(side)]
    label = "Both fronts on one plane" if together else "The two fronts, each on its own plane"
    shown = f'<figure class="fronts" role="img" aria-label="{escape(label)}">{figure}</figure>'
    return shown + paragraph(caption) + bullets(ends)


def _ends(side: Side) -> list[str]:
    front = front_of(side.table)
    if not front.num_rows:
        return [f"{side.label}: {why_no_front(side.table)}, so no front"]
    rows = front.select(["trial_id", "method", *FRONT]).to_pylist()
    ends = [rows[0], rows[-1]] if len(rows) > 1 else rows
    outermost = "; ".join(
        f"trial {row['trial_id']} ({short_name(row['method'])}): {row[FRONT[0]]:.3f} clean, {row[FRONT[1]]:.3f} robust"
        for row in ends
    )
    return [f"{side.label}: {len(rows)} member{'s' * (len(rows) != 1)}, from {outermost} (val)"]


def _volumes(sides: tuple[Side, Side], reference: Mapping[str, float] | None, unlike: list[str]) -> str:
    rows, notes = [], []
    for side in sides:
        found = front_hypervolume(side.table, reference=reference)
        believed = "" if side.belief is None else str(side.belief.hypervolume(reference=found.reference))
        rows.append((side.label, side.table.num_rows, found.points, found.value, believed))
        notes.append(f"{side.label}: {volume_note(found, FRONT)}")
    table = TextTable(
        title="Hypervolume over clean and robust accuracy, on validation",
        headings=("study", "trials", "front", "as measured", "of the true accuracies"),
        formats=("", "d", "d", ".4f", ""),
        rows=tuple(rows),
        notes=(
            *notes,
            "of the true accuracies: with its 95 % interval, the luck of the best estimates taken out; empty without "
            "per-example outcomes. More trials give a larger hypervolume by themselves",
            *(("The two volumes do not compare: the studies measured different things",) if unlike else ()),
        ),
    )
    return table_html(table)


def _methods(first: Side, second: Side, unlike: list[str]) -> str:
    if unlike:
        return paragraph(
            f"Not computed: the studies differ in {', '.join(unlike)}, so a difference would mix what was found with "
            "how it was measured."
        )
    table = difference_table(first, second)
    return table_html(table) if table.rows else paragraph("No method has a sound trial in both studies.")
