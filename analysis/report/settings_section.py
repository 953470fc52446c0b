"""The report's section on hyperparameters: importance, slices, parallel coordinates."""

from __future__ import annotations

from collections.abc import Collection
from html import escape

import numpy as np

from analysis.fronts.distance import front_distance
from analysis.fronts.objectives import objective
from analysis.material import StudyMaterial
from analysis.plots.trials.parallel import MOST_ON_SCREEN
from analysis.report.answers import NO_IMPORTANCE
from analysis.report.parts.charts import chart
from analysis.report.parts.html import bars, paragraph, table_html
from analysis.statistics.association import independent
from analysis.statistics.hyperparameters import varying_settings
from analysis.statistics.importance import LEAST, setting_name
from analysis.tables.importance import within_table

_EXPLANATION = (
    "Main effects as shares of the variance that a random forest fitted to the trials predicts (fANOVA), of "
    "hyperparameters that all methods have. Interactions are not shown, and a forest fits noise too: a "
    "share is not evidence of an effect."
)


_NEAR = (
    "The distance is that to the nearest member: the length of what a trial falls short of it in both accuracies, each "
    "in units of the range that the front spans. Only trials proposed independently of results are used."
)


def settings_section(material: StudyMaterial, /, *, figures: Collection[str]) -> list[str]:
    """Return the section's parts.

    Args:
        material: What is known of the study.
        figures: Names of the page's figures.
    """
    parts = []
    for name, shares in material.importance.items():
        entry = objective(name)
        parts.append(f"<h3>Importance for {escape(entry.label)} ({entry.split})</h3>")
        parts.append(bars({setting_name(setting): share for setting, share in shares.items()}))
    if not parts:
        parts = [paragraph(NO_IMPORTANCE)]
    else:
        sample = material.importance_sample
        parts.append(paragraph(_EXPLANATION + (f" From {sample}." if sample else "")))
    if material.near_front:
        parts.append("<h3>Importance for being near the front</h3>")
        for label, shares in material.near_front.items():
            parts += [
                paragraph(label[0].upper() + label[1:]),
                bars({setting_name(setting): share for setting, share in shares.items()}),
            ]
        parts.append(paragraph(_NEAR))
    elif material.importance:
        table = material.table
        share = int((np.isfinite(front_distance(table)) & independent(table)).sum())
        parts.append(
            paragraph(
                f"Importance for being near the front needs {LEAST} sound trials proposed independently of results, "
                f"feasible and measured in both accuracies; this study has {share}."
                if share < LEAST
                else f"The {share} trials that were proposed independently of results are equally near the front, so "
                "no importance for that is shown."
            )
        )
    if material.importance_within:
        table, methods = within_table(material.importance_within)
        shown = (
            table_html(table, caption=False, row_class=methods)
            if methods
            else paragraph(f"There are {table.notes[-1]}.")
        )
        parts += ["<h3>Importance within each method</h3>", shown]
    return [
        *parts,
        *_slices(material, figures),
        "<h3>Parallel coordinates</h3>",
        *chart(
            "parallel",
            "Settings and outcomes",
            figures=figures,
            note="A line for each sound trial, coloured by robust accuracy; where a trial has no such setting it "
            "passes below the axis, at none. Axes can be brushed and moved. The front and at most "
            f"{MOST_ON_SCREEN} other trials are drawn, evenly thinned.",
            instead="There is no sound trial to draw.",
        ),
    ]


def _slices(material: StudyMaterial, figures: Collection[str]) -> list[str]:
    options = "".join(
        f'<option value="slice-{escape(setting.name)}">{escape(setting.label)}</option>'
        for setting in varying_settings(material.table)
        if f"slice-{setting.name}" in figures
    )
    if not options:
        return ["<h3>Slices</h3>", paragraph("No setting varies among the measured trials.")]
    return [
        '<h3>Slices</h3><p class="controls"><label>Setting <select id="parameter" data-charts="slice">'
        f"{options}</select></label></p>",
        *chart("slice", "Accuracies and Lipschitzness over one setting", figures=figures),
    ]
