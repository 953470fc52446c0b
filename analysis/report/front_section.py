"""The report's section on the front: linked charts, its members, its growth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from analysis.fronts.front import feasible, front_of, on_infeasible_front
from analysis.fronts.objectives import FRONT, infeasible, values
from analysis.fronts.strong_attacks import StrongResult, strong_notes
from analysis.heldout.confirmation import KINDS
from analysis.material import StudyMaterial
from analysis.method_styles import styles_for
from analysis.plots.trials.front_view import pareto_view
from analysis.report.html import table_html
from analysis.statistics.front_posterior import UNDECIDED
from analysis.statistics.intervals import accuracy_of
from analysis.tables.dominance import dominance_table
from analysis.tables.front_table import FRONT_COLUMNS, Column, column_table, infeasible_note

LIKELY = 0.1
"""Least probability for which a dominated trial is shown; lower if a member's own is lower."""

SHOWN = 20
"""Most dominated trials shown, and most infeasible ones."""

_GLYPHS = {
    "circle": "●", "square": "■", "diamond": "◆", "triangle-up": "▲", "triangle-down": "▼", "cross": "✚", "x": "✖",
    "star": "★", "pentagon": "⬟", "hexagon": "⬢", "triangle-left": "◀", "triangle-right": "▶",
}  # fmt: skip
"""The charts' shapes as characters, so that methods are distinguished by more than colour."""


def front_section(material: StudyMaterial, /) -> list[str]:
    """Return the section: the choice of methods, the linked charts, the members, the hypervolume over time."""
    table = material.table
    methods, drawn = table["method"].to_pylist(), np.isfinite(values(table, FRONT)).all(axis=1)
    counts, measured = Counter(methods), Counter(np.asarray(methods, dtype=object)[drawn].tolist())
    boxes = "".join(
        f'<label><input type="checkbox" name="method" value="{escape(method)}" data-measured="{measured[method]}" '
        f'autocomplete="off" checked> <span class="swatch" style="color:{style.colour}" aria-hidden="true">'
        f"{_GLYPHS.get(style.symbol, '■')}</span> {escape(style.label)} ({counts[method]})</label>"
        for method, style in styles_for(counts).items()
    )
    members = front_of(table).to_pylist()
    rows = {trial: row for row, trial in enumerate(table["trial_id"].to_pylist())}
    options = "".join(
        f'<option value="{rows[member["trial_id"]]}" data-card="card-{escape(member["trial_id"])}" '
        f'data-method="{escape(member["method"])}">{escape(member["trial_id"])}</option>'
        for member in members
    )
    return [
        f'<fieldset><legend>Methods shown in all charts and tables</legend>{boxes}<span role="status" class="small">'
        f'<span id="count">{drawn.sum()}</span> of {drawn.sum()} measured trials shown</span></fieldset>',
        '<p class="controls"><label>Colour <select id="colour" data-charts="flat"><option value="flat-method">by method'
        '</option><option value="flat-lipschitz">by Lipschitzness</option></select></label>'
        '<label>Axes <select id="extent" data-charts="flat solid"><option value="near">near the front</option>'
        '<option value="all">all trials</option></select></label>'
        f'<label>Show front member <select id="member"><option value="">-</option>{options}</select></label></p>',
        '<div class="pair"><div id="flat" class="chart" tabindex="0" role="application" '
        'aria-label="Clean against robust accuracy; arrow keys move along the front, Enter opens a card"></div>'
        '<div id="solid" class="chart" role="img" aria-label="The same with Lipschitzness as third axis"></div></div>',
        *_outside(pareto_view(table).outside),
        '<div id="chosen" aria-live="polite"><p>Point at a trial, choose a front member, or move along the '
        "front with the arrow keys: it is marked in both charts.</p></div>",
        '<p class="note">Large, outlined, numbered: the front; small: dominated; hollow: flagged, stopped early or '
        "infeasible, never on the front; red: what strong attacks leave of a member, with a cross where they cast "
        "doubt on it. "
        "The line bounds what the front attains, a star is the theorem's classifier where it is measured"
        f"{', the dotted one the front of infeasible trials' if infeasible(table).any() else ''}; in space "
        "triangles are drawn as ◆, distinguished by colour.</p>",
        *_members(material, members),
        "<h3>Hypervolume over the study</h3>",
        '<div id="growth" class="chart" role="img" aria-label="Hypervolume of the front after each trial"></div>',
        "<h3>Accuracy against the radius of the attack</h3>",
        '<div id="radii" class="chart" role="img" aria-label="Robust accuracy of front members over the radius"></div>',
        '<p class="note">Members of the front. Dotted: measured at 0 and at the study\'s own radius only, which is '
        "dashed. Grey, where the separation of the data set is known: the radii at which an accurate and robust "
        "classifier exists.</p>",
        "<h3>Best checkpoint against the last</h3>",
        '<div id="best" class="chart" role="img" aria-label="Best checkpoint over the last one"></div>'
        '<p class="note">Best: the measured epoch of highest robust accuracy on validation, so its own value is '
        "flattered; every other number of this page is the last checkpoint's.</p>",
    ]


