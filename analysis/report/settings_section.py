"""The report's section on hyperparameters: importance, slices, parallel coordinates."""

from __future__ import annotations

from html import escape

from analysis.fronts.objectives import objective
from analysis.material import StudyMaterial
from analysis.report.html import bars, paragraph, table_html
from analysis.statistics.hyperparameters import varying_settings
from analysis.statistics.importance import setting_name
from analysis.tables.importance import within_table

_EXPLANATION = (
    "Main effects as shares of the variance that a random forest fitted to the trials predicts (fANOVA), of "
    "hyperparameters that all methods have. Interactions are not shown, and a forest fits noise too: a "
    "share is not evidence of an effect."
)


def settings_section(material: StudyMaterial, /) -> list[str]:
    """Return the section's parts."""
    parts = []
    for name, shares in material.importance.items():
        entry = objective(name)
        parts.append(f"<h3>Importance for {escape(entry.label)} ({entry.split})</h3>")
        parts.append(bars({setting_name(setting): share for setting, share in shares.items()}))
    if not parts:
        parts = [paragraph("Importance is not reported: too few sound trials, or no hyperparameter that varies.")]
    else:
        sample = material.importance_sample
        parts.append(paragraph(_EXPLANATION + (f" {sample[0].upper()}{sample[1:]}." if sample else "")))
    if material.importance_within:
        table, methods = within_table(material.importance_within)
        shown = table_html(table, caption=False, row_class=methods) if methods else paragraph(f"{table.notes[-1]}.")
        parts += ["<h3>Importance within each method</h3>", shown]
    return [
        *parts,
        *_slices(material),
        '<h3>Parallel coordinates</h3><div id="parallel" class="chart" role="img" aria-label="Settings and outcomes">'
        "</div>",
    ]


def _slices(material: StudyMaterial) -> list[str]:
    options = "".join(
        f'<option value="slice-{escape(setting.name)}">{escape(setting.label)}</option>'
        for setting in varying_settings(material.table)
    )
    if not options:
        return ["<h3>Slices</h3>", paragraph("Nothing varies.")]
    return [
        '<h3>Slices</h3><p class="controls"><label>Setting <select id="parameter" data-charts="slice">'
        f"{options}</select></label></p>"
        '<div id="slice" class="chart" role="img" aria-label="Accuracies and Lipschitzness over one setting"></div>',
    ]
