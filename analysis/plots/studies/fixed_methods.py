"""Curves of fixed methods: one setting swept, the others held, seeds as bands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.data.results import Table
from analysis.method_styles import MethodStyle, styles_for
from analysis.plots.figure import COLUMN_WIDTH, PaperFigure, add_small_print, blank, lines, paper_style, sample
from analysis.statistics.importance import setting_name
from analysis.statistics.sweeps import Sweep, sweeps_of
from analysis.wording import measured_by, provenance, radius

_FACES = ("full", "hollow", "pale")
"""The points' faces that tell curves apart whose other settings differ."""

HEADINGS = ("method", "setting", "held", "value", "trial_id", "clean_accuracy", "robust_accuracy")


def fixed_methods_sheet(table: Table, /, *, width: float = COLUMN_WIDTH) -> PaperFigure | None:
    """Return the figure; None where no method has settings that differ in one number alone.

    Each point is the mean of a setting's seeds; the band has their robust accuracies, the bars their clean ones, from
    the lowest to the highest.

    Args:
        table: Result rows.
        width: Inches.
    """
    sweeps = sweeps_of(table)
    if not sweeps:
        return None
    styles = styles_for(sweep.method for sweep in sweeps)
    with paper_style():
        held = sorted({sweep.held for sweep in sweeps})
        told_apart = len(held) <= len(_FACES)
        figure = blank(width, 0.6 * width + 0.6, legend=_legend(sweeps, held if told_apart else []))
        ax = figure.add_subplot()
        ax.grid(visible=True)
        for sweep in sweeps:
            face = _FACES[held.index(sweep.held)] if told_apart else "full"
            _draw(ax, sweep, styles[sweep.method], face=face, held="" if told_apart else sweep.held)
        ax.set_xlabel("clean accuracy (val)")
        ax.set_ylabel(lines(f"robust accuracy (val)\n{measured_by(table)}", 42))
        most = max(sweep.seeds for sweep in sweeps)
        bands = f"band and bars: range of up to {most} seeds" if most > 1 else "one seed each"
        add_small_print(figure, f"{provenance(table)} · {bands}")
    rows = tuple(
        (sweep.method, sweep.setting, sweep.held, value, trial, float(clean), float(robust))
        for sweep in sweeps
        for (value, accuracies), trials in zip(sweep.points, sweep.trials, strict=True)
        for trial, (clean, robust) in zip(trials, accuracies, strict=True)
    )
    return PaperFigure(name="fixed_methods", figure=figure, headings=HEADINGS, rows=rows)


def _draw(ax: Axes, sweep: Sweep, style: MethodStyle, *, face: str, held: str) -> None:
    means = np.array([accuracies.mean(axis=0) for _, accuracies in sweep.points])
    low = np.array([accuracies.min(axis=0) for _, accuracies in sweep.points])
    high = np.array([accuracies.max(axis=0) for _, accuracies in sweep.points])
    if sweep.seeds > 1:
        across = np.concatenate([means[:, 0], means[::-1, 0]])
        band = np.concatenate([low[:, 1], high[::-1, 1]])
        ax.fill(across, band, color=style.colour, alpha=0.18, linewidth=0, zorder=1, gid="band")
        ax.hlines(means[:, 1], low[:, 0], high[:, 0], color=style.colour, linewidth=0.6, zorder=2)
    faces = {"full": style.colour, "hollow": "white", "pale": style.pale}
    look = {"color": style.colour, "linestyle": style.line, "linewidth": 1.0, "marker": style.marker, "markersize": 4.0}
    ax.plot(*means.T, gid="sweep", zorder=3, markerfacecolor=faces[face], markeredgewidth=0.6, **look)
    for place, more in ((0, ""), (len(means) - 1, held)):
        value = sweep.points[place][0]
        text = radius(value) if sweep.setting == "train_epsilon" else f"{value:.3g}"
        text = f"{text}, {more}" if more else text
        ax.annotate(text, means[place], xytext=(3, 3), textcoords="offset points", fontsize=5, color=style.colour)


def _legend(sweeps: Sequence[Sweep], held: Sequence[str]) -> list[Line2D]:
    handles = []
    for method, style in styles_for(sweep.method for sweep in sweeps).items():
        settings = dict.fromkeys(setting_name(sweep.setting) for sweep in sweeps if sweep.method == method)
        look = {"color": style.colour, "linestyle": style.line, "linewidth": 1.0, "markersize": 3.5}
        handles.append(sample(style.marker, f"{style.label} over {', '.join(settings)}", **look))
    if len(held) > 1:
        for face, text in zip(_FACES, held, strict=False):
            fill = {"full": "0.3", "hollow": "white", "pale": "0.75"}[face]
            look = {"markerfacecolor": fill, "markeredgecolor": "0.3", "markersize": 4.0}
            handles.append(sample("o", f"{face}: {text}", **look))
    return handles
