"""Trials as points: who they are, which count, which were drawn at random, and one way to draw them in any figure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.data.results import Table
from analysis.fronts.front import feasible, on_front
from analysis.method_styles import MethodStyle, styles_for
from analysis.plots.figure import sample, say_nothing_is_there
from analysis.plots.screen import GREY, HOVER, LOG, numbers, say
from analysis.plots.trials.front_view import ColourScale, why_hollow
from analysis.statistics.association import independent
from analysis.tables.text_table import Cell
from analysis.wording import provenance

HEADINGS = ("study", "trial_id", "method", "proposal", "on_front", "hollow")
"""What each row of a figure's data begins with."""

MOST_POINTS = 1000
"""Most trials beside the front in a panel for the screen: several panels of more would be slow."""

Panel = tuple[int, int]

_RINGS = "rings"


@dataclass(frozen=True, kw_only=True)
class Trials:
    """Result rows as the figures of single trials take them; all arrays have shape (n,).

    Args:
        table: The rows.
        methods: Their methods.
        front: Members of the front.
        sound: Those that may be on a front; the others are hollow.
        independent: Those whose proposals did not depend on results.
        styles: A style for each method present.
        hollow: Why some of the drawn trials are hollow, "flagged or stopped"; empty where none is.
        small_print: Study, data set, counts.
    """

    table: Table
    methods: np.ndarray
    front: np.ndarray
    sound: np.ndarray
    independent: np.ndarray
    styles: Mapping[str, MethodStyle]
    hollow: str
    small_print: str

    def kinds(self, of_method: np.ndarray, /) -> dict[str, np.ndarray]:
        """Part marked trials, shape (n,), into those drawn hollow, pale (the sampler's own proposals) and full."""
        return {
            "hollow": of_method & ~self.sound,
            "pale": of_method & self.sound & ~self.independent,
            "full": of_method & self.sound & self.independent,
        }

    def rows(self, columns: Mapping[str, np.ndarray], /) -> tuple[tuple[Cell, ...], ...]:
        """Return a row for each trial that has any of the columns: who it is, then the columns, None where unknown."""
        named = zip(
            self.table["study"].to_pylist(),
            self.table["trial_id"].to_pylist(),
            self.methods,
            self.table["proposal"].to_pylist(),
            self.front.tolist(),
            (~self.sound).tolist(),
            strict=True,
        )
        measured = np.stack(list(columns.values()), axis=1)
        return tuple(
            (*names, *(None if np.isnan(value) else float(value) for value in row))
            for names, row in zip(named, measured, strict=True)
            if not np.isnan(row).all()
        )


def trials_of(table: Table, /) -> Trials:
    """Work out what the figures of single trials need.

    Raises:
        MixedStudiesError: The rows differ in what they measure; see `require_like_for_like`.
    """
    methods, sound = table["method"].to_pylist(), feasible(table)
    statuses = np.asarray(table["status"].to_pylist(), dtype=object)
    return Trials(
        table=table,
        methods=np.asarray(methods, dtype=object),
        front=on_front(table),
        sound=sound,
        independent=independent(table),
        styles=styles_for(methods),
        hollow=why_hollow(table, ~sound & (statuses != "failed")),
        small_print=provenance(table),
    )


def scatter(ax: Axes, x: np.ndarray, y: np.ndarray, trials: Trials, /) -> bool:
    """Draw the trials whose x and y are finite, each once, and a ring around each front member, over a grid.

    Shape and colour say the method. Proposals that did not depend on results are full, the sampler's own pale, those
    that may not be on a front hollow.

    Returns:
        Whether there are any; the axes say so if not.
    """
    ax.grid(visible=True)
    drawn = np.isfinite(x) & np.isfinite(y)
    if not drawn.any():
        say_nothing_is_there(ax, "not measured")
        return False
    for method, style in trials.styles.items():
        of_method = drawn & (trials.methods == method)
        size = 12 * min(1.0, (150 / max(int(of_method.sum()), 1)) ** 0.25)
        looks: dict[str, dict[str, Any]] = {
            "hollow": {"facecolors": "none", "edgecolors": "0.45", "linewidths": 0.5, "zorder": 2},
            "pale": {"color": style.pale, "linewidths": 0, "zorder": 2.2},
            "full": {"color": style.colour, "linewidths": 0, "zorder": 2.4},
        }
        for kind, chosen in trials.kinds(of_method).items():
            if chosen.any():
                ax.scatter(x[chosen], y[chosen], s=size, marker=style.marker, **looks[kind])
    ringed = drawn & trials.front
    if ringed.any():
        ring: dict[str, Any] = {"facecolors": "none", "edgecolors": "black", "linewidths": 0.7, "zorder": 3}
        ax.scatter(x[ringed], y[ringed], s=34, marker="o", gid=_RINGS, **ring)
    return True


