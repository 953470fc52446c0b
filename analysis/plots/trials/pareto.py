"""The Pareto figure for papers: clean against robust accuracy, coloured by measured local Lipschitzness."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm, Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from analysis.data.results import Table
from analysis.fronts.objectives import FRONT
from analysis.fronts.strong_attacks import StrongResult
from analysis.method_styles import MethodStyle, styles_for
from analysis.plots.figure import (
    COLUMN_WIDTH,
    PRINTED,
    add_small_print,
    blank,
    check_formats,
    lines,
    paper_style,
    sample,
    say_nothing_is_there,
    write_files,
)
from analysis.plots.trials.front_view import ColourScale, ParetoView, pareto_view
from analysis.statistics.front_posterior import FrontPosterior
from analysis.tables.dominance import dominance_csv
from analysis.tables.front_table import pareto_csv

FORMATS = (*PRINTED, "html")

_UNMEASURED = "0.6"
_STRONG = "#b2182b"


def draw_pareto(view: ParetoView, /, ax: Axes) -> Axes:
    """Draw a Pareto figure into `ax`, with a colour bar below it; `legend_handles` gives what a legend needs.

    Front members are large and outlined, with 95 % intervals of the examples; a red line leads down to what strong
    attacks leave of one, and a red cross marks one that they cast doubt on. Dominated trials small and faint, flagged
    or early-stopped ones hollow; failed ones have no coordinates and are counted in the small print. The line bounds
    the region the front attains.

    Returns:
        `ax`.
    """
    ax.set_xlim(*view.limits(0))
    ax.set_ylim(*view.limits(1))
    ax.set_xlabel(lines(view.x_label, 48))
    ax.set_ylabel(lines(view.y_label, 42))
    ax.locator_params(nbins=6)
    ax.grid(visible=True)
    (low_x, high_x), (low_y, high_y) = ax.get_xlim(), ax.get_ylim()
    stairs = view.staircase((low_x, low_y), (high_x, high_y))
    ax.plot(stairs[:, 0], stairs[:, 1], color="0.25", linewidth=0.9, zorder=3)
    styles = styles_for(view.methods)
    scale = view.colour_scale()
    colours = _colours(scale) if scale else None
    for method, style in styles.items():
        _draw_method(view, ax, np.asarray(view.methods) == method, style, colours)
    if scale and colours:
        _add_colour_bar(view, ax, colours, scale)
    if not view.drawn.any():
        say_nothing_is_there(ax, "no measured trial")
    return ax


def legend_handles(view: ParetoView, /) -> list[Line2D]:
    """Return legend entries: each method's marker with its number of trials, the front, and hollow or grey points."""
    trials = Counter(view.methods)
    handles = [
        sample(style.marker, f"{style.label} ({trials[method]})", markerfacecolor="0.75", markeredgecolor="black")
        for method, style in styles_for(view.methods).items()
    ]
    if view.front.any() and len(view.objectives) == 2:
        handles.append(Line2D([], [], color="0.25", linewidth=0.9, label="front"))
    if np.isfinite(view.strong[view.front]).all(axis=1).any():
        handles.append(sample("_", "under strong attacks", color=_STRONG, markeredgewidth=0.9))
    if (view.fallen & view.front).any():
        handles.append(sample("x", "doubtful under them", markeredgecolor=_STRONG))
    if view.hollow:
        handles.append(sample("o", view.hollow, markerfacecolor="none", markeredgecolor="0.45"))
    if view.drawn.any() and not np.isfinite(view.lipschitz[view.drawn]).all():
        handles.append(sample("o", "Lipschitz not measured", markerfacecolor=_UNMEASURED, markeredgecolor="none"))
    return handles


def pareto_figure(
    table: Table,
    /,
    *,
    objectives: Sequence[str] = FRONT,
    width: float = COLUMN_WIDTH,
    strong: Mapping[str, StrongResult] | None = None,
) -> Figure:
    """Return the figure of a result table, so many inches wide; draw and save it inside `paper_style`."""
    view = pareto_view(table, objectives=objectives, strong=strong)
    figure = blank(width, 0.6 * width + 0.4 * COLUMN_WIDTH, legend=legend_handles(view))
    draw_pareto(view, figure.add_subplot())
    add_small_print(figure, view.small_print)
    return figure


