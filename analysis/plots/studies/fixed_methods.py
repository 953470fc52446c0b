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
        figure = blank(width, 0.6 * width + 0.6, legend=_legend(sweeps))
        ax = figure.add_subplot()
        ax.grid(visible=True)
        for sweep in sweeps:
            several = sum(other.method == sweep.method for other in sweeps) > 1
            _draw(ax, sweep, styles[sweep.method], held=sweep.held if several else "")
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


def _draw(ax: Axes, sweep: Sweep, style: MethodStyle, *, held: str) -> None:
    means = np.array([accuracies.mean(axis=0) for _, accuracies in sweep.points])
    low = np.array([accuracies.min(axis=0) for _, accuracies in sweep.points])
    high = np.array([accuracies.max(axis=0) for _, accuracies in sweep.points])
    if sweep.seeds > 1:
        across = np.concatenate([means[:, 0], means[::-1, 0]])
        band = np.concatenate([low[:, 1], high[::-1, 1]])
        ax.fill(across, band, color=style.colour, alpha=0.18, linewidth=0, zorder=1, gid="band")
        ax.hlines(means[:, 1], low[:, 0], high[:, 0], color=style.colour, linewidth=0.6, zorder=2)
    look = {"color": style.colour, "linestyle": style.line, "linewidth": 1.0, "marker": style.marker, "markersize": 3.5}
    ax.plot(*means.T, gid="sweep", zorder=3, **look)
    for place, more in ((0, ""), (len(means) - 1, held)):
        value = sweep.points[place][0]
        text = radius(value) if sweep.setting == "train_epsilon" else f"{value:.3g}"
        text = f"{text}, {more}" if more else text
        ax.annotate(text, means[place], xytext=(3, 3), textcoords="offset points", fontsize=5, color=style.colour)


def _legend(sweeps: Sequence[Sweep]) -> list[Line2D]:
    handles = []
    for method, style in styles_for(sweep.method for sweep in sweeps).items():
        settings = dict.fromkeys(setting_name(sweep.setting) for sweep in sweeps if sweep.method == method)
        look = {"color": style.colour, "linestyle": style.line, "linewidth": 1.0, "markersize": 3.5}
        handles.append(sample(style.marker, f"{style.label} over {', '.join(settings)}", **look))
    return handles
