"""What all figures for the screen share: an empty one, escaped text, plain numbers, JSON, a page without a network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs as get_plotlyjs
from plotly.subplots import make_subplots

from analysis.wording import L_2, L_INF

MOST_SVG = 2000
"""Most points that are drawn as SVG; more go through WebGL."""

HOVER = "%{text}<extra></extra>"
"""Shows a point's text, and no box for its trace beside it."""

GREY = "#777"

RED = "#d00"

ON_DARK = {
    "black": "#f0f0f0", "#444": "#c8c8c8", "#555": "#b0b0b0", GREY: "#a0a0a0", "#999": "#8a8a8a", "#bfbfbf": "#666666",
    "#eee": "#2b3138", "rgba(0, 0, 0, 0.35)": "rgba(255, 255, 255, 0.4)", "#b2182b": "#ff6b6b", RED: "#ff5050",
}  # fmt: skip
"""Colours of the charts that a dark page would hide, and their replacements there."""

_MARKS = [step * 10.0**power for power in range(-5, 7) for step in (1, 2, 5)]

LOG = {"type": "log", "tickvals": _MARKS, "ticktext": [f"{mark:g}" for mark in _MARKS]}
"""A logarithmic axis, marked at 1, 2 and 5, each in full."""

_DIGITS = 5

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title>
<style>html, body {{ margin: 0; height: 100%; }} body > div {{ height: 99vh; }}</style></head>
<body>
{chart}
</body>
</html>
"""


def empty_chart(
    height: int, /, *, rows: int = 1, columns: int = 1, titles: Sequence[str] = (), **more: Any
) -> go.Figure:
    """Return a figure without traces.

    Args:
        height: Pixels.
        rows: Panels below one another.
        columns: Panels side by side.
        titles: The title of each panel, row by row; escaped here.
        more: What else `plotly.subplots.make_subplots` takes.
    """
    figure = make_subplots(rows, columns, subplot_titles=[set_text(title) for title in titles] or None, **more)
    figure.update_annotations(font={"size": 11})
    figure.update_layout(
        template="none",
        font={"size": 13},
        height=height,
        margin={"l": 70, "r": 20, "t": 30 if titles else 10, "b": 60},
        hovermode="closest",
        hoverlabel={"align": "left"},
        showlegend=False,
    )
    letters = {"size": 13 if rows * columns == 1 else 11}
    look = {"zeroline": False, "automargin": True, "title": {"standoff": 12, "font": letters}, "tickfont": letters}
    figure.update_xaxes(**look)
    figure.update_yaxes(**look)
    return figure


def set_text(text: str, /) -> str:
    """Return text for a figure: escaped, its lines broken as plotly breaks them, norms with a subscript."""
    return escape(text).replace("\n", "<br>").replace(L_INF, "\u2113<sub>∞</sub>").replace(L_2, "\u2113<sub>2</sub>")


def numbers(column: np.ndarray, /) -> list[float | None]:
    """Return a column of five digits each, for JSON: None where a number is not finite."""
    return [float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None for value in column.tolist()]


def say(figure: go.Figure, text: str, /, *, row: int = 1, column: int = 1) -> None:
    """Write into an empty panel why it is empty."""
    x, y = (axis.plotly_name.replace("axis", "") for axis in figure.get_subplot(row, column))
    # axes without a trace are not drawn
    figure.add_scatter(x=[None], y=[None], xaxis=x, yaxis=y, hoverinfo="skip", showlegend=False)
    figure.add_annotation(text=text, x=0.5, y=0.5, xref=f"{x} domain", yref=f"{y} domain", showarrow=False)


def add_ring(figure: go.Figure, /) -> None:
    """Add as the last trace the ring that a page draws around the trial that its reader chooses; empty at first."""
    ring = {"symbol": "circle-open", "size": 22, "color": RED, "line": {"width": 3}}
    # what is drawn through WebGL covers all that is not
    points = go.Scattergl if any(trace.type == "scattergl" for trace in figure.data) else go.Scatter
    figure.add_trace(points(x=[], y=[], mode="markers", marker=ring, hoverinfo="skip", showlegend=False))


def shows_data(figure: go.Figure, /) -> bool:
    """Return whether a figure shows anything that was measured, not only text that says why it is empty."""
    return any(
        trace.type == "parcoords" or any(value is not None for value in (trace.x if trace.x is not None else ()))
        for trace in figure.data
    )


def inside_script(text: str, /) -> str:
    """Return JSON in which nothing ends a script element, opens another, or opens a comment that hides its end."""
    return re.sub("<(?=[/!sS])", r"\\u003c", text)


def offline_page(figure: go.Figure, /, *, title: str) -> str:
    """Return a page that holds one figure and plotly's script, so that it opens without a network."""
    # plotly's tool bar otherwise offers to upload the data to its makers.
    config = {"displaylogo": False, "responsive": True, "showSendToCloud": False}
    chart = figure.to_html(
        include_plotlyjs=True, full_html=False, div_id="pareto", default_height="100%", config=config
    )
    return _PAGE.format(title=escape(title), chart=chart)
