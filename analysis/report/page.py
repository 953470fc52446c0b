"""The report: one HTML file about one study that opens without a network."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape

from analysis.association import (
    Association,
    Row,
    dropout_effects,
    lipschitz_associations,
    random_share,
)
from analysis.beliefs import FrontBelief
from analysis.fronts import front_of
from analysis.paper_table import accuracy_estimate, paper_lines, paper_table
from analysis.plots.interactive import plotly_script
from analysis.plots.style import styles_for
from analysis.report.card import card, card_html
from analysis.report.data import as_json, chart_data
from analysis.report.html import bars, bullets, paragraph, section, table_html
from analysis.report.script import SCRIPT
from analysis.report.story import summary_lines
from analysis.report.style import CSS
from analysis.results import Table
from analysis.tables import TextTable
from analysis.wording import own_parameters, provenance, radius

CARDS = 40
"""Most evaluation cards on the page: the front's members, best clean accuracy first."""

# Nothing may be fetched: the page's own policy forbids it. WebGL charts compile functions, hence eval.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval' blob:; "
    "img-src data: blob:; worker-src blob:"
)
_SECTIONS = {
    "summary": "Summary",
    "front": "Front",
    "table": "Methods and dropout",
    "lipschitz": "Lipschitzness",
    "settings": "Hyperparameters",
    "failures": "Flags and failures",
    "cards": "Evaluation cards",
    "provenance": "Provenance",
}


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a report is made of.

    Args:
        title: The study's name.
        table: Its result rows.
        config: Its config as YAML, empty where unknown.
        belief: What the per-example outcomes say of the front.
        importance: Shares by objective and hyperparameter.
        reference: Reference values of the hypervolume, by objective.
        separation: Distances of the data set, rows of the separation schema.
        notes: Further lines for the provenance.
    """

    title: str
    table: Table
    config: str = ""
    belief: FrontBelief | None = None
    importance: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    reference: Mapping[str, float] | None = None
    separation: Table | None = None
    notes: tuple[str, ...] = ()


def build_report(material: Material, /) -> str:
    """Return the page.

    Raises:
        MixedStudiesError: The rows differ in what they measure.
    """
    table = material.table
    links = "".join(f'<li><a href="#{name}">{escape(title)}</a></li>' for name, title in _SECTIONS.items())
    body = "\n".join(
        [
            section("summary", _SECTIONS["summary"], *map(paragraph, _summary(material))),
            section("front", _SECTIONS["front"], *_front(material)),
            section("table", _SECTIONS["table"], _paper(table)),
            section("lipschitz", _SECTIONS["lipschitz"], *_lipschitz(material)),
            section("settings", _SECTIONS["settings"], *_settings(material)),
            section("failures", _SECTIONS["failures"], *_failures(table)),
            section("cards", _SECTIONS["cards"], *_cards(material)),
            section("provenance", _SECTIONS["provenance"], *_provenance(material)),
        ]
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(material.title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{CSS}</style></head>\n<body>"
        f'<a class="skip" href="#summary">Skip to the summary</a><h1>{escape(material.title)}</h1>'
        f'<p class="small">{escape(provenance(table))}</p><nav aria-label="Sections"><ul>{links}</ul></nav>\n'
        f"<main>{body}</main>\n"
        f'<script type="application/json" id="data">'
        f"{as_json(chart_data(table, belief=material.belief, reference=material.reference))}</script>\n"
        f"<script>{plotly_script()}</script>\n<script>{SCRIPT}</script></body></html>\n"
    )


def _summary(material: Material) -> list[str]:
    return summary_lines(material.table, belief=material.belief, reference=material.reference)


def _front(material: Material) -> list[str]:
    table = material.table
    counts = Counter(table["method"].to_pylist())
    boxes = "".join(
        f'<label><input type="checkbox" name="method" value="{place}" checked> '
        f'<span class="swatch" style="color:{style.colour}">■</span> {escape(style.label)} ({counts[method]})</label>'
        for place, (method, style) in enumerate(styles_for(counts).items())
    )
    members = front_of(table).to_pylist()
    options = "".join(f"<option>{escape(row['trial_id'])}</option>" for row in members)
    return [
        f"<fieldset><legend>Methods shown in all charts and tables</legend>{boxes}"
        '<span id="count" role="status" class="small"></span></fieldset>',
        '<p class="controls"><label>Colour <select id="colour"><option value="method">by method</option>'
        '<option value="lipschitz">by Lipschitzness</option></select></label>'
        f'<label>Show front member <select id="member"><option>-</option>{options}</select></label></p>',
        '<div class="pair"><div id="flat" class="chart" role="img" aria-label="Clean against robust accuracy"></div>'
        '<div id="solid" class="chart" role="img" aria-label="The same with Lipschitzness as third axis"></div></div>',
        '<div id="chosen" aria-live="polite">Point at a trial, or choose a front member: it is marked in both charts.'
        "</div>",
        '<p class="note">Large, outlined: the front; faint: dominated; hollow: flagged, stopped early or infeasible, '
        "never on the front. The line bounds what the front attains.</p>",
        _members(material, members),
        '<h3>Hypervolume as the study went on</h3><p class="controls"><label>Against <select id="against">'
        '<option value="trials">trials</option><option value="hours">worker-hours</option></select></label></p>'
        '<div id="growth" class="chart" role="img" aria-label="Hypervolume of the front after each trial"></div>',
    ]


def _members(material: Material, members: list[dict[str, object]]) -> str:
    chance = (
        {} if material.belief is None else dict(zip(material.belief.trials, material.belief.probability, strict=True))
    )
    rows = tuple(
        (
            row["trial_id"],
            row["method"],
            row.get("param.dropout"),
            own_parameters(row),
            row["train_epsilon"],
            str(accuracy_estimate(row["val_clean_accuracy"], row["examples"])),  # type: ignore[arg-type]
            str(accuracy_estimate(row["val_robust_accuracy"], row["examples"])),  # type: ignore[arg-type]
            row["val_lipschitz_mean"],
            float(chance[row["trial_id"]]) if row["trial_id"] in chance else None,
        )
        for row in members
    )
    headings = ("trial", "method", "dropout", "strength", "train ε", "clean (val)", "robust (val)", "Lipschitz (val)")
    shown = TextTable(
        title="Members of the front",
        headings=(*headings, "truly on the front"),
        formats=("", "", ".3f", "", ".4f", "", "", ".4g", ".2f"),
        rows=rows,  # type: ignore[arg-type]
        notes=("95 % Wilson intervals of the examples. Last column: probability that no other trial truly dominates "
               "it, given the per-example outcomes; empty without them.",),
    )  # fmt: skip
    return table_html(shown, row_class=[str(row["method"]) for row in members])


def _chances(material: Material) -> dict[str, float]:
    """Return the probabilities to be truly on the front by trial, empty without per-example outcomes."""
    belief = material.belief
    return {} if belief is None else dict(zip(belief.trials, belief.probability.tolist(), strict=True))


def _paper(table: Table) -> str:
    return table_html(paper_table(table), row_class=[line.method for line in paper_lines(table)])


def _lipschitz(material: Material) -> list[str]:
    share = random_share(material.table)
    text = (
        f"Of {material.table.num_rows} trials {share.num_rows} sound ones were proposed independently of results; only "
        "they enter here. Spearman's rank correlations with 95 % intervals (Bonett and Wright); “within method” takes "
        "each method's mean rank out. Association, not cause."
    )
    if not share.num_rows:
        text = (
            "No sound trial was proposed independently of results (search.random_fraction), so nothing is said here: "
            "where a sampler follows the outcome, settings and outcomes go together by themselves."
        )
        return [paragraph(text), *_separation(material)]
    return [
        paragraph(text),
        _associations("Local Lipschitzness and …", lipschitz_associations(share), "rank correlation"),
        _associations("What 0.1 more dropout goes with", dropout_effects(share), "change of the outcome"),
        paragraph(
            "Slopes by least squares with a level for each method and HC3 intervals; “at matched Lipschitzness” the "
            "line also takes log10 of the scale-free estimate, straight and squared."
        ),
        *_separation(material),
    ]


def _associations(title: str, rows: list[Row], unit: str) -> str:
    def shown(found: Association | None) -> str:
        return "" if found is None else f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"

    cells = tuple(
        (row.of, row.outcome, row.among, shown(row.found), row.found.n if row.found else None) for row in rows
    )
    headings = ("of", "with", "among", unit, "n")
    return table_html(TextTable(title=title, headings=headings, formats=("", "", "", "", "d"), rows=cells))


def _separation(material: Material) -> list[str]:
    radii = sorted(set(material.table["eval_epsilon"].to_pylist()))
    if material.separation is None or not material.separation.num_rows or not radii:
        return [
            paragraph(
                "The separation of the data set is not in this folder: `robust-study separation` measures 2r, and up "
                "to the radius r a classifier that is accurate and robust (and smooth) exists."
            )
        ]
    known = [value for value in material.separation["distance"].to_pylist() if value is not None]
    r = min(known) / 2
    side = "inside" if radii[-1] < r else "outside"
    return [
        paragraph(
            f"Separation of the data set: 2r = {2 * r:.4g}. Up to radius r = {r:.4g} a classifier that is accurate, "
            f"robust and smooth exists; this study's radius {radius(radii[-1])} lies {side} that reach."
        )
    ]


def _settings(material: Material) -> list[str]:
    found = []
    for name, shares in material.importance.items():
        found += [f"<h3>Importance for {escape(name)}</h3>", bars(dict(shares))]
    if not found:
        found = [paragraph("Importance is not given: too few sound trials, or nothing that varies.")]
    else:
        found.append(paragraph("Shares of variance explained (fANOVA), of hyperparameters that all methods have."))
    return [
        *found,
        '<h3>Slices</h3><p class="controls"><label>Setting <select id="parameter"></select></label>'
        '<label>Outcome <select id="outcome"><option value="y">robust accuracy</option><option value="x">clean accuracy'
        '</option><option value="z">Lipschitzness</option></select></label></p>'
        '<div id="slice" class="chart" role="img" aria-label="Outcome over one setting"></div>'
        '<h3>Parallel coordinates</h3><div id="parallel" class="chart" role="img" aria-label="Settings and outcomes">'
        "</div>",
    ]


def _failures(table: Table) -> list[str]:
    rows = table.select(["method", "status", "reason", "flags"]).to_pylist()
    methods = sorted({row["method"] for row in rows})
    cells = tuple(
        (
            method,
            *(sum(row["method"] == method and row["status"] == status for row in rows) for status in _STATUSES),
            sum(row["method"] == method and row["status"] == "completed" and bool(row["flags"]) for row in rows),
        )
        for method in methods
    )
    reasons = Counter(f"{row['method']}: {row['reason']}" for row in rows if row["status"] == "failed")
    flags = Counter(flag for row in rows for flag in row["flags"])
    counts = TextTable(
        title="How trials ended",
        headings=("method", "completed", "stopped early", "failed", "flagged"),
        formats=("", "d", "d", "d", "d"),
        rows=cells,
    )
    return [
        table_html(counts, row_class=methods),
        bullets([f"{number} failed, {reason}" for reason, number in reasons.most_common(20)]),
        bullets([f"{number} flagged {flag}" for flag, number in flags.most_common()]),
    ]


_STATUSES = ("completed", "stopped_early", "failed")


def _cards(material: Material) -> list[str]:
    members = front_of(material.table).to_pylist()
    chance = (
        {} if material.belief is None else dict(zip(material.belief.trials, material.belief.probability, strict=True))
    )
    first_numbers = {row["replicate_of"] if row["replicate_of"] is not None else row["number"] for row in members}
    seeds: dict[int, list[dict[str, object]]] = {}
    for row in material.table.select(
        ["number", "replicate_of", "trial_id", "val_robust_accuracy", "status"]
    ).to_pylist():
        group = row["replicate_of"] if row["replicate_of"] is not None else row["number"]
        if group in first_numbers and row["status"] == "completed":
            seeds.setdefault(group, []).append(row)
    cards = []
    for row in members[:CARDS]:
        group = row["replicate_of"] if row["replicate_of"] is not None else row["number"]
        others = [other for other in seeds.get(group, []) if other["trial_id"] != row["trial_id"]]
        probability = chance.get(row["trial_id"])
        answers = card(row, replicates=others, probability=None if probability is None else float(probability))
        cards.append(card_html(row, answers))
    more = [paragraph(f"{len(members) - CARDS} more members have no card here.")] if len(members) > CARDS else []
    return [
        paragraph("✓ answered by the rows; ! answered, but against the claim; ? open: somebody must say."),
        *cards,
        *more,
    ]


def _provenance(material: Material) -> list[str]:
    table = material.table
    versions = Counter(text for text in table["versions"].to_pylist() if text)
    lines = [
        f"{name.replace('_', ' ')}: {', '.join(sorted(set(map(str, known))))}"
        for name in ("code_revision", "device", "host", "split_hash", "craft_mode")
        if (known := table[name].drop_null().to_pylist())
    ]
    seconds = sum(table["seconds"].drop_null().to_pylist())
    lines.append(f"worker-hours of all trials: {seconds / 3600:.2f}")
    lines += [f"versions ({number} trials): {_versions(text)}" for text, number in versions.most_common(5)]
    config = f"<h3>Config</h3><pre>{escape(material.config)}</pre>" if material.config else ""
    return [bullets([*lines, *material.notes]), config]


def _versions(text: str) -> str:
    return ", ".join(f"{name} {version}" for name, version in json.loads(text).items())
