"""Two studies' fronts for the page that compares them: on one plane, or beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.data.results import Table
from analysis.fronts.objectives import FRONT
from analysis.method_styles import PAPER_METHODS, styles_for
from analysis.plots.figure import COLUMN_WIDTH, PaperFigure, add_small_print, blank, paper_style, sample
from analysis.plots.trials.front_view import ParetoView, beyond_axes, pareto_view
from analysis.plots.trials.pareto import draw_pareto, legend_handles
from analysis.wording import measured_by, provenance

COLOURS = ("#0072B2", "#D55E00")
"""Of the first and the second study, from Okabe and Ito's colour-blind safe set; lines differ by their dashes too."""

_DASHES: tuple[Literal["-", "--"], ...] = ("-", "--")

_PANEL = 4.2


def fronts_svg(tables: Sequence[tuple[str, Table]], /, *, together: bool) -> str:
    """Return the figure of two studies' fronts as an SVG element, ready for a page.

    Args:
        tables: Label and result rows of each study.
        together: Draw them on one plane; else beside each other, each with its own axes.

    Returns:
        The same rows give the same text.
    """
    with paper_style():
        figure = fronts_figure(tables, together=together)
        buffer = StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def fronts_figure(tables: Sequence[tuple[str, Table]], /, *, together: bool) -> Figure:
    """Return the figure of `fronts_svg`; draw and save it inside `paper_style`."""
    views = [(label, pareto_view(table)) for label, table in tables]
    width = 1.5 * _PANEL if together else _PANEL * len(views)
    figure = Figure(figsize=(width, 1.05 * _PANEL), layout="constrained")
    if together:
        ax = figure.add_subplot()
        _draw_together(views, ax)
        figure.legend(handles=_names(views), loc="outside upper center", ncols=4, frameon=False, columnspacing=0.8)
        outside = sum(_outside(view, ax) for _, view in views)
    else:
        for place, (label, view) in enumerate(views):
            axes = draw_pareto(view, figure.add_subplot(1, len(views), place + 1))
            axes.set_title(label, fontsize=9)
            axes.legend(handles=legend_handles(view), loc="lower left", fontsize=6, framealpha=0.8)
        outside = sum(view.outside for _, view in views)
    if outside:
        add_small_print(figure, beyond_axes(outside))
    return figure


def _names(views: Sequence[tuple[str, ParetoView]]) -> list[Line2D]:
    """Return the legend of two fronts on one plane."""
    handles = [
        Line2D([], [], color=colour, linestyle=dash, label=f"front of {label}")
        for (label, _), colour, dash in zip(views, COLOURS, _DASHES, strict=True)
    ]
    methods = [method for _, view in views for method in view.methods]
    return handles + [sample(style.marker, style.label, color="0.5") for style in styles_for(methods).values()]


def new_methods_sheet(table: Table, /, *, width: float = COLUMN_WIDTH) -> PaperFigure | None:
    """Return the figure of the front of the paper's methods and that of all; None without methods of both kinds.

    Args:
        table: Result rows.
        width: Inches.

    Raises:
        MixedStudiesError: The rows differ in what they measure; see `require_like_for_like`.
    """
    of_paper = np.isin(table["method"].to_pylist(), PAPER_METHODS)
    if of_paper.all() or not of_paper.any():
        return None
    paper, whole = pareto_view(table.filter(of_paper)), pareto_view(table)
    views = [("the paper's methods", paper), ("all methods", whole)]
    with paper_style():
        figure = blank(width, 0.6 * width + 0.7, legend=_names(views))
        ax = figure.add_subplot()
        _draw_together(views, ax)
        ax.set_ylabel(ax.get_ylabel().split("\n")[0])  # the small print names the attack
        outside = _outside(whole, ax)
        print_parts = [provenance(table), measured_by(table), *([beyond_axes(outside)] if outside else [])]
        add_small_print(figure, " · ".join([*print_parts, "more trials never make a front worse"]))
    columns = ("study", "trial_id", "method", *FRONT)
    on_paper_front = np.zeros(table.num_rows, dtype=bool)
    on_paper_front[of_paper] = paper.front
    rows = tuple(
        (*(row[name] for name in columns), bool(old), bool(new))
        for row, drawn, old, new in zip(
            table.select(columns).to_pylist(), whole.drawn, on_paper_front, whole.front, strict=True
        )
        if drawn
    )
    headings = (*columns, "on_front_of_the_papers_methods", "on_front_of_all_methods")
    return PaperFigure(name="new_methods", figure=figure, headings=headings, rows=rows)


def _outside(view: ParetoView, ax: Axes) -> int:
    """Return how many of a study's trials lie beyond the limits of the axes, which it shares with another's."""
    low, high = np.transpose([ax.get_xlim(), ax.get_ylim()])
    return int((view.drawn & ((view.points < low) | (view.points > high)).any(axis=1)).sum())


def _draw_together(views: Sequence[tuple[str, ParetoView]], ax: Axes) -> None:
    """Draw two fronts of like measurement: colour is the study, shape the method; all but members are faint."""
    limits = [[view.limits(axis) for _, view in views] for axis in (0, 1)]
    (low_x, high_x), (low_y, high_y) = ((min(low for low, _ in ends), max(high for _, high in ends)) for ends in limits)
    ax.set_xlim(low_x, high_x)
    ax.set_ylim(low_y, high_y)
    ax.set_xlabel(views[0][1].x_label)
    ax.set_ylabel(views[0][1].y_label.replace("$", r"\$"))
    ax.grid(visible=True)
    for (_, view), colour, dash in zip(views, COLOURS, _DASHES, strict=True):
        stairs = view.staircase((low_x, low_y), (high_x, high_y))
        ax.plot(stairs[:, 0], stairs[:, 1], color=colour, linestyle=dash, linewidth=1.1, zorder=3)
        methods = np.asarray(view.methods)
        for method, style in styles_for(view.methods).items():
            mask = methods == method
            for chosen, size, alpha in ((view.drawn & ~view.front & mask, 22, 0.4), (view.front & mask, 48, 1.0)):
                x, y = view.points[chosen].T
                ax.scatter(x, y, s=size, marker=style.marker, c=colour, alpha=alpha, linewidths=0.0, zorder=4)
