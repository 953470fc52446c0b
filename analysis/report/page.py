"""The report: one HTML file about one study that opens without a network."""

from __future__ import annotations

from html import escape
from typing import Any

from analysis.paper_table import paper_lines, paper_table
from analysis.plots.interactive import plotly_script
from analysis.report.data import as_json, chart_data
from analysis.report.front import front_section
from analysis.report.html import paragraph, section, table_html
from analysis.report.lipschitz import lipschitz_section
from analysis.report.material import Material as Material
from analysis.report.panels import PANELS
from analysis.report.record import cards_section, failures, provenance_section
from analysis.report.script import BEHAVIOUR, SCRIPT
from analysis.report.settings import settings_section
from analysis.report.story import summary_lines
from analysis.report.style import CSS
from analysis.report.tested import tested_lines, tested_section
from analysis.results import Table
from analysis.wording import provenance

# Nothing may be fetched: the page's own policy forbids it. WebGL charts compile functions, hence eval.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval' blob:; "
    "img-src data: blob:; worker-src blob:"
)
_SECTIONS = {
    "summary": "Summary",
    "front": "Front",
    "test": "On test",
    "table": "Methods and dropout",
    "lipschitz": "Lipschitzness",
    "settings": "Hyperparameters",
    "failures": "Flags and failures",
    "cards": "Evaluation cards",
    "provenance": "Provenance",
}


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
            section("front", _SECTIONS["front"], *front_section(material)),
            section("test", _SECTIONS["test"], *tested_section(material)),
            section("table", _SECTIONS["table"], _paper(table)),
            section("lipschitz", _SECTIONS["lipschitz"], *lipschitz_section(material)),
            section("settings", _SECTIONS["settings"], *settings_section(material)),
            section("failures", _SECTIONS["failures"], *failures(table)),
            section("cards", _SECTIONS["cards"], *cards_section(material)),
            section("provenance", _SECTIONS["provenance"], *provenance_section(material)),
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
        f"{as_json(_charts(material))}</script>\n"
        f"<script>{plotly_script()}</script>\n<script>{SCRIPT}{PANELS}{BEHAVIOUR}</script></body></html>\n"
    )


def _charts(material: Material) -> dict[str, Any]:
    return chart_data(
        material.table,
        belief=material.belief,
        reference=material.reference,
        curves=material.curves,
        reach=material.reach(),
        devices=material.devices,
        unit=material.unit,
    )


def _summary(material: Material) -> list[str]:
    lines = summary_lines(material.table, belief=material.belief, reference=material.reference)
    return [*lines, *tested_lines(material)]


def _paper(table: Table) -> str:
    return table_html(paper_table(table), row_class=[line.method for line in paper_lines(table)])
