"""Each accuracy over the two settings that matter most for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.tri import Triangulation

from analysis.data.results import Table
from analysis.fronts.objectives import FRONT, objective, values
from analysis.plots.figure import COLUMN_WIDTH, PaperFigure, add_small_print, blank, lines, paper_style
from analysis.statistics.association import measure, random_share
from analysis.statistics.importance import setting_name
from analysis.wording import attack_phrase, provenance

LEAST = 30
"""Fewest trials, proposed independently of results, whose accuracies are interpolated."""

HEADINGS = ("objective", "trial_id", "x", "x_value", "y", "y_value", "value")

_WIDE = 50


def contours_sheet(
    importance: Mapping[str, Mapping[str, float]], table: Table, /, *, width: float = COLUMN_WIDTH
) -> PaperFigure | None:
    """Return the figure, a panel for each accuracy; None with fewer than `LEAST` trials or two settings of all.

    Between the trials, which are points, values are interpolated linearly: methods and other settings differ too.

    Args:
        importance: Shares of variance by objective and hyperparameter, largest first.
        table: Result rows.
        width: Inches.
    """
    share = random_share(table)
    share = share.filter(np.isfinite(values(share, FRONT)).all(axis=1))
    chosen = {name: pair for name in FRONT if (pair := _pair(importance.get(name, {}), share))}
    if share.num_rows < LEAST or not chosen:
        return None
    rows: list[tuple[Any, ...]] = []
    with paper_style():
        figure = blank(width, 0.42 * width * len(chosen) * COLUMN_WIDTH / width + 0.4)
        axes = figure.subplots(len(chosen), 1, squeeze=False)[:, 0]
        for ax, (name, pair) in zip(axes, chosen.items(), strict=True):
            columns = [measure(share, setting) for setting in pair]
            heights = values(share, [name])[:, 0]
            label = f"{objective(name).label} (val)" + (f"\n{attack_phrase(table)}" if "robust" in name else "")
            _draw(figure, ax, columns, heights, label)
            ax.set_xlabel(setting_name(pair[0]), fontsize=6.5)
            ax.set_ylabel(setting_name(pair[1]), fontsize=6.5)
            named = zip(
                share["trial_id"].to_pylist(), *(column.tolist() for column in (*columns, heights)), strict=True
            )
            rows += [(name, trial, pair[0], x, pair[1], y, height) for trial, x, y, height in named]
        sample = f"{share.num_rows} trials proposed independently of results, linear between them"
        add_small_print(figure, f"{provenance(table)} · {sample}")
    return PaperFigure(name="contours", figure=figure, headings=HEADINGS, rows=tuple(rows))


def _pair(shares: Mapping[str, float], table: Table) -> tuple[str, str] | None:
    """Return the two numeric settings with the largest shares that span a plane, None without two."""
    spread = [
        name
        for name in shares
        if name != "method"
        and name in table.column_names
        and np.isfinite(column := measure(table, name)).all()
        and len(np.unique(column)) > 2
    ]
    return (spread[0], spread[1]) if len(spread) > 1 else None


def _draw(figure: Figure, ax: Axes, columns: list[np.ndarray], heights: np.ndarray, label: str) -> None:
    logarithmic = [bool(column.min() > 0 and column.max() > _WIDE * column.min()) for column in columns]
    x, y = (np.log10(column) if log else column for column, log in zip(columns, logarithmic, strict=True))
    scaled = [(numbers - numbers.min()) / np.ptp(numbers) for numbers in (x, y)]
    triangles = Triangulation(*scaled).triangles
    drawn = ax.tricontourf(Triangulation(x, y, triangles), heights, levels=8, cmap="viridis")
    ax.plot(x, y, linestyle="none", marker=".", markersize=2, color="black", alpha=0.6, gid="trials")
    for axis, log in zip((ax.xaxis, ax.yaxis), logarithmic, strict=True):
        axis.set_major_locator(MaxNLocator(nbins=4))
        if log:
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{10**value:.2g}"))
    ax.tick_params(labelsize=6)
    bar = figure.colorbar(drawn, ax=ax, pad=0.02)
    bar.set_label(lines(label, 34), fontsize=6)
    bar.ax.tick_params(labelsize=5.5)
