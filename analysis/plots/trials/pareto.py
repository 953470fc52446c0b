"""The Pareto figure for papers: clean against robust accuracy, coloured by measured local Lipschitzness."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm, Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.data.anchors import Anchor
from analysis.data.files import unlinked
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
    sample,
    say_nothing_is_there,
    write_files,
)
from analysis.plots.shades import UNMEASURED, UNMEASURED_EDGE, lipschitz_shades
from analysis.plots.trials.front_view import ColourScale, ParetoView, pareto_view
from analysis.plots.trials.names_on_front import LARGE, MOST_COUNTS, SMALL, TIMES, covered, name_points
from analysis.statistics.front_posterior import FrontPosterior
from analysis.statistics.networks.separated_classifier import SeparatedClassifier
from analysis.tables.dominance import dominance_csv
from analysis.tables.front_table import pareto_csv
from analysis.tables.text_table import csv_text

FORMATS = (*PRINTED, "html")

_STRONG, _CERTIFIED = "#b2182b", "#2166ac"
_PRINT_LINE = 0.09
"""Height of a line of small print, inches."""

_STAR: dict[str, Any] = {
    "marker": "*", "markersize": 8, "markerfacecolor": "none", "markeredgecolor": "black", "markeredgewidth": 0.8,
}  # fmt: skip
"""Hollow, so that it hides no trial."""


_ANCHOR: dict[str, Any] = {"markersize": 5, "markeredgecolor": "0.5", "markeredgewidth": 0.8}
"""Of published networks: grey crosses, behind the trials."""


def draw_pareto(view: ParetoView, /, ax: Axes) -> Axes:
    """Draw a Pareto figure into `ax`, with a colour bar below it; `legend_handles` gives what a legend needs.

    Front members are large and outlined, with 95 % intervals of the examples; a red line leads down to what strong
    attacks leave of one, a dotted blue one to what is certified of it, and a red cross marks one that they cast doubt
    on. Dominated trials are small, flagged or
    early-stopped ones hollow; failed ones have no coordinates and are counted in the small print. The line bounds the
    region the front attains. A hollow star is the theorem's classifier.

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
    ax.plot(*view.anchors.T, marker="+", linestyle="none", zorder=1.5, gid="anchors", **_ANCHOR)
    if view.theory is not None and view.theory_inside:
        ax.plot(*view.theory, **_STAR, zorder=4.5)
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
    if np.isfinite(view.certified[view.front]).all(axis=1).any():
        handles.append(sample("_", "certified", color=_CERTIFIED, markeredgewidth=0.9))
    if (view.fallen & view.front).any():
        handles.append(sample("x", "doubtful under them", markeredgecolor=_STRONG))
    if len(view.anchors):
        handles.append(sample("+", view.anchors_label, **_ANCHOR))
    if view.hollow:
        handles.append(sample("o", view.hollow, markerfacecolor="none", markeredgecolor="0.45"))
    if view.drawn.any() and not np.isfinite(view.lipschitz[view.drawn]).all():
        look = {"markerfacecolor": UNMEASURED, "markeredgecolor": UNMEASURED_EDGE}
        handles.append(sample("o", "Lipschitz not measured", **look))
    if view.theory is not None and view.theory_inside:
        handles.append(Line2D([], [], linestyle="none", label="theorem's classifier", **_STAR))
    return handles


def pareto_figure(
    table: Table,
    /,
    *,
    objectives: Sequence[str] = FRONT,
    width: float = COLUMN_WIDTH,
    strong: Mapping[str, StrongResult] | None = None,
    classifier: SeparatedClassifier | None = None,
    anchors: Sequence[Anchor] = (),
) -> Figure:
    """Return the figure of a result table, so many inches wide; draw and save it inside `paper_style`."""
    view = pareto_view(table, objectives=objectives, strong=strong, classifier=classifier, anchors=anchors)
    figure = blank(width, 0.6 * width + 0.4 * COLUMN_WIDTH, legend=legend_handles(view))
    ax = draw_pareto(view, figure.add_subplot())
    figure.draw_without_rendering()
    groups = covered(view, ax)
    text = add_small_print(figure, _small_print(view, groups))
    figure.set_figheight(figure.get_figheight() + _PRINT_LINE * text.count("\n"))
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    name_points(view, ax, groups)
    return figure


