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
    """Return the figure, a panel for each method; None where no method has settings that differ in one number alone.

    Each point is the mean of a setting's seeds; band and bars are the range of their accuracies, from the lowest to the
    highest. Panels share the axis of robust accuracy; each has its own of clean accuracy, which some methods hardly
    change.

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
        across = min(len(styles), 2 if width <= COLUMN_WIDTH else 3)
        down = -(-len(styles) // across)
        side = width / across
        figure = blank(width, down * (side + 0.15) + 0.5, legend=_legend(held if told_apart else []))
        grid = figure.subplots(down, across, squeeze=False, sharey=True).flat
        for ax in grid[len(styles) :]:
            ax.set_axis_off()
        for ax, (method, style) in zip(grid, styles.items(), strict=False):
            own = [sweep for sweep in sweeps if sweep.method == method]
            for sweep in own:
                face = _FACES[held.index(sweep.held)] if told_apart else "full"
                _draw(ax, sweep, style, face=face)
                _name_ends(ax, sweep, own, colour=style.colour, held="" if told_apart else sweep.held)
            settings = ", ".join(dict.fromkeys(setting_name(sweep.setting) for sweep in own))
            ax.set_title(f"{style.label} over {settings}", fontsize=6.5, loc="left", color=style.colour, pad=2)
            ax.grid(visible=True)
            ax.tick_params(labelsize=6)
            ax.locator_params(axis="x", nbins=4)
            ax.margins(x=0.12, y=0.08)
            ax.set_xlabel("clean accuracy (val)", fontsize=6.5)
        figure.supylabel(lines(f"robust accuracy (val)\n{measured_by(table)}", 60), fontsize=7)
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


def _draw(ax: Axes, sweep: Sweep, style: MethodStyle, *, face: str) -> None:
    means = np.array([accuracies.mean(axis=0) for _, accuracies in sweep.points])
    low = np.array([accuracies.min(axis=0) for _, accuracies in sweep.points])
    high = np.array([accuracies.max(axis=0) for _, accuracies in sweep.points])
    if sweep.seeds > 1:
        across = np.concatenate([means[:, 0], means[::-1, 0]])
        band = np.concatenate([low[:, 1], high[::-1, 1]])
        ax.fill(across, band, color=style.colour, alpha=0.18, linewidth=0, zorder=1, gid="band")
        ax.hlines(means[:, 1], low[:, 0], high[:, 0], color=style.colour, linewidth=0.6, zorder=2)
        ax.vlines(means[:, 0], low[:, 1], high[:, 1], color=style.colour, linewidth=0.6, zorder=2)
    faces = {"full": style.colour, "hollow": "white", "pale": style.pale}
    look = {"color": style.colour, "linestyle": style.line, "linewidth": 1.0, "marker": style.marker, "markersize": 4.0}
    ax.plot(*means.T, gid="sweep", zorder=3, markerfacecolor=faces[face], markeredgewidth=0.6, **look)


def _name_ends(ax: Axes, sweep: Sweep, panel: Sequence[Sweep], *, colour: str, held: str) -> None:
    """Write the values at a curve's ends, above the points, or below those of the lower half of the panel's curves."""
    for place, more in ((0, ""), (-1, held)):
        value, accuracies = sweep.points[place]
        text = radius(value) if sweep.setting == "train_epsilon" else f"{value:.3g}"
        text = f"{text}, {more}" if more else text
        heights = [other.points[place][1][:, 1].mean() for other in panel]
        ranked = sorted(range(len(panel)), key=heights.__getitem__, reverse=True)
        below = 2 * [panel[other] is sweep for other in ranked].index(True) >= len(panel)
        ax.annotate(
            text, accuracies.mean(axis=0), xytext=(3, -3 if below else 3), textcoords="offset points",
            va="top" if below else "bottom", fontsize=5.5, color=colour,
        )  # fmt: skip


def _legend(held: Sequence[str]) -> list[Line2D]:
    handles = []
    for face, text in zip(_FACES, held, strict=False) if len(held) > 1 else ():
        fill = {"full": "0.3", "hollow": "white", "pale": "0.75"}[face]
        look = {"markerfacecolor": fill, "markeredgecolor": "0.3", "markersize": 4.0}
        handles.append(sample("o", f"{face}: {text or 'nothing else varies'}", **look))
    return handles
