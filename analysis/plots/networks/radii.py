"""Accuracy against the attack's radius for each front member, and the radii the theorem reaches."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.data.results import Table
from analysis.method_styles import styles_for, trial_colours
from analysis.plots.figure import (
    COLUMN_WIDTH,
    PaperFigure,
    add_small_print,
    blank,
    lines,
    paper_style,
    sample,
    say_nothing_is_there,
)
from analysis.plots.screen import empty_chart, say, set_text
from analysis.statistics.networks.radius_curves import Curve
from analysis.statistics.networks.separated_classifier import NAME, SeparatedClassifier, classifier_point
from analysis.statistics.networks.theorem_radius import TheoremRadius
from analysis.tables.text_table import Cell
from analysis.wording import NORMS, measured_by, provenance, radius

HEADINGS = ("trial_id", "method", "split", "attack", "norm", "examples", "epsilon", "robust_accuracy")

_GAP = 0.045

_UPRIGHT = (-0.02, 1.04)
"""Ends of the axis of accuracies."""

_CERTIFIED: dict[str, Any] = {"color": "0.15", "linewidth": 2.2, "alpha": 0.35, "drawstyle": "steps-post"}
"""Of the theorem's classifier, which is no trial: broad and pale, behind no curve's name."""

_TWO_POINTS: dict[str, Any] = {"linestyle": ":", "linewidth": 0.7}


def _draw(curves: Sequence[Curve], ax: Axes, reach: TheoremRadius | None, certified: Curve | None) -> None:
    styles, colours = styles_for(curve.method for curve in curves), _colours(curves)
    for curve in curves:
        style = styles[curve.method]
        look: dict[str, Any] = {"linestyle": style.line, "linewidth": 1.0} if curve.measured else _TWO_POINTS
        look |= {"color": colours[curve.trial_id], "marker": style.marker, "markersize": 3}
        ax.plot(curve.radii, curve.accuracies, gid="curve", **look)
    _name(curves, ax, offset=0.02 * _top(curves))
    shown = _shown(curves, reach)
    if reach is not None:
        ax.axvspan(0, min(reach.radius, 1.12 * shown), facecolor="0.93", edgecolor="none", zorder=0)
        if reach.radius <= shown:
            ax.axvline(reach.radius, color="0.35", linewidth=0.8, linestyle=":", zorder=1)
    if certified is not None:
        ax.plot(certified.radii, certified.accuracies, gid="certified", **_CERTIFIED)
    ax.set(xlim=(-0.02 * shown, 1.12 * shown), ylim=_UPRIGHT)
    if not curves:
        say_nothing_is_there(ax, "no front member")


def _colours(curves: Sequence[Curve]) -> dict[str, str]:
    return trial_colours({curve.trial_id: curve.method for curve in curves})


def _top(curves: Sequence[Curve]) -> float:
    return max((curve.radii[-1] for curve in curves), default=0.0) or 1.0


def _shown(curves: Sequence[Curve], reach: TheoremRadius | None) -> float:
    """Return the largest radius that is shown: of the curves, or the reach where it ends not far beyond them."""
    top = _top(curves)
    return top if reach is None else max(top, min(1.05 * reach.radius, 3 * top))


def radii_sheet(
    curves: Sequence[Curve],
    table: Table,
    /,
    *,
    reach: TheoremRadius | None = None,
    classifier: SeparatedClassifier | None = None,
    width: float = COLUMN_WIDTH,
) -> PaperFigure:
    """Return the figure of front members: a line for each trial, its number at the end.

    The radii at which a perfect classifier exists are shaded. A trial with two radii only is drawn as two points joined
    by dots: nothing was measured between them.

    Args:
        curves: Theirs.
        table: The study's result rows.
        reach: Of the study's training images, or of its data set.
        classifier: The theorem's classifier, whose certified accuracy is a curve too.
        width: Inches.
    """
    with paper_style():
        own = sorted(set(table["eval_epsilon"].to_pylist()))
        methods = styles_for(curve.method for curve in curves).values()
        legend = [
            sample(style.marker, style.label, color=style.colour, linestyle=style.line, markersize=3, linewidth=1)
            for style in methods
        ]
        certified = _certified(classifier, table, _shown(curves, reach))
        legend += _marks(own, reach, curves)
        legend += [] if certified is None else [Line2D([], [], label=f"{NAME}, certified", **_CERTIFIED)]
        figure = blank(width, 0.55 * width + 0.7, legend=legend)
        ax = figure.add_subplot()
        _draw(curves, ax, reach, certified)
        for value in own:
            ax.axvline(value, color="0.35", linewidth=0.7, linestyle="--", zorder=1)
        across, up = _labels(curves, table)
        ax.set_xlabel(lines(across, 60))
        ax.set_ylabel(lines(up, 40))
        counts = ", ".join(dict.fromkeys(f"{curve.examples}" for curve in curves if curve.measured))
        images = f" · curves on {counts} images" if counts else ""
        add_small_print(figure, f"{provenance(table)}{images} · front: {measured_by(table)}")
        rows = curve_rows([*curves, *([] if certified is None else [certified])])
    return PaperFigure(name="accuracy_against_epsilon", figure=figure, headings=HEADINGS, rows=rows)


def radii_chart(
    curves: Sequence[Curve],
    table: Table,
    /,
    *,
    reach: TheoremRadius | None = None,
    classifier: SeparatedClassifier | None = None,
) -> go.Figure:
    """Return the same for the screen: each curve with its trial in a legend, what it was measured on in its label."""
    figure = empty_chart(420)
    shown = _shown(curves, reach)
    styles, colours = styles_for(curve.method for curve in curves), _colours(curves)
    for curve in curves:
        style = styles[curve.method]
        look = {"dash": style.plotly_line, "width": 2} if curve.measured else {"dash": "dot", "width": 1}
        on = f"{curve.attack} on {'' if curve.measured else 'at most '}{curve.examples} {curve.split} images"
        name = escape(f"{curve.trial_id} {style.label}")
        figure.add_scatter(
            x=list(curve.radii), y=list(curve.accuracies), mode="lines+markers", name=name, meta=curve.method,
            line={"color": colours[curve.trial_id], **look}, marker={"symbol": style.symbol, "size": 7},
            hovertemplate=f"{name}<br>ε = %{{x:.4g}}: %{{y:.4f}}<br>{escape(on)}<extra></extra>",
        )  # fmt: skip
    certified = _certified(classifier, table, _shown(curves, reach))
    if certified is not None:
        said = f"{NAME}<br>ε = %{{x:.4g}}: certified %{{y:.4f}}<br>on {certified.examples} val images<extra></extra>"
        line = {"color": "rgba(0, 0, 0, 0.35)", "width": 5, "shape": "hv"}
        x, y = list(certified.radii), list(certified.accuracies)
        figure.add_scatter(x=x, y=y, mode="lines", name=f"{NAME}, certified", line=line, hovertemplate=said)
    if reach is not None:
        figure.add_vrect(0, min(reach.radius, 1.12 * shown), fillcolor="#eee", line_width=0, layer="below")
        caption = set_text(f"grey: {reach_caption(reach)}".replace("\n", " "))
        above = {"x": 0, "xref": "x", "xanchor": "left", "y": 1, "yref": "paper", "yanchor": "bottom"}
        figure.add_annotation(text=caption, showarrow=False, font={"size": 12}, **above)
        figure.update_layout(margin={"t": 30})
    for value in sorted(set(table["eval_epsilon"].to_pylist())):
        figure.add_vline(value, line={"color": "#555", "dash": "dash", "width": 1})
    across, up = _labels(curves, table)
    figure.update_xaxes(title_text=set_text(across), range=[-0.02 * shown, 1.12 * shown])
    figure.update_yaxes(title_text=set_text(up), range=_UPRIGHT)
    figure.update_layout(showlegend=True, legend={"font": {"size": 11}})
    if not curves:
        say(figure, "no front member")
    return figure


def _certified(classifier: SeparatedClassifier | None, table: Table, upto: float) -> Curve | None:
    """Return the certified accuracy over the axis, on the images that trials are measured on; None if unknown."""
    point = classifier_point(classifier, table)
    return None if classifier is None or point is None else classifier.curve(1.12 * upto, examples=point.examples)


def _labels(curves: Sequence[Curve], table: Table) -> tuple[str, str]:
    norms = " | ".join(dict.fromkeys(NORMS.get(norm, norm) for norm in table["norm"].to_pylist()))
    splits = " | ".join(dict.fromkeys(curve.split for curve in curves)) or "val"
    attacks = " | ".join(dict.fromkeys(curve.attack for curve in curves))
    return f"radius ε of the attack ({norms}, pixel range [0, 1])", f"robust accuracy ({splits})\n{attacks}"


def curve_rows(curves: Sequence[Curve], /) -> tuple[tuple[Cell, ...], ...]:
    """Return the curves as rows of `HEADINGS`, one a radius."""
    return tuple(
        (curve.trial_id, curve.method, curve.split, curve.attack, curve.norm, curve.examples, at, accuracy)
        for curve in curves
        for at, accuracy in zip(curve.radii, curve.accuracies, strict=True)
    )


def reach_caption(reach: TheoremRadius, /) -> str:
    """Return what the theorem promises for a data set, in one phrase."""
    of = "images" if not reach.contradicting else "images that contradict none"
    return f"ε < r = {reach.radius:.4g}: an accurate and robust\nclassifier of these {of} exists"


def _name(curves: Sequence[Curve], ax: Axes, *, offset: float) -> None:
    """Write each curve's trial beside its end, pushed apart where curves are close."""
    points = sorted((curve.accuracies[-1], curve.radii[-1], curve.trial_id) for curve in curves)
    heights = np.array([height for height, _, _ in points])
    for place in range(1, len(heights)):
        heights[place] = max(heights[place], heights[place - 1] + _GAP)
    heights -= max(0.0, heights[-1] - 1.0) if len(heights) else 0.0
    colours = _colours(curves)
    ground = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.4}
    for (_, at, trial), height in zip(points, heights, strict=True):
        ax.text(at + offset, float(height), trial, fontsize=5, va="center", color=colours[trial], bbox=ground)


def _marks(own: Sequence[float], reach: TheoremRadius | None, curves: Sequence[Curve]) -> list[Line2D]:
    text = " | ".join(map(radius, own))
    marks = [Line2D([], [], color="0.35", linewidth=0.7, linestyle="--", label=f"the study's ε = {text}")] * bool(own)
    if any(not curve.measured for curve in curves):
        marks.append(Line2D([], [], color="0.35", linewidth=0.7, linestyle=":", label="two radii measured"))
    if reach is not None:
        marks.append(Line2D([], [], color="0.88", linewidth=5, label=reach_caption(reach)))
    return marks
