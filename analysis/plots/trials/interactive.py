"""The Pareto figure for the screen: one offline HTML file with hover."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from analysis.data.results import Table
from analysis.fronts.objectives import FRONT
from analysis.method_styles import MethodStyle, styles_for
from analysis.plots.trials.front_view import ColourScale, ParetoView, pareto_view
from analysis.wording import L_2, L_INF, LOWER_BOUND

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title>
<style>html, body {{ margin: 0; height: 100%; }} body > div {{ height: 99vh; }}</style></head>
<body>
{chart}
</body>
</html>
"""


def pareto_html(table: Table, /, *, objectives: Sequence[str] = FRONT, allow_mixed: bool = False) -> str:
    """Return a page that shows the front, with plotly's script inside, so that it opens without a network.

    Hover tells a trial's id, hyperparameters and measures; a click on a method in the legend hides or shows it.

    Raises:
        MixedStudiesError: The rows differ in what they measure, and `allow_mixed` is not set.
    """
    figure = pareto_plotly(table, objectives=objectives, allow_mixed=allow_mixed)
    return offline_page(figure, title=f"Pareto front: {', '.join(dict.fromkeys(table['study'].to_pylist()))}")


def offline_page(figure: go.Figure, /, *, title: str) -> str:
    """Return a page that holds one figure and plotly's script, so that it opens without a network."""
    # plotly's tool bar otherwise offers to upload the data to its makers.
    config = {"displaylogo": False, "responsive": True, "showSendToCloud": False}
    chart = figure.to_html(
        include_plotlyjs=True, full_html=False, div_id="pareto", default_height="100%", config=config
    )
    return _PAGE.format(title=escape(title), chart=chart)


def plotly_script() -> str:
    """Return plotly's script, to be written once into a page that draws its own charts."""
    from plotly.offline import get_plotlyjs

    script: str = get_plotlyjs()
    return script


def pareto_plotly(table: Table, /, *, objectives: Sequence[str] = FRONT, allow_mixed: bool = False) -> go.Figure:
    """Return the plotly figure of a result table; see `pareto_html`."""
    view = pareto_view(table, objectives=objectives, allow_mixed=allow_mixed)
    hover = [_hover(row) for row in table.to_pylist()]
    low, high = zip(view.limits(0), view.limits(1), strict=True)
    figure = go.Figure()
    stairs = view.staircase(low, high)
    if len(stairs):
        figure.add_trace(
            go.Scatter(
                x=stairs[:, 0],
                y=stairs[:, 1],
                mode="lines",
                line={"color": "#444", "width": 1.5},
                name="front",
                hoverinfo="skip",
            )
        )
    for method, style in styles_for(view.methods).items():
        _add_method(figure, view, np.asarray(view.methods) == method, style, hover)
    scale = view.colour_scale()
    zoomed = " (double-click: all)" if view.outside else ""
    hollow = f"<br><sup>hollow: {view.hollow}, never on the front</sup>" if view.hollow else ""
    figure.update_layout(
        template="simple_white",
        title={"text": escape(view.small_print) + zoomed + hollow, "font": {"size": 13}},
        xaxis={"title": {"text": _breaks(view.x_label)}, "range": view.limits(0), "showgrid": True},
        yaxis={"title": {"text": _breaks(view.y_label)}, "range": view.limits(1), "showgrid": True},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
        coloraxis=_colour_axis(view, scale) if scale else {"showscale": False},
        hoverlabel={"align": "left"},
    )
    if not view.drawn.any():
        figure.add_annotation(text="no measured trial", x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)
    return figure


def _add_method(figure: go.Figure, view: ParetoView, mine: np.ndarray, style: MethodStyle, hover: list[str]) -> None:
    """Add a method's points as one legend group, so that one click hides them all.

    Plotly cannot mix numbers on a colour axis with fixed greys in one trace, so each way to colour has its own.
    """
    scale = view.colour_scale()
    measured = np.isfinite(view.lipschitz)
    sound = mine & view.drawn & ~view.doubtful
    group = {"legendgroup": style.label, "name": f"{style.label} ({int(mine.sum())})", "mode": "markers"}
    sample = {"symbol": style.symbol, "color": "#999", "size": 9, "line": {"color": "black", "width": 1}}
    figure.add_trace(go.Scatter(x=[None], y=[None], marker=sample, **group))
    on_axis: dict[str, Any] = {"coloraxis": "coloraxis"}
    if scale:
        on_axis["color"] = _on_axis(view.lipschitz[sound & measured], scale)
    for chosen, symbol, colours in (
        (sound & measured, style.symbol, on_axis),
        (sound & ~measured, style.symbol, {"color": "#999"}),
        (mine & view.doubtful, f"{style.symbol}-open", {"color": "#777"}),
    ):
        if not chosen.any():
            continue
        front, hollow = view.front[chosen], symbol.endswith("-open")
        marker = {
            "symbol": symbol,
            "size": np.where(front, 12, 8),
            "opacity": np.where(front, 1.0, 0.9 if hollow else 0.5),
            "line": {"width": np.where(front | hollow, 1.2, 0.0), "color": "#777" if hollow else "black"},
        }
        figure.add_trace(
            go.Scatter(
                x=view.points[chosen, 0],
                y=view.points[chosen, 1],
                text=[hover[index] for index in np.flatnonzero(chosen)],
                hovertemplate="%{text}<extra></extra>",
                marker={**marker, **colours},
                showlegend=False,
                **group,
            )
        )


def _on_axis(lipschitz: np.ndarray, scale: ColourScale) -> np.ndarray:
    return np.log10(np.maximum(lipschitz, scale.low)) if scale.log else lipschitz


def _colour_axis(view: ParetoView, scale: ColourScale) -> dict[str, Any]:
    low, high = _on_axis(np.array([scale.low, scale.high]), scale)
    ticks = {}
    if scale.log:
        marks = scale.ticks()
        ticks = {"tickvals": np.log10(marks).tolist(), "ticktext": [f"{mark:g}" for mark in marks]}
    title = {"text": _breaks(view.colour_label), "side": "right", "font": {"size": 12}}
    return {
        "colorscale": "cividis_r",
        "cmin": low,
        "cmax": high,
        "colorbar": {"title": title, "thickness": 14, **ticks},
    }


def _hover(row: dict[str, Any]) -> str:
    params = {name: value for name, value in row.items() if name.startswith("param.") and value is not None}
    lines = [f"<b>{escape(row['trial_id'])}</b> ({escape(row['study'])}, {row['proposal']})", escape(row["method"])]
    lines += [f"{escape(name.removeprefix('param.'))} = {value:.4g}" for name, value in params.items()]
    lines += [f"{escape(name)} = {escape(str(value))}" for name, value in json.loads(row["options"] or "{}").items()]
    if row["train_epsilon"] is not None:
        lines.append(f"train ε = {row['train_epsilon']:.4g}")
    for label, column in (("clean", "val_clean_accuracy"), ("robust", "val_robust_accuracy")):
        if row[column] is not None:
            lines.append(f"{label} accuracy (val) = {row[column]:.4f}")
    if row["val_lipschitz_mean"] is not None:
        lines.append(f"{LOWER_BOUND} (val mean) = {row['val_lipschitz_mean']:.4g}")
    if row["status"] != "completed":
        lines.append(row["status"].replace("_", " "))
    if row["flags"]:
        lines.append(f"flags: {escape(', '.join(row['flags']))}")
    return "<br>".join(lines)


def _breaks(text: str) -> str:
    return escape(text).replace("\n", "<br>").replace(L_INF, "\u2113<sub>∞</sub>").replace(L_2, "\u2113<sub>2</sub>")