def write_pareto(
    table: Table,
    out_dir: str | Path,
    /,
    *,
    formats: Sequence[str] = FORMATS,
    objectives: Sequence[str] = FRONT,
    width: float = COLUMN_WIDTH,
    belief: FrontPosterior | None = None,
    strong: Mapping[str, StrongResult] | None = None,
) -> list[Path]:
    """Write `pareto.<format>` for each format, and the data beside it as `pareto.csv`.

    Args:
        table: Result rows; no rows, one row or only failed trials give a figure that says so.
        out_dir: Made if missing.
        formats: Some of png (300 dpi), pdf, svg and html.
        objectives: The first two are the axes; of one alone there are only data.
        width: Of the printed formats, inches.
        belief: Gives the data each trial's probability to be truly on the front, and over clean and robust accuracy
            `pareto_dominance.csv`, the members' probabilities to dominate each other.
        strong: Members' values under strong attacks, by trial.

    Returns:
        The files written. The same table gives the same bytes, no file holds a time.

    Raises:
        MixedStudiesError: The rows differ in what they measure; see `require_like_for_like`.
        ValueError: Unknown format or objective.
    """
    check_formats(formats, valid=FORMATS)

    def page() -> str:
        from analysis.plots.screen import offline_page
        from analysis.plots.trials.interactive import pareto_plotly

        figure = pareto_plotly(table, objectives=objectives, strong=strong)
        return offline_page(figure, title=f"Pareto front: {', '.join(dict.fromkeys(table['study'].to_pylist()))}")

    written = write_files(
        Path(out_dir) / "pareto",
        formats,
        lambda: pareto_figure(table, objectives=objectives, width=width, strong=strong),
        data=pareto_csv(table, objectives=objectives, belief=belief, strong=strong),
        page=page,
    )
    if belief is not None and set(objectives) == set(FRONT):
        written.append(Path(out_dir) / "pareto_dominance.csv")
        written[-1].write_text(dominance_csv(table, belief), encoding="utf-8")
    return written


def _draw_method(
    view: ParetoView, ax: Axes, mask: np.ndarray, style: MethodStyle, colours: ScalarMappable | None
) -> None:
    crowd = min(1.0, (150 / max(len(mask), 1)) ** 0.25)

    def scatter(chosen: np.ndarray, **look: Any) -> None:
        ax.scatter(view.points[chosen, 0], view.points[chosen, 1], marker=style.marker, **look)

    for x, y, (across, up) in zip(*view.points[view.front & mask].T, view.ends[view.front & mask], strict=True):
        # a Lipschitz estimate has no interval
        bars: dict[str, Any] = {"color": "0.55", "linewidth": 0.6, "zorder": 2.8, "solid_capstyle": "butt"}
        ax.plot(across, [y, y], **bars)
        ax.plot([x, x], up, **bars)
    attacked = view.front & mask & np.isfinite(view.strong).all(axis=1)
    for point, strong in zip(view.points[attacked], view.strong[attacked], strict=True):
        ax.plot(*zip(point, strong, strict=True), color=_STRONG, linewidth=0.9, zorder=2.9)
        ax.plot(*strong, marker="_", color=_STRONG, markersize=5, zorder=5)
    dominated, front, doubtful = view.dominated & mask, view.front & mask, view.doubtful & mask
    scatter(dominated, s=16 * crowd, c=_faces(view.lipschitz[dominated], colours), alpha=0.6, linewidths=0.0, zorder=2)
    scatter(doubtful, s=16 * crowd, facecolors="none", edgecolors="0.45", linewidths=0.6, zorder=2.5)
    scatter(front, s=26, c=_faces(view.lipschitz[front], colours), edgecolors="black", linewidths=0.6, zorder=4)
    fallen = view.points[view.front & view.fallen & mask]
    ax.scatter(fallen[:, 0], fallen[:, 1], marker="x", s=22, c=_STRONG, linewidths=0.9, zorder=5)


def _faces(lipschitz: np.ndarray, colours: ScalarMappable | None) -> np.ndarray:
    known = np.isfinite(lipschitz)
    faces = np.tile(to_rgba(_UNMEASURED), (len(lipschitz), 1))
    if colours is not None:
        faces[known] = colours.to_rgba(lipschitz[known])
    return faces


def _colours(scale: ColourScale) -> ScalarMappable:
    # The palest end of the map would vanish on white paper.
    shades = colormaps["cividis_r"](np.linspace(0.15, 1.0, 256))
    # Clipped, else a log scale takes an estimate of 0 for a bad value instead of the lowest.
    norm = LogNorm(scale.low, scale.high, clip=True) if scale.log else Normalize(scale.low, scale.high)
    return ScalarMappable(norm=norm, cmap=ListedColormap(shades))


def _add_colour_bar(view: ParetoView, ax: Axes, colours: ScalarMappable, scale: ColourScale) -> None:
    extend = "min" if scale.below else "neither"
    bar = ax.figure.colorbar(colours, ax=ax, location="bottom", extend=extend, aspect=38, pad=0.02)
    bar.set_label(lines(view.colour_label, 60), fontsize=7)
    bar.ax.tick_params(labelsize=6.5, width=0.5, which="both")
    if scale.log:
        bar.set_ticks(scale.ticks(), labels=[f"{tick:g}" for tick in scale.ticks()])
        bar.ax.xaxis.set_minor_formatter(NullFormatter())
    bar.outline.set_linewidth(0.5)


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
        _draw_together(views, figure.add_subplot())
        handles = [
            Line2D([], [], color=colour, linestyle=dash, label=f"front of {label}")
            for (label, _), colour, dash in zip(views, COLOURS, _DASHES, strict=True)
        ]
        methods = [method for _, view in views for method in view.methods]
        handles += [sample(style.marker, style.label, color="0.5") for style in styles_for(methods).values()]
        figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, columnspacing=0.8)
        return figure
    for place, (label, view) in enumerate(views):
        axes = draw_pareto(view, figure.add_subplot(1, len(views), place + 1))
        axes.set_title(label, fontsize=9)
        axes.legend(handles=legend_handles(view), loc="lower left", fontsize=6, framealpha=0.8)
    return figure


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