def _small_print(view: ParetoView, groups: Sequence[Sequence[int]]) -> str:
    parts = [view.small_print]
    parts += ["numbers: trials on the front"] if view.front.any() else []
    if groups:
        more = f", {MOST_COUNTS} of {len(groups)} such places" if len(groups) > MOST_COUNTS else ""
        parts.append(f"{TIMES}n: n trials at one place{more}")
    if view.theory_text:
        parts.append(f"{view.theory_text}{'' if view.theory_inside else ', outside the axes'}")
    return " · ".join(parts)


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
    classifier: SeparatedClassifier | None = None,
    anchors: Sequence[Anchor] = (),
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
        classifier: The theorem's classifier on the study's own images, a point in the figure.
        anchors: Published networks of the same threat model, behind the front; their data are `pareto_anchors.csv`.

    Returns:
        The files written. The same table gives the same bytes, no file holds a time.

    Raises:
        MixedStudiesError: The rows differ in what they measure; see `require_like_for_like`.
        ValueError: Unknown format or objective.
    """
    check_formats(formats, valid=FORMATS)
    shown: dict[str, Any] = {"objectives": objectives, "strong": strong, "classifier": classifier, "anchors": anchors}

    def page() -> str:
        from analysis.plots.screen import offline_page
        from analysis.plots.trials.interactive import pareto_plotly

        figure = pareto_plotly(table, **shown)
        return offline_page(figure, title=f"Pareto front: {', '.join(dict.fromkeys(table['study'].to_pylist()))}")

    written = write_files(
        Path(out_dir) / "pareto",
        formats,
        lambda: pareto_figure(table, width=width, **shown),
        data=pareto_csv(table, objectives=objectives, belief=belief, strong=strong),
        page=page,
    )
    beside = {}
    if belief is not None and set(objectives) == set(FRONT):
        beside["pareto_dominance.csv"] = dominance_csv(table, belief)
    if anchors:
        beside["pareto_anchors.csv"] = _anchors_csv(anchors)
    for name, text in beside.items():
        written.append(Path(out_dir) / name)
        unlinked(written[-1]).write_text(text, encoding="utf-8")
    return written


def _anchors_csv(anchors: Sequence[Anchor]) -> str:
    rows = [(anchor.name, anchor.clean, anchor.robust) for anchor in anchors]
    return csv_text(("name", "test_clean_accuracy", "test_robust_accuracy"), rows)


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
    for ends, colour, pattern in ((view.certified, _CERTIFIED, ":"), (view.strong, _STRONG, "-")):
        known = view.front & mask & np.isfinite(ends).all(axis=1)
        for point, end in zip(view.points[known], ends[known], strict=True):
            ax.plot(*zip(point, end, strict=True), color=colour, linestyle=pattern, linewidth=0.9, zorder=2.9)
            ax.plot(*end, marker="_", color=colour, markersize=5, zorder=5)
    dominated, front, doubtful = view.dominated & mask, view.front & mask, view.doubtful & mask
    edges = np.where(np.isfinite(view.lipschitz[dominated]), "white", UNMEASURED_EDGE).tolist()
    faces = _faces(view.lipschitz[dominated], colours)
    scatter(dominated, s=SMALL**2 * crowd, c=faces, edgecolors=edges, linewidths=0.25, zorder=2)
    scatter(doubtful, s=SMALL**2 * crowd, facecolors="none", edgecolors="0.45", linewidths=0.6, zorder=2.5)
    scatter(front, s=LARGE**2, c=_faces(view.lipschitz[front], colours), edgecolors="black", linewidths=0.9, zorder=4)
    fallen = view.points[view.front & view.fallen & mask]
    ax.scatter(fallen[:, 0], fallen[:, 1], marker="x", s=22, c=_STRONG, linewidths=0.9, zorder=5)


def _faces(lipschitz: np.ndarray, colours: ScalarMappable | None) -> np.ndarray:
    known = np.isfinite(lipschitz)
    faces = np.tile(to_rgba(UNMEASURED), (len(lipschitz), 1))
    if colours is not None:
        faces[known] = colours.to_rgba(lipschitz[known])
    return faces


def _colours(scale: ColourScale) -> ScalarMappable:
    # Clipped, else a log scale takes an estimate of 0 for a bad value instead of the lowest.
    norm = LogNorm(scale.low, scale.high, clip=True) if scale.log else Normalize(scale.low, scale.high)
    return ScalarMappable(norm=norm, cmap=ListedColormap(lipschitz_shades()))


def _add_colour_bar(view: ParetoView, ax: Axes, colours: ScalarMappable, scale: ColourScale) -> None:
    extend = "min" if scale.below else "neither"
    aspect = 38 * ax.get_figure(root=True).get_figwidth() / COLUMN_WIDTH  # type: ignore[union-attr]
    bar = ax.figure.colorbar(colours, ax=ax, location="bottom", extend=extend, aspect=aspect, pad=0.02)
    bar.set_label(lines(view.colour_label, 60), fontsize=7)
    bar.ax.tick_params(labelsize=6.5, width=0.5, which="both")
    if scale.log:
        bar.set_ticks(scale.ticks(), labels=[f"{tick:g}" for tick in scale.ticks()], minor=False)
        bar.set_ticks([], minor=True)
    bar.outline.set_linewidth(0.5)