def _outside(count: int) -> list[str]:
    if not count:
        return []
    lie = "1 trial lies" if count == 1 else f"{count} trials lie"
    note = f"{lie} far behind the front, outside the axes: “all trials” above or a double click shows them."
    return [f'<p id="outside" class="note">{note}</p>']


def _members(material: StudyMaterial, members: list[dict[str, Any]]) -> list[str]:
    """Return the front's members, the dominated trials that may be members, and the infeasible ones as tables."""
    table, chance = material.table, material.probabilities()
    ids = {row["trial_id"] for row in members}
    least = min([LIKELY, *(chance[trial] for trial in ids if trial in chance)])
    ranked = sorted(chance.items(), key=lambda found: -found[1])
    likely = [trial for trial, probability in ranked if trial not in ids and probability >= least]
    rows = {row["trial_id"]: row for row in table.filter(feasible(table)).to_pylist()}
    beside = [rows[trial] for trial in likely[:SHOWN]]
    more = f" {len(likely) - SHOWN} more are not shown." if len(likely) > SHOWN else ""
    apart = table.filter(on_infeasible_front(table)).sort_by([(FRONT[0], "descending")]).to_pylist()
    parts = [
        _trials(
            "Members of the front",
            members,
            chance,
            f"95 % Wilson intervals of the examples. {_last_column(material)}",
            strong=material.strong,
        )
    ]
    if (against := dominance_table(table, material.belief)) is not None:
        parts.append(table_html(against))
    if beside:
        note = f"Dominated as measured, but truly on the front with a probability of {least:.2g} or more.{more}"
        parts.append(_trials("Dominated trials that may truly be on the front", beside, chance, note))
    if apart:
        note = f"{infeasible_note(table)[:1].upper()}{infeasible_note(table)[1:]}."
        parts.append(_trials("The front of the infeasible trials alone", apart[:SHOWN], {}, note))
    return parts


def _last_column(material: StudyMaterial) -> str:
    if material.belief is not None and not material.belief.decided:
        return f"{UNDECIDED}."
    return (
        "Last column: probability that no other trial truly dominates it, given the per-example outcomes (± 0.02 from "
        "sampling); empty without them."
    )


def _trials(
    title: str,
    rows: list[dict[str, Any]],
    chance: Mapping[str, float],
    note: str,
    *,
    strong: Mapping[str, StrongResult] | None = None,
) -> str:
    accuracies = {f"{kind} (val)": lambda row, kind=kind: str(accuracy_of(row, f"val_{kind}")) for kind in KINDS}
    columns: list[Column] = [
        (heading, "", accuracies[heading]) if heading in accuracies else (heading, spec, read)
        for heading, spec, read in FRONT_COLUMNS
    ]
    attacked = strong_notes(strong or {}, [row["trial_id"] for row in rows])
    if strong and attacked:
        columns.append(("robust (strong)", "", lambda row: str(strong.get(row["trial_id"], ""))))
    columns.append(("truly on the front", ".2f", lambda row: chance.get(row["trial_id"])))
    shown = column_table(title, columns, rows, notes=(note, *attacked))
    return table_html(shown, row_class=[str(row["method"]) for row in rows])
