"""The report's first screen: the study's numbers, the choice of methods, and the two charts that show one study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from html import escape

import numpy as np

from analysis.fronts.front import front_of
from analysis.fronts.objectives import FRONT, infeasible, values
from analysis.material import StudyMaterial
from analysis.method_styles import styles_for
from analysis.plots.marks import mark_svg
from analysis.plots.trials.front_view import pareto_view
from analysis.plots.trials.trial_points import MOST_POINTS
from analysis.report.key_numbers import KeyNumber, key_numbers, member_note
from analysis.report.parts.html import paragraph
from analysis.wording import why_no_front


def first_screen(material: StudyMaterial, rows: Mapping[str, int], /, *, figures: Collection[str]) -> str:
    """Return the HTML of the first screen.

    Args:
        material: What is known of the study.
        rows: The place of each trial in the table, by id.
        figures: Names of the page's figures.
    """
    tiles = "".join(map(_tile, key_numbers(material)))
    return "\n".join(
        [
            f'<dl class="numbers">{tiles}</dl>',
            _methods(material),
            *(_charts(material, rows, figures) if "flat-lipschitz" in figures else _no_charts(material)),
        ]
    )


def _tile(number: KeyNumber) -> str:
    floor = (
        ""
        if number.floor is None
        else f' <input id="floor" type="number" min="0" max="1" step="0.01" value="{number.floor:.2f}" '
        f'aria-label="Least clean accuracy" autocomplete="off"><span class="paper">{number.floor:.2f}</span>'
    )
    marks = (' id="at-floor"', ' id="at-floor-note"') if floor else ("", "")
    return (
        f"<div><dt>{escape(number.label)}{floor}</dt><dd{marks[0]}>{escape(number.value)}</dd>"
        f'<dd class="small"{marks[1]}>{escape(number.note)}</dd></div>'
    )


def _methods(material: StudyMaterial) -> str:
    """Return the legend of the page: a box for each method that hides or shows it, its mark and its short name."""
    methods, drawn = material.table["method"].to_pylist(), _measured(material)
    counts, measured = Counter(methods), Counter(np.asarray(methods, dtype=object)[drawn].tolist())
    styles = styles_for(counts)
    boxes = "".join(
        f'<label><input type="checkbox" name="method" value="{escape(method)}" data-measured="{measured[method]}" '
        f'autocomplete="off" checked> <span class="swatch" style="--light:{style.colour};--dark:{style.on_dark}" '
        f'aria-hidden="true">{mark_svg(style)}</span> {escape(style.label)} ({counts[method]})</label>'
        for method, style in styles.items()
    )
    names = ", ".join(f"{style.label}: {method}" for method, style in styles.items() if style.label != method)
    full = f'<p class="note">{escape(names)}</p>' if names else ""
    total = drawn.sum()
    return (
        f'<fieldset><legend>Methods shown in all charts and tables</legend>{boxes}<span role="status" class="small">'
        f'<span id="count">{total}</span> of {total} measured trials shown.</span> <span class="small">The front, '
        f"correlations and answers are always those of all methods.</span>{full}</fieldset>"
    )


def _measured(material: StudyMaterial) -> np.ndarray:
    return np.asarray(np.isfinite(values(material.table, FRONT)).all(axis=1))


def _charts(material: StudyMaterial, rows: Mapping[str, int], figures: Collection[str]) -> list[str]:
    options = "".join(
        f'<option value="{rows[row["trial_id"]]}" data-card="card-{escape(row["trial_id"])}" '
        f'data-method="{escape(row["method"])}" data-clean="{row[FRONT[0]]}" data-robust="{row[FRONT[1]]}" '
        f'data-note="{escape(member_note(row))}">{escape(row["trial_id"])}</option>'
        for row in front_of(material.table).to_pylist()
    )
    beside = (
        '<div id="robust" class="chart" role="img" aria-label="Robust accuracy against local Lipschitzness"></div>'
        if "robust" in figures
        else paragraph("Lipschitzness was not measured (evaluation.lipschitz), so nothing is drawn against it.")
    )
    thinned = f"; beside the front at most {MOST_POINTS} trials, evenly thinned" if len(rows) > MOST_POINTS else ""
    solid = " solid" if "solid" in figures else ""
    return [
        '<p class="controls"><label>Colour of the front <select id="colour" data-charts="flat">'
        '<option value="flat-lipschitz">by Lipschitzness</option><option value="flat-method">by method</option>'
        f'</select></label> <label>Axes <select id="extent" data-charts="flat robust{solid}"><option value="near">near '
        'the front</option><option value="all">all trials</option></select></label> '
        f'<label>Front member <select id="member"><option value="">-</option>{options}</select></label></p>',
        '<div class="pair"><div id="flat" class="chart" tabindex="0" role="application" '
        'aria-label="Clean against robust accuracy; arrow keys move along the front, Enter opens a card"></div>'
        f"{beside}</div>",
        *_outside(pareto_view(material.table).outside),
        '<div id="chosen" aria-live="polite"><p>Point at a trial, choose a front member, or move along the '
        "front with the arrow keys: it is marked in both charts.</p></div>",
        '<p class="note">Left: large, outlined, numbered: the front; small: dominated; hollow: flagged, stopped early '
        "or infeasible, never on the front; red: what strong attacks leave of a member, with a cross where they cast "
        "doubt on it. The line bounds what the front attains, a star is the theorem's classifier where it is measured"
        f"{', the dotted one the front of infeasible trials' if infeasible(material.table).any() else ''}. Right: "
        f"ringed: the front; full: proposals that did not depend on results; pale: the sampler's own{thinned}.</p>",
    ]


def _outside(count: int) -> list[str]:
    if not count:
        return []
    lie = "1 trial lies" if count == 1 else f"{count} trials lie"
    note = f"{lie} far behind the front, outside the axes: “all trials” above or a double click shows them."
    return [f'<p id="outside" class="note">{note}</p>']


def _no_charts(material: StudyMaterial) -> list[str]:
    reason = why_no_front(material.table)
    return [paragraph(f"{reason[0].upper()}{reason[1:]}: nothing is drawn.")]
