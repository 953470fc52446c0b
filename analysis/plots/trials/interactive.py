"""The front for the screen: on a plane, in space, and as one offline HTML file; the labels of its trials."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from textwrap import wrap
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go

from analysis.data.anchors import Anchor
from analysis.data.results import Table
from analysis.fronts.objectives import FRONT, missed_constraints
from analysis.fronts.strong_attacks import StrongResult
from analysis.method_styles import short_name, styles_for
from analysis.plots.screen import GREY, HOVER, MOST_SVG, RED, add_ring, empty_chart, numbers, say, set_text
from analysis.plots.shades import UNMEASURED, UNMEASURED_EDGE, plotly_scale
from analysis.plots.trials.front_view import ColourScale, ParetoView, pareto_view
from analysis.plots.trials.label_places import place_labels, stacks
from analysis.plots.trials.names_on_front import TIMES, labelled
from analysis.plots.trials.trial_points import thinned
from analysis.statistics.networks.separated_classifier import NAME, SeparatedClassifier
from analysis.wording import LOWER_BOUND

Colour = Literal["method", "lipschitz"]

MOST_IN_SPACE = 3000
"""Most trials beside the front that the chart in space draws."""

_EDGE = {"color": "black", "width": 1.2}
_SILENT: dict[str, Any] = {"hoverinfo": "skip", "showlegend": False}
_FALL, _PROVED = {"color": "#b2182b", "width": 2}, {"color": "#2166ac", "width": 2, "dash": "dot"}
_CROSS = {"symbol": "x-thin", "size": 12, "line": {"color": "#b2182b", "width": 2}}
_UNMEASURED: dict[str, Any] = {"color": UNMEASURED, "line": {"color": UNMEASURED_EDGE, "width": 1}}
_STAR = {"symbol": "star-open", "size": 15, "color": "black", "line": {"width": 1.5}}

_THEORY_LETTERS = 150
"""Letters of a line below the title."""

_SHEET = (760.0, 400.0)
"""Pixels of the plane on a screen of usual size, for which the labels find their places."""


def pareto_plotly(
    table: Table,
    /,
    *,
    objectives: Sequence[str] = FRONT,
    strong: Mapping[str, StrongResult] | None = None,
    classifier: SeparatedClassifier | None = None,
    anchors: Sequence[Anchor] = (),
) -> go.Figure:
    """Return the plotly figure of a result table.

    Hover tells a trial's id, hyperparameters and measures; a click on a method in the legend hides or shows it.

    Raises:
        MixedStudiesError: The rows differ in what they measure; see `require_like_for_like`.
    """
    view = pareto_view(table, objectives=objectives, strong=strong, classifier=classifier, anchors=anchors)
    figure = front_chart(view)
    if len(view.anchors):
        x, y = map(numbers, view.anchors.T)
        names = [escape(anchor.name) for anchor in anchors]
        look: dict[str, Any] = {"symbol": "cross-thin", "size": 9, "line": {"color": GREY, "width": 1.5}}
        figure.add_scatter(
            x=x, y=y, mode="markers", marker=look, text=names, name=view.anchors_label,
            hovertemplate="%{text}<br>%{x:.4f}, %{y:.4f}<extra></extra>",
        )  # fmt: skip
    texts = hover_texts(table, strong=strong)
    for trace in figure.data:
        if trace.customdata is not None:
            trace.update(text=[texts[row] for row in trace.customdata], customdata=None)
    for method, style in styles_for(view.methods).items():
        sample = {"symbol": style.symbol, "color": "#bfbfbf", "size": 9, "line": _EDGE}
        name = f"{escape(style.label)} ({view.methods.count(method)})"
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=sample, name=name, legendgroup=method)
    zoomed = " (double-click: all)" if view.outside else ""
    looks = [f"hollow: {view.hollow}, never on the front"] if view.hollow else []
    looks += ["red: what strong attacks leave"] if np.isfinite(view.strong[view.front]).all(axis=1).any() else []
    looks += ["blue: what is certified"] if np.isfinite(view.certified[view.front]).all(axis=1).any() else []
    looks += [f"{TIMES}n: n trials at one place"] if _counts(view) else []
    hollow = f"<br><sup>{'; '.join(looks)}</sup>" if looks else ""
    theory = [escape(line) for line in wrap(view.theory_text, _THEORY_LETTERS)]
    lines = "".join(f"<br><sup>{line}</sup>" for line in theory)
    figure.update_layout(
        title={"text": escape(view.small_print) + zoomed + hollow + lines, "font": {"size": 13}},
        height=None,
        margin={"t": 100 + 24 * len(theory)},
        showlegend=True,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
    )
    return figure


def front_chart(view: ParetoView, /, *, colour: Colour = "lipschitz") -> go.Figure:
    """Return the front on a plane as the printed figure has it, with the infeasible trials' own front dotted.

    Each trace's `meta` is its method, by which a page filters, and each point's `customdata` its row, which is the
    place of its label in `hover_texts`. Members have their trial's id beside them, and places of several trials their
    number. The last trace is an empty ring for the trial that a reader chooses.

    Args:
        view: What is shown.
        colour: What the colours mean.
    """
    figure = empty_chart(520)
    limits = np.transpose([view.limits(0), view.limits(1)])
    ends = np.concatenate([view.points[view.drawn], limits])
    for members, name, line in (
        (view.infeasible_front, "front of infeasible trials", {"color": GREY, "width": 1, "dash": "dot"}),
        (view.front, "front", {"color": "#444", "width": 1.5}),
    ):
        stairs = view.staircase(ends.min(axis=0).tolist(), ends.max(axis=0).tolist(), of=members)
        if len(stairs):
            x, y = map(numbers, stairs.T)
            figure.add_scatter(x=x, y=y, mode="lines", line=line, name=name, hoverinfo="skip")
    if not view.drawn.any():
        say(figure, "no measured trial")
    points = go.Scattergl if view.drawn.sum() > MOST_SVG else go.Scatter
    for method, chosen, marker in _looks(view, colour):
        x, y = map(numbers, view.points[chosen].T)
        figure.add_trace(points(x=x, y=y, marker=marker, **_labelled(method, chosen)))
    for method, rows, texts, sides in _names(view):
        x, y = map(numbers, view.points[rows].T)
        look = {"textposition": sides, "textfont": {"size": 11, "color": "black"}}
        figure.add_scatter(
            x=x, y=y, mode="text", texttemplate=texts, meta=method, legendgroup=method, **look, **_SILENT
        )
    for low, line in ((view.certified, _PROVED), (view.strong, _FALL)):
        for method, x, y in _lines_to(low, view):
            figure.add_scatter(x=x, y=y, mode="lines", meta=method, legendgroup=method, line=line, **_SILENT)
    fallen = view.points[view.front & view.fallen]
    if len(fallen):
        x, y = map(numbers, fallen.T)
        figure.add_scatter(x=x, y=y, mode="markers", marker=_CROSS, **_SILENT)
    if view.theory is not None:
        across, up = view.theory
        said = "<br>".join(escape(line) for line in wrap(view.theory_text, 60))
        figure.add_scatter(
            x=[across], y=[up], mode="markers", marker=_STAR, name=NAME, hovertemplate=f"{said}<extra></extra>"
        )
    add_ring(figure)
    figure.update_xaxes(title_text=set_text(view.x_label), range=view.limits(0))
    figure.update_yaxes(title_text=set_text(view.y_label), range=view.limits(1))
    scale = view.colour_scale() if colour == "lipschitz" else None
    figure.update_layout(coloraxis=_colour_axis(view, scale) if scale else {"showscale": False})
    return figure


def space_chart(view: ParetoView, z: np.ndarray, z_label: str, /) -> go.Figure:
    """Return the front in space, colour and shape by method, over at most `MOST_IN_SPACE` trials beside it.

    Args:
        view: The plane, and who is on its front.
        z: The third coordinate, shape (n,), NaN where unknown.
        z_label: What it is.
    """
    figure = empty_chart(520, specs=[[{"type": "scene"}]])
    drawn = thinned(view.front, view.drawn & np.isfinite(z), most=MOST_IN_SPACE)
    methods = np.asarray(view.methods)
    for method, style in styles_for(view.methods).items():
        for part, marker in (
            (view.dominated, {"symbol": style.in_space, "color": style.colour, "size": 4, "opacity": 0.5}),
            (view.doubtful, {"symbol": style.hollow_in_space, "color": GREY, "size": 4}),
            (view.front, {"symbol": style.in_space, "color": style.colour, "size": 8, "line": _EDGE}),
        ):
            chosen = part & drawn & (methods == method)
            if chosen.any():
                x, y = map(numbers, view.points[chosen].T)
                figure.add_scatter3d(x=x, y=y, z=numbers(z[chosen]), marker=marker, **_labelled(method, chosen))
    ring = {"symbol": "circle-open", "size": 14, "color": RED}
    figure.add_scatter3d(x=[], y=[], z=[], mode="markers", marker=ring, **_SILENT)
    labels = dict(zip(("xaxis", "yaxis", "zaxis"), (view.x_label, view.y_label, z_label), strict=True))
    axes: dict[str, Any] = {
        name: {"title": {"text": set_text(label.partition("\n")[0])}} for name, label in labels.items()
    }
    axes["xaxis"]["range"], axes["yaxis"]["range"] = view.limits(0), view.limits(1)
    figure.update_scenes(aspectmode="cube", camera={"eye": {"x": 1.6, "y": -1.6, "z": 0.9}}, **axes)
    figure.update_layout(margin={"l": 0, "r": 0, "t": 0, "b": 0})
    return figure


def _lines_to(low: np.ndarray, view: ParetoView) -> Iterator[tuple[str, list[Any], list[Any]]]:
    """Yield by method the lines from its members to what attacks leave or a proof holds of them, with gaps between."""
    known = view.front & np.isfinite(low).all(axis=1)
    for method in styles_for(view.methods):
        of_method = np.flatnonzero(known & (np.asarray(view.methods) == method))
        if len(of_method):
            gaps = np.full((len(of_method), 2), np.nan)
            lines = np.stack([view.points[of_method], low[of_method], gaps], axis=1).reshape(-1, 2)
            yield method, numbers(lines[:, 0]), numbers(lines[:, 1])


def _counts(view: ParetoView) -> list[list[int]]:
    """Return groups of trials at exactly one place, the uppermost first; nearer ones part when zoomed into."""
    return stacks(np.where(view.inside[:, None], view.points, np.nan), view.drawing_order, reach=0.0)


def _names(view: ParetoView) -> Iterator[tuple[str, np.ndarray, list[str], list[str]]]:
    """Yield by method the rows that have a label, their labels, and on which side of the point each is."""
    texts = labelled(view, _counts(view))
    rows = np.array(sorted(texts, key=lambda row: (not view.front[row], row)), dtype=int)
    if not len(rows):
        return
    low, high = np.asarray([view.limits(axis) for axis in (0, 1)]).T
    scaled = (view.points - low) / (high - low) * _SHEET
    sizes = np.array([(6.5 * len(texts[row]), 13.0) for row in rows])
    symbols = np.concatenate([scaled - 5, scaled + 5], axis=1)[view.inside]
    places = place_labels(scaled[rows], sizes, symbols, bounds=(0, 0, *_SHEET), gap=5, rings=1)
    methods = np.asarray(view.methods)[rows]
    for method in styles_for(view.methods):
        own = [at for at in range(len(rows)) if methods[at] == method and places[at] is not None]
        if own:
            sides = [_side(places[at] or (0.0, 0.0)) for at in own]
            yield (
                method,
                rows[own],
                [_beside(texts[rows[at]], side) for at, side in zip(own, sides, strict=True)],
                sides,
            )


def _side(offset: tuple[float, float]) -> str:
    up = "top" if offset[1] > 0 else "bottom" if offset[1] < 0 else "middle"
    return f"{up} {'right' if offset[0] > 0 else 'left' if offset[0] < 0 else 'center'}"


def _beside(text: str, side: str) -> str:
    """Return a label with room for the symbol, which plotly leaves only to a trace that draws the symbols itself."""
    space = 2 * "\N{NO-BREAK SPACE}"
    if side.endswith("center"):
        return f"{escape(text)}<br>{space}" if side.startswith("top") else f"{space}<br>{escape(text)}"
    return f"{space}{escape(text)}" if side.endswith("right") else f"{escape(text)}{space}"


def _labelled(method: str, chosen: np.ndarray) -> dict[str, Any]:
    rows = np.flatnonzero(chosen).tolist()
    return {
        "mode": "markers", "meta": method, "legendgroup": method, "showlegend": False, "customdata": rows,
        "hovertemplate": HOVER,
    }  # fmt: skip


def _looks(view: ParetoView, colour: Colour) -> Iterator[tuple[str, np.ndarray, dict[str, Any]]]:
    """Yield a method, some of its points, and their marker: dominated ones first, the front last and so on top.

    Plotly cannot mix numbers on a colour axis with fixed greys in one trace, so each way to colour has its own.
    """
    methods, scale = np.asarray(view.methods), view.colour_scale() if colour == "lipschitz" else None
    coloured = np.isfinite(view.lipschitz) & (scale is not None)
    for part, look in (
        (view.dominated, {"size": 8, "line": {"width": 0.5, "color": "white"}}),
        (view.doubtful, {"size": 8, "color": GREY, "line": {"width": 1.2, "color": GREY}}),
        (view.front, {"size": 12, "line": _EDGE}),
    ):
        for method, style in styles_for(view.methods).items():
            of_method = part & view.drawn & (methods == method)
            if part is view.doubtful and of_method.any():
                yield method, of_method, {"symbol": f"{style.symbol}-open", **look}
                continue
            if scale and (on_axis := of_method & coloured).any():
                shades = {"color": numbers(_on_axis(view.lipschitz[on_axis], scale)), "coloraxis": "coloraxis"}
                yield method, on_axis, {"symbol": style.symbol, **look, **shades}
            if (rest := of_method & ~coloured).any():
                plain = {"color": style.colour} if colour == "method" else _UNMEASURED
                yield method, rest, {"symbol": style.symbol, **look, **plain}


def _on_axis(lipschitz: np.ndarray, scale: ColourScale) -> np.ndarray:
    return np.log10(np.maximum(lipschitz, scale.low)) if scale.log else lipschitz


def _colour_axis(view: ParetoView, scale: ColourScale) -> dict[str, Any]:
    low, high = _on_axis(np.array([scale.low, scale.high]), scale)
    ticks = {}
    if scale.log:
        marks = scale.ticks()
        ticks = {"tickvals": np.log10(marks).tolist(), "ticktext": [f"{mark:g}" for mark in marks]}
    title = {"text": set_text(view.colour_label), "side": "right", "font": {"size": 12}}
    bar = {"title": title, "thickness": 14, **ticks}
    return {"colorscale": plotly_scale(), "cmin": low, "cmax": high, "colorbar": bar}


def hover_texts(
    table: Table,
    /,
    probability: Mapping[str, float] | None = None,
    *,
    strong: Mapping[str, StrongResult] | None = None,
) -> list[str]:
    """Return each row's label, escaped, with line breaks as plotly and HTML have them.

    Args:
        table: Result rows.
        probability: To be truly on the front, by trial.
        strong: Members' values under strong attacks, by trial.
    """
    chance, attacked = probability or {}, strong or {}
    return [_hover(row, chance.get(row["trial_id"]), attacked.get(row["trial_id"])) for row in table.to_pylist()]


def _hover(row: dict[str, Any], chance: float | None, strong: StrongResult | None) -> str:
    params = {name: value for name, value in row.items() if name.startswith("param.") and value is not None}
    lines = [
        f"<b>{escape(row['trial_id'])}</b> ({escape(row['study'])}, {escape(row['proposal'])})",
        escape(short_name(row["method"])),
    ]
    lines += [f"{escape(name.removeprefix('param.'))} = {value:.4g}" for name, value in params.items()]
    lines += [f"{escape(name)} = {escape(str(value))}" for name, value in json.loads(row["options"] or "{}").items()]
    if row["train_epsilon"] is not None:
        lines.append(f"train ε = {row['train_epsilon']:.4g}")
    for label, column in (("clean", "val_clean_accuracy"), ("robust", "val_robust_accuracy")):
        if row[column] is not None:
            lines.append(f"{label} accuracy (val) = {row[column]:.4f}")
    if strong is not None:
        lines.append(f"under strong attacks {strong.robust:.3f}, {strong.searched:.3f} before, {strong.images} images")
        lines += [f"doubtful: {', '.join(strong.doubts)}"] if strong.doubts else []
    if row["val_certified_accuracy"] is not None:
        lines.append(f"certified accuracy (val) = {row['val_certified_accuracy']:.4f}")
    elif strong is not None and strong.certified is not None:
        lines.append(f"certified {strong.certified:.4f} on these {strong.images} images")
    if row["val_lipschitz_mean"] is not None:
        lines.append(f"{LOWER_BOUND} (val mean) = {row['val_lipschitz_mean']:.4g}")
    if chance is not None:
        lines.append(f"truly on the front with probability {chance:.2g}")
    if row["status"] != "completed":
        lines.append(escape(row["status"].replace("_", " ")))
    if row["flags"]:
        lines.append(f"flags: {escape(', '.join(row['flags']))}")
    lines += [f"infeasible: missed {escape(constraint)}" for constraint in missed_constraints(row)]
    return "<br>".join(lines)
