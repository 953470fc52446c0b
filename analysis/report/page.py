"""The report: one self-contained HTML file about a study."""

from __future__ import annotations

from analysis.data.results import Table
from analysis.fronts.front import mixed_columns
from analysis.material import StudyMaterial
from analysis.report.charts import chart_scripts
from analysis.report.front_section import front_section
from analysis.report.heldout_section import tested_lines, tested_section
from analysis.report.html import document, paragraph, table_html
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


def build_report(material: StudyMaterial, /) -> str:
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
    sections = {name: (title, "\n".join(parts[name])) for name, title in _SECTIONS.items()}
    return document(material.title, provenance(table), sections, scripts=chart_scripts(material))


def _summary(material: StudyMaterial) -> list[str]:
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
