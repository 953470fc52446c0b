"""The report: one self-contained HTML file about a study."""

from __future__ import annotations

from analysis.data.results import Table
from analysis.fronts.front import mixed_columns
from analysis.material import Material as Material
from analysis.plots.trials.interactive import plotly_script
from analysis.report.chart_data import as_json, chart_data
from analysis.report.front_section import front_section
from analysis.report.heldout_section import tested_lines, tested_section
from analysis.report.html import asset, document, paragraph, table_html
from analysis.report.lipschitz_section import lipschitz_section
from analysis.report.provenance_section import cards_section, failures, provenance_section
from analysis.report.settings_section import settings_section
from analysis.report.summary import summary_lines
from analysis.tables.paper_table import paper_lines, paper_table
from analysis.wording import provenance

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
    parts = {
        "summary": map(paragraph, _summary(material)),
        "front": front_section(material),
        "test": tested_section(material),
        "table": [_paper(table)],
        "lipschitz": lipschitz_section(material),
        "settings": settings_section(material),
        "failures": failures(table),
        "cards": cards_section(material),
        "provenance": provenance_section(material),
    }
    data = chart_data(
        table,
        belief=material.belief,
        reference=material.reference,
        curves=material.curves,
        reach=material.reach(),
        devices=material.devices,
        unit=material.unit,
    )
    scripts = (
        f'<script type="application/json" id="data">{as_json(data)}</script>\n'
        f"<script>{plotly_script()}</script>\n<script>{asset('report.js')}</script>"
    )
    sections = {name: (title, "\n".join(parts[name])) for name, title in _SECTIONS.items()}
    return document(material.title, provenance(table), sections, scripts=scripts)


def _summary(material: Material) -> list[str]:
    lines = summary_lines(material.table, belief=material.belief, reference=material.reference)
    if mixed := mixed_columns(material.table):
        lines = [
            f"Warning: these trials were measured differently ({', '.join(mixed)}) and were combined with "
            "--allow-mixed. Their numbers are not comparable.",
            *lines,
        ]
    return [*lines, *tested_lines(material)]


def _paper(table: Table) -> str:
    return table_html(paper_table(table), row_class=[str(line.cells["method"]) for line in paper_lines(table)])
