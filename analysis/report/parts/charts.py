"""The page's charts: figures made from what the printed ones show, as JSON in script elements, and their places."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from html import escape
from typing import Any

from analysis.fronts.growth import hypervolume_growth
from analysis.fronts.objectives import objective, values
from analysis.material import StudyMaterial
from analysis.method_styles import styles_for
from analysis.plots.networks.radii import radii_chart
from analysis.plots.screen import ON_DARK, get_plotlyjs, inside_script, shows_data
from analysis.plots.studies.progress import checkpoints_chart, growth_chart, last_is_best
from analysis.plots.trials.front_view import pareto_view
from analysis.plots.trials.interactive import Colour, front_chart, hover_texts, space_chart
from analysis.plots.trials.parallel import parallel_chart
from analysis.plots.trials.robust_lipschitz import robust_lipschitz_chart
from analysis.plots.trials.scatter import lipschitz_chart, robust_chart, slice_chart
from analysis.plots.trials.trial_points import trials_of
from analysis.report.parts.html import asset, paragraph
from analysis.statistics.hyperparameters import varying_settings

_COLOURS: tuple[Colour, ...] = ("lipschitz", "method")

_BESIDE = {"t": 30, "b": 75}
"""Margins of the two charts of the first screen, in pixels, so that their axes are level."""

LIPSCHITZ = "val_lipschitz_scale_free_log10"
"""Third axis of the front in space."""


def page_charts(material: StudyMaterial, /) -> dict[str, Any]:
    """Return the page's figures by the names of their charts; of a chart with a menu, by the menu's values.

    Figures without data are left out: the page says in a sentence what they would show.
    """
    return {name: figure for name, figure in _figures(material) if shows_data(figure)}


def _figures(material: StudyMaterial) -> Iterator[tuple[str, Any]]:
    table, reach = material.table, material.reach()
    view, trials = pareto_view(table, strong=material.strong, classifier=material.classifier), trials_of(table)
    for colour in _COLOURS:
        yield f"flat-{colour}", front_chart(view, colour=colour).update_layout(margin=_BESIDE)
    yield "robust", robust_chart(trials, view).update_layout(margin=_BESIDE)
    yield "solid", space_chart(view, values(table, [LIPSCHITZ])[:, 0], objective(LIPSCHITZ).label)
    growth = hypervolume_growth(table, reference=material.reference, devices=material.devices)
    yield "growth", growth_chart(growth, table, unit=material.unit)
    yield "radii", radii_chart(material.curves, table, reach=reach, classifier=material.classifier)
    if not last_is_best(table):
        yield "best", checkpoints_chart(trials)
    yield "smooth", lipschitz_chart(trials)
    yield "fronts", robust_lipschitz_chart(trials)
    for setting in varying_settings(table):
        yield f"slice-{setting.name}", slice_chart(trials, setting, reach=reach)
    yield "parallel", parallel_chart(trials)


def chart(name: str, label: str, /, *, figures: Collection[str], note: str = "", instead: str = "") -> list[str]:
    """Return a chart's place with its note, or without its figure a sentence, if there is one.

    Args:
        name: The chart.
        label: What it shows, for a screen reader.
        figures: Names of the page's figures.
        note: HTML below it.
        instead: What the page says where it has no such figure.
    """
    if name not in figures and not any(figure.startswith(f"{name}-") for figure in figures):
        return [paragraph(instead)] if instead else []
    place = f'<div id="{name}" class="chart" role="img" aria-label="{escape(label)}"></div>'
    return [f'<div class="scroll">{place}</div>', *([f'<p class="note">{note}</p>'] if note else [])]


def chart_scripts(material: StudyMaterial, figures: dict[str, Any], /) -> str:
    """Return the script elements at the page's end: the trials' labels, the figures, plotly's script, the page's own.

    The labels are there once, by row, and not in each figure that shows their trials.
    """
    labels = json.dumps(
        hover_texts(material.table, material.probabilities(), strong=material.strong), ensure_ascii=False
    )
    scripts = [_json("labels", inside_script(labels))]
    scripts += [_json("on-dark", json.dumps(on_dark(material.table["method"].to_pylist())))]
    scripts += [_json(f"figure-{name}", inside_script(figure.to_json())) for name, figure in figures.items()]
    return "\n".join([*scripts, f"<script>{get_plotlyjs()}</script>", f"<script>{asset('report.js')}</script>"])


def on_dark(methods: Iterable[str], /) -> dict[str, str]:
    """Return the charts' colours that a dark page would hide with their replacements, those of the methods too."""
    styles = styles_for(methods).values()
    full = {style.colour: style.on_dark for style in styles}
    return ON_DARK | full | {style.pale: style.pale_on_dark for style in styles}


def _json(name: str, text: str) -> str:
    return f'<script type="application/json" id="{escape(name)}">{text}</script>'
