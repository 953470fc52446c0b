"""The report's section on the front: linked charts, its members, its growth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from html import escape
from typing import Any

from analysis.fronts.front import feasible, front_of, on_infeasible_front
from analysis.fronts.objectives import FRONT, infeasible
from analysis.material import Material
from analysis.method_styles import styles_for
from analysis.report.html import table_html
from analysis.statistics.intervals import accuracy_estimate
from analysis.tables.dominance import dominance_table
from analysis.tables.front_table import infeasible_note
from analysis.tables.text_table import TextTable
from analysis.wording import own_parameters

LIKELY = 0.1
"""Least probability for which a dominated trial is shown; lower if a member's own is lower."""

SHOWN = 20
"""Most dominated trials shown, and most infeasible ones."""

_GLYPHS = {
    "circle": "●", "square": "■", "diamond": "◆", "triangle-up": "▲", "triangle-down": "▼", "cross": "✚", "x": "✖",
    "star": "★", "pentagon": "⬟", "hexagon": "⬢", "triangle-left": "◀", "triangle-right": "▶",
}  # fmt: skip
"""The charts' shapes as characters, so that methods are distinguished by more than colour."""


def front_section(material: Material, /) -> list[str]:
    """Return the section: the choice of methods, the linked charts, the members, the hypervolume over time."""
    table = material.table
    counts = Counter(table["method"].to_pylist())
    boxes = "".join(
        f'<label><input type="checkbox" name="method" value="{place}" checked> '
        f'<span class="swatch" style="color:{style.colour}" aria-hidden="true">{_GLYPHS.get(style.symbol, "■")}</span> '
        f"{escape(style.label)} ({counts[method]})</label>"
        for place, (method, style) in enumerate(styles_for(counts).items())
    )
    members = front_of(table).to_pylist()
    options = "".join(f"<option>{escape(row['trial_id'])}</option>" for row in members)
    return [
        f"<fieldset><legend>Methods shown in all charts and tables</legend>{boxes}"
        '<span id="count" role="status" class="small"></span></fieldset>',
        '<p class="controls"><label>Colour <select id="colour"><option value="method">by method</option>'
        '<option value="lipschitz">by Lipschitzness</option></select></label>'
        '<label>Axes <select id="extent"><option value="near">near the front</option>'
        '<option value="all">all trials</option></select></label>'
        f'<label>Show front member <select id="member"><option>-</option>{options}</select></label></p>',
        '<div class="pair"><div id="flat" class="chart" tabindex="0" role="application" '
        'aria-label="Clean against robust accuracy; arrow keys move along the front, Enter opens a card"></div>'
        '<div id="solid" class="chart" role="img" aria-label="The same with Lipschitzness as third axis"></div></div>',
        '<p id="outside" class="note" role="status"></p>',
        '<div id="chosen" aria-live="polite"><p>Point at a trial, choose a front member, or move along the '
        "front with the arrow keys: it is marked in both charts.</p></div>",
        '<p class="note">Large, outlined: the front; faint: dominated; hollow: flagged, stopped early or infeasible, '
        "never on the front. The line bounds what the front attains"
        f"{', the dotted one the front of infeasible trials' if infeasible(table).any() else ''}; in space "
        "triangles are drawn as ◆, distinguished by colour.</p>",
        *_members(material, members),
        '<h3>Hypervolume over the study</h3><p class="controls"><label>Against <select id="against">'
        f'<option value="trials">trials</option><option value="hours">{material.unit}</option></select></label></p>'
        '<div id="growth" class="chart" role="img" aria-label="Hypervolume of the front after each trial"></div>',
        "<h3>Accuracy against the radius of the attack</h3>",
        '<div id="radii" class="chart" role="img" aria-label="Robust accuracy of front members over the radius"></div>',
        '<p class="note">Members of the front. Dotted: measured at 0 and at the study\'s own radius only, which is '
        "dashed. Grey, where the separation of the data set is known: the radii at which an accurate and robust "
        "classifier exists.</p>",
        '<h3>Best checkpoint against the last</h3><p class="controls"><label>Accuracy <select id="kind">'
        '<option value="robust">robust</option><option value="clean">clean</option></select></label></p>'
        '<div id="best" class="chart" role="img" aria-label="Best checkpoint over the last one"></div>'
        '<p class="note">Best: the measured epoch of highest robust accuracy on validation, so its own value is '
        "flattered; every other number of this page is the last checkpoint's.</p>",
    ]


_HEADINGS = (
    "trial", "method", "dropout", "strength", "train ε", "clean (val)", "robust (val)", "Lipschitz (val)",
    "truly on the front",
)  # fmt: skip
_FORMATS = ("", "", ".3f", "", ".4f", "", "", ".4g", ".2f")


def _members(material: Material, members: list[dict[str, Any]]) -> list[str]:
    """Return the front's members, the dominated trials that may be members, and the infeasible ones as tables."""
    table, chance = material.table, material.probabilities()
    ids = {row["trial_id"] for row in members}
    least = min([LIKELY, *(chance[trial] for trial in ids if trial in chance)])
    likely = sorted((trial for trial in chance.keys() - ids if chance[trial] >= least), key=lambda one: -chance[one])
    rows = {row["trial_id"]: row for row in table.filter(feasible(table)).to_pylist()}
    beside = [rows[trial] for trial in likely[:SHOWN]]
    more = f" {len(likely) - SHOWN} more are not shown." if len(likely) > SHOWN else ""
    apart = table.filter(on_infeasible_front(table)).sort_by([(FRONT[0], "descending")]).to_pylist()
    parts = [
        _trials(
            "Members of the front",
            members,
            chance,
            "95 % Wilson intervals of the examples. Last column: probability that no other trial truly dominates "
            "it, given the per-example outcomes (± 0.02 from sampling); empty without them.",
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


def _trials(title: str, rows: list[dict[str, Any]], chance: Mapping[str, float], note: str) -> str:
    cells = tuple(
        (
            row["trial_id"],
            row["method"],
            row.get("param.dropout"),
            own_parameters(row),
            row["train_epsilon"],
            str(accuracy_estimate(row["val_clean_accuracy"], row["examples"])),
            str(accuracy_estimate(row["val_robust_accuracy"], row["examples"])),
            row["val_lipschitz_mean"],
            chance.get(row["trial_id"]),
        )
        for row in rows
    )
    shown = TextTable(title=title, headings=_HEADINGS, formats=_FORMATS, rows=cells, notes=(note,))
    return table_html(shown, row_class=[str(row["method"]) for row in rows])