def add_trials(
    figure: go.Figure,
    x: np.ndarray,
    y: np.ndarray,
    trials: Trials,
    /,
    *,
    panel: Panel = (1, 1),
    most: int = MOST_POINTS,
) -> None:
    """Add the trials to a figure for the screen as `scatter` draws them.

    Each trace's `meta` is its method and each point's `customdata` its row.

    Args:
        figure: The figure.
        x: Shape (n,), NaN where unknown.
        y: Likewise.
        trials: The trials.
        panel: Row and column of the figure's panel, from 1.
        most: Most trials beside the front that are drawn, evenly thinned.
    """
    drawn = thinned(trials.front, np.isfinite(x) & np.isfinite(y), most=most)
    if not drawn.any():
        say(figure, "not measured", row=panel[0], column=panel[1])
    for kind, chosen in trials.kinds(drawn).items():
        for method, style in trials.styles.items():
            of_method = chosen & (trials.methods == method)
            looks: dict[str, dict[str, Any]] = {
                "hollow": {"symbol": f"{style.symbol}-open", "color": GREY, "size": 7},
                "pale": {
                    "symbol": style.symbol,
                    "color": style.pale,
                    "size": 7,
                    "line": {"width": 0.7, "color": style.colour},
                },
                "full": {"symbol": style.symbol, "color": style.colour, "size": 7},
            }
            if of_method.any():
                label = {"customdata": np.flatnonzero(of_method).tolist(), "hovertemplate": HOVER}
                figure.add_trace(_points(x, y, of_method, method, looks[kind], **label), *panel)
    ring = {"symbol": "circle-open", "color": "black", "size": 14, "line": {"width": 1.5}}
    for method in trials.styles:
        if (ringed := drawn & trials.front & (trials.methods == method)).any():
            figure.add_trace(_points(x, y, ringed, method, ring, hoverinfo="skip"), *panel)


def _points(
    x: np.ndarray, y: np.ndarray, chosen: np.ndarray, method: str, marker: dict[str, Any], **more: Any
) -> go.Scatter:
    return go.Scatter(x=numbers(x[chosen]), y=numbers(y[chosen]), mode="markers", meta=method, marker=marker, **more)


def log_ticks(values: np.ndarray, /) -> dict[str, Any]:
    """Return a logarithmic axis for the screen with round values to mark within those shown, however close they are.

    Args:
        values: Any shape; those that are not finite and above 0 are left out.
    """
    known = values[np.isfinite(values) & (values > 0)]
    if not known.size or known.min() == known.max():
        return LOG
    marks = ColourScale(low=float(known.min()), high=float(known.max())).ticks()
    return {"type": "log", "tickvals": marks, "ticktext": [f"{mark:g}" for mark in marks]}


def thinned(front: np.ndarray, others: np.ndarray, /, *, most: int) -> np.ndarray:
    """Mark what is drawn where all would be too much: the front, and evenly thinned the others, shape (n,).

    Args:
        front: Marks the front, shape (n,).
        others: Marks what may be drawn, the front within it too.
        most: Most that are drawn beside the front.
    """
    beside = np.flatnonzero(others & ~front)
    drawn: np.ndarray = others & front
    drawn[beside[:: max(1, math.ceil(len(beside) / most))]] = True
    return drawn


def handles_of(trials: Trials, /) -> list[Line2D]:
    """Return legend entries: the methods with their trials, and what rings, paleness and hollowness mean."""
    counts = Counter(trials.methods.tolist())
    handles = [
        sample(style.marker, f"{style.label} ({counts[method]})", color=style.colour)
        for method, style in trials.styles.items()
    ]
    if trials.front.any():
        handles.append(sample("o", "front", markersize=6, markerfacecolor="none", markeredgecolor="black"))
    if (trials.sound & ~trials.independent).any() and trials.independent.any():
        handles.append(sample("o", "pale: sampler's own", color="0.75"))
    if trials.hollow:
        handles.append(sample("o", f"hollow: {trials.hollow}", markerfacecolor="none", markeredgecolor="0.45"))
    return handles
