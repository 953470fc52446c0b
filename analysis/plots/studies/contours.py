"""Each objective over the two settings that matter most for it, among all trials and within each method."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.tri import Triangulation

from analysis.data.results import Table
from analysis.fronts.objectives import objective, values
from analysis.method_styles import short_name
from analysis.plots.figure import COLUMN_WIDTH, PaperFigure, add_small_print, blank, lines, paper_style
from analysis.statistics.association import measure, random_share
from analysis.statistics.importance import NEAR_FRONT, MethodImportance, setting_name
from analysis.wording import attack_phrase, provenance

LEAST = 30
"""Fewest trials, proposed independently of results, whose values are interpolated."""

HEADINGS = ("method", "objective", "trial_id", "x", "x_value", "y", "y_value", "value")

_WIDE = 50

_ALIGNED = 0.999
"""Settings of a larger correlation span no plane."""


@dataclass(frozen=True, kw_only=True)
class _Panel:
    """One objective over two settings, of one method's trials or, with `method` empty, of all; arrays are (n,)."""

    method: str
    objective: str
    settings: tuple[str, str]
    trials: list[str]
    columns: list[np.ndarray]
    heights: np.ndarray


def contours_sheet(
    importance: Mapping[str, Mapping[str, float]],
    table: Table,
    /,
    *,
    within: Sequence[MethodImportance] = (),
    width: float = COLUMN_WIDTH,
) -> PaperFigure | None:
    """Return the figure; None where neither all trials nor those of a method are `LEAST` over two settings they share.

    Between the trials, which are points, values are interpolated linearly, although their other settings differ, and
    among all trials their methods too. Trials at one point count with their mean.

    Args:
        importance: Shares of variance among all trials by objective and hyperparameter, largest first.
        table: Result rows.
        within: The shares within each method.
        width: Inches.
    """
    share = random_share(table)
    scopes = [("", share, importance)]
    if len(within) > 1:
        methods = np.array(share["method"].to_pylist())
        scopes += [(one.method, share.filter(methods == one.method), one.shares) for one in within]
    panels = [panel for scope in scopes for panel in _panels(*scope)]
    if not panels:
        return None
    with paper_style():
        across = min(len(panels), max(1, round(width / COLUMN_WIDTH)))
        down = -(-len(panels) // across)
        figure = blank(width, 0.42 * COLUMN_WIDTH * down + 0.4)
        axes = figure.subplots(down, across, squeeze=False).flat
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        for ax, panel in zip(axes, panels, strict=False):
            _draw(figure, ax, panel, table)
        counts = sorted({len(panel.trials) for panel in panels})
        sample = f"{' or '.join(map(str, counts))} trials proposed independently of results, linear between them"
        if any(len(_places(panel)[0]) < len(panel.trials) for panel in panels):
            sample += ", means where several are at one place"
        add_small_print(figure, f"{provenance(table)} · {sample}; other settings differ too")
    rows = tuple(
        (panel.method or "all", panel.objective, trial, panel.settings[0], x, panel.settings[1], y, height)
        for panel in panels
        for trial, x, y, height in zip(
            panel.trials, *(column.tolist() for column in (*panel.columns, panel.heights)), strict=True
        )
    )
    return PaperFigure(name="contours", figure=figure, headings=HEADINGS, rows=rows)


def _panels(method: str, trials: Table, importance: Mapping[str, Mapping[str, float]]) -> list[_Panel]:
    panels = []
    for name, shares in importance.items():
        if name == NEAR_FRONT:  # which depends on other methods too, and is no measured height
            continue
        heights = values(trials, [name])[:, 0]
        measured = trials.filter(np.isfinite(heights))
        if measured.num_rows >= LEAST and (pair := _pair(shares, measured)):
            columns = [measure(measured, setting) for setting in pair]
            ids = measured["trial_id"].to_pylist()
            panels.append(
                _Panel(method=method, objective=name, settings=pair, trials=ids, columns=columns,
                       heights=heights[np.isfinite(heights)])
            )  # fmt: skip
    return panels


def _pair(shares: Mapping[str, float], table: Table) -> tuple[str, str] | None:
    """Return the two numeric settings with the largest shares that span a plane, None without two."""
    spread = {
        name: _even(column)
        for name in shares
        if name != "method"
        and name in table.column_names
        and np.isfinite(column := measure(table, name)).all()
        and len(np.unique(column)) > 2
    }
    pairs = itertools.combinations(spread, 2)
    planes = (pair for pair in pairs if abs(np.corrcoef(spread[pair[0]], spread[pair[1]])[0, 1]) < _ALIGNED)
    return next(planes, None)


def _places(panel: _Panel) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct points, (m, 2), and each trial's, (n,): of equal ones a triangulation takes any one."""
    points = np.column_stack([_even(column) for column in panel.columns])
    places, at = np.unique(points, axis=0, return_inverse=True)
    return places, at.ravel()


def _even(column: np.ndarray) -> np.ndarray:
    """Return a setting as its axis shows it: its logarithm where it spans decades."""
    return np.log10(column) if _is_wide(column) else column


def _is_wide(column: np.ndarray) -> bool:
    return bool(column.min() > 0 and column.max() > _WIDE * column.min())


def _draw(figure: Figure, ax: Axes, panel: _Panel, table: Table) -> None:
    places, at = _places(panel)
    heights = np.bincount(at, weights=panel.heights) / np.bincount(at)
    x, y = places.T
    scaled = [(numbers - numbers.min()) / np.ptp(numbers) for numbers in (x, y)]
    triangles = Triangulation(*scaled).triangles
    drawn = ax.tricontourf(Triangulation(x, y, triangles), heights, levels=8, cmap="viridis")
    dots: dict[str, Any] = {"marker": ".", "markersize": 2, "color": "black", "alpha": 0.6, "clip_on": False}
    ax.plot(*map(_even, panel.columns), linestyle="none", gid="trials", **dots)
    for axis, column in zip((ax.xaxis, ax.yaxis), panel.columns, strict=True):
        axis.set_major_locator(MaxNLocator(nbins=4))
        if _is_wide(column):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{10**value:.2g}"))
    ax.tick_params(labelsize=6)
    ax.set_xlabel(setting_name(panel.settings[0]), fontsize=6.5)
    ax.set_ylabel(setting_name(panel.settings[1]), fontsize=6.5)
    bar = figure.colorbar(drawn, ax=ax, pad=0.02)
    bar.ax.tick_params(labelsize=5.5)
    # above the panel: along the bar a long name would leave the figure
    owner = f"{short_name(panel.method)}: " if panel.method else ""
    attack = f", {attack_phrase(table)}" if "robust" in panel.objective else ""
    name = lines(f"{owner}{objective(panel.objective).label} (val){attack}", 46)
    ax.set_title(name, fontsize=6.5, loc="left", pad=3)
