"""The report: one self-contained HTML file about a study, its answer on the first screen, its evidence below."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from analysis.data.results import Table
from analysis.fronts.front import mixed_columns
from analysis.material import StudyMaterial
from analysis.report.answers import answers_section
from analysis.report.first_screen import first_screen
from analysis.report.front_section import front_section
from analysis.report.heldout_section import tested_lines, tested_section
from analysis.report.lipschitz_section import lipschitz_section
from analysis.report.parts.charts import chart_scripts, page_charts
from analysis.report.parts.html import bullets, document, paragraph, table_html
from analysis.report.parts.intervention_section import intervention_section
from analysis.report.parts.member_cards import Card, cards_section, member_cards, verdicts_line
from analysis.report.provenance_section import failures, provenance_section
from analysis.report.settings_section import settings_section
from analysis.report.summary import summary_lines
from analysis.tables.paper_table import paper_lines, paper_table
from analysis.tables.settings_table import setting_lines, settings_table
from analysis.wording import attack_effort, provenance, threat_model

_SECTIONS = {
    "answers": "Answers",
    "front": "Front",
    "lipschitz": "Lipschitzness",
    "intervention": "Intervention",
    "settings": "Hyperparameters",
    "test": "On test",
    "table": "Methods and dropout",
    "failures": "Flags and failures",
    "cards": "Evaluation cards",
    "provenance": "Provenance",
}


def build_report(material: StudyMaterial, /) -> str:
    """Return the page.

    Raises:
        MixedStudiesError: The rows differ in what they measure.
    """
    table, figures, cards = material.table, page_charts(material), member_cards(material)
    rows = {trial: row for row, trial in enumerate(table["trial_id"].to_pylist())}
    parts = {
        "answers": [*answers_section(material, cards, rows), "<h3>In words</h3>", bullets(_summary(material, cards))],
        "front": front_section(material, figures=figures),
        "lipschitz": lipschitz_section(material, figures=figures),
        "intervention": intervention_section(table, reference=material.reference),
        "settings": settings_section(material, figures=figures),
        "test": tested_section(material),
        "table": [_paper(table), *_seeds(table)],
        "failures": failures(table),
        "cards": cards_section(material, cards),
        "provenance": provenance_section(material),
    }
    opening = "\n".join([*_warning(material), first_screen(material, rows, figures=figures)])
    shown = [name for name in _SECTIONS if parts[name] or name != "intervention"]
    sections = {name: (_SECTIONS[name], _placed("\n".join(parts[name]), material)) for name in shown}
    return document(
        material.title,
        f"{provenance(table)} · threat model: {threat_model(table)}; attack: {attack_effort(table)}",
        sections,
        opening=opening,
        folded=set(_SECTIONS) - {"answers"},
        scripts=chart_scripts(material, figures),
    )


def _placed(text: str, material: StudyMaterial) -> str:
    """Return HTML whose commands name the study's folder, where there is one."""
    homes = list(material.homes.values())
    return text.replace("STUDY_DIR", escape(homes[0])) if len(homes) == 1 else text


def _warning(material: StudyMaterial) -> list[str]:
    mixed = mixed_columns(material.table)
    text = (
        f"Warning: these trials were measured differently ({', '.join(mixed)}) and were combined with --allow-mixed. "
        "Their numbers are not comparable."
    )
    return [paragraph(text)] if mixed else []


def _summary(material: StudyMaterial, cards: Sequence[Card]) -> list[str]:
    lines = summary_lines(material.table, belief=material.belief, reference=material.reference)
    return [*lines, *verdicts_line(material, cards), *tested_lines(material)]


def _paper(table: Table) -> str:
    return table_html(paper_table(table), row_class=[str(line.cells["method"]) for line in paper_lines(table)])


def _seeds(table: Table) -> list[str]:
    lines = [str(line.first["method"]) for line in setting_lines(table)]
    return [table_html(settings_table(table), row_class=lines)] if lines else []
