"""The page's charts: figures made from what the printed ones show, as JSON in script elements."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from analysis.fronts.growth import hypervolume_growth
from analysis.fronts.objectives import objective, values
from analysis.material import StudyMaterial
from analysis.plots.networks.radii import radii_chart
from analysis.plots.screen import get_plotlyjs, inside_script
from analysis.plots.studies.progress import checkpoints_chart, growth_chart
from analysis.plots.trials.front_view import pareto_view
from analysis.plots.trials.interactive import front_chart, hover_texts, space_chart
from analysis.plots.trials.parallel import parallel_chart
from analysis.plots.trials.robust_lipschitz import robust_lipschitz_chart
from analysis.plots.trials.scatter import lipschitz_chart, slice_chart
from analysis.plots.trials.trial_points import trials_of
from analysis.report.html import asset
from analysis.statistics.hyperparameters import varying_settings

LIPSCHITZ = "val_lipschitz_scale_free_log10"
"""Third axis of the front in space."""


def page_charts(material: StudyMaterial, /) -> Iterator[tuple[str, Any]]:
    """Yield the page's figures by the names of their charts; of a chart with a menu, by the menu's values."""
    table, reach = material.table, material.reach()
    view, trials = pareto_view(table, strong=material.strong, classifier=material.classifier), trials_of(table)
    yield "flat-method", front_chart(view, colour="method")
    yield "flat-lipschitz", front_chart(view)
    yield "solid", space_chart(view, values(table, [LIPSCHITZ])[:, 0], objective(LIPSCHITZ).label)
    growth = hypervolume_growth(table, reference=material.reference, devices=material.devices)
    yield "growth", growth_chart(growth, table, unit=material.unit)
    yield "radii", radii_chart(material.curves, table, reach=reach, classifier=material.classifier)
    yield "best", checkpoints_chart(trials)
    yield "smooth", lipschitz_chart(trials)
    yield "fronts", robust_lipschitz_chart(trials)
    for setting in varying_settings(table):
        yield f"slice-{setting.name}", slice_chart(trials, setting, reach=reach)
    yield "parallel", parallel_chart(trials)


def chart_scripts(material: StudyMaterial, /) -> str:
    """Return the script elements at the page's end: the trials' labels, the figures, plotly's script, the page's own.

    The labels are there once, by row, and not in each figure that shows their trials.
    """
    labels = json.dumps(
        hover_texts(material.table, material.probabilities(), strong=material.strong), ensure_ascii=False
    )
    scripts = [_json("labels", inside_script(labels))]
    scripts += [_json(f"figure-{name}", inside_script(figure.to_json())) for name, figure in page_charts(material)]
    return "\n".join([*scripts, f"<script>{get_plotlyjs()}</script>", f"<script>{asset('report.js')}</script>"])


def _json(name: str, text: str) -> str:
    return f'<script type="application/json" id="{escape(name)}">{text}</script>'
