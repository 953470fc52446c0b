"""Parallel coordinates: each sound trial a line through its method, its settings and what it reached."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D

from analysis.fronts.objectives import LIPSCHITZ_FLOOR
from analysis.plots.figure import (
    COLUMN_WIDTH,
    PaperFigure,
    add_small_print,
    blank,
    lines,
    paper_style,
    say_nothing_is_there,
)
from analysis.plots.screen import empty_chart, numbers, say
from analysis.plots.trials.trial_points import HEADINGS, Trials, thinned
from analysis.statistics.association import measure
from analysis.statistics.hyperparameters import varying_settings
from analysis.wording import measured_by, radius_phrase

MOST_LINES = 600
"""Most trials drawn beside the front: more would be one grey surface."""

MOST_ON_SCREEN = 3000
"""The same on the screen, where lines can be brushed."""

MOST_SETTINGS = 4

SETTINGS_ON_SCREEN = 6

_NONE = -0.14


@dataclass(frozen=True, kw_only=True)
class Scale:
    """One upright axis.

    Args:
        name: Column of the data.
        label: The text below it.
        values: Shape (n,); NaN where a trial has none.
        log: Whether it is logarithmic.
    """

    name: str
    label: str
    values: np.ndarray
    log: bool = False

    def places(self) -> np.ndarray:
        """Return the places of the values: 0 at the lowest, 1 at the highest, below 0 where there is none."""
        shown = np.log10(self.values) if self.log else self.values
        known = np.isfinite(shown)
        if not known.any():
            return np.full(len(shown), _NONE)
        low, extent = float(shown[known].min()), float(np.ptp(shown[known]))
        return np.where(known, (shown - low) / extent if extent > 0 else 0.5, _NONE)

    def ends(self) -> tuple[float, float] | None:
        """Return the lowest and highest value, None where nothing is known."""
        known = self.values[np.isfinite(self.values)]
        return (float(known.min()), float(known.max())) if len(known) else None


def scales_of(trials: Trials, /, *, most: int = MOST_SETTINGS) -> list[Scale]:
    """Return the axes: what varies among the settings, the first `most` of it, then the outcomes."""
    varying = varying_settings(trials.table)[:most]
    settings = [
        Scale(name=each.name, label=each.label.replace(" (", "\n("), values=each.values, log=each.log)
        for each in varying
    ]
    lipschitz = np.maximum(measure(trials.table, "val_lipschitz_scale_free_mean"), LIPSCHITZ_FLOOR)
    accuracies = [
        Scale(
            name=f"val_{kind}_accuracy",
            label=f"{kind}\naccuracy\n(val)",
            values=measure(trials.table, f"val_{kind}_accuracy"),
        )
        for kind in ("clean", "robust")
    ]
    label = f"scale-free\nLipschitz\n(val mean,\n{radius_phrase(trials.table)})"
    return [
        *settings,
        *accuracies,
        Scale(name="val_lipschitz_scale_free_mean", label=label, values=lipschitz, log=True),
    ]


def _draw(trials: Trials, scales: list[Scale], rows: np.ndarray, ax: Axes) -> None:
    """Draw a line for each row, the front's on top; a trial without a setting passes below that axis, at "none"."""
    x = np.arange(len(scales))
    places = np.stack([scale.places() for scale in scales], axis=1) if len(rows) else np.empty((0, len(scales)))
    for method, style in trials.styles.items():
        for front in (False, True):
            of_method = rows[(trials.methods[rows] == method) & (trials.front[rows] == front)]
            if len(of_method):
                look = {"color": style.colour, "linewidths": 1.2} if front else {"color": style.pale, "linewidths": 0.4}
                segments = [np.column_stack([x, places[row]]) for row in of_method]
                ax.add_collection(
                    LineCollection(segments, linestyles=style.line, zorder=3 if front else 2, gid=method, **look)
                )
    for place, scale in zip(x, scales, strict=True):
        ax.plot([place, place], [0, 1], color="0.3", linewidth=0.6, zorder=4)
        if ends := scale.ends():
            for height, value, side in ((-0.015, ends[0], "top"), (1.015, ends[1], "bottom")):
                ax.text(float(place), height, f"{value:.3g}", ha="center", va=side, fontsize=5.5, zorder=5)
        if np.isnan(scale.values[rows]).any():
            ax.text(float(place), _NONE - 0.02, "none", ha="center", va="top", fontsize=5.5, color="0.4", zorder=5)
    ax.set(xlim=(-0.35, len(scales) - 0.65), ylim=(_NONE - 0.08, 1.09), yticks=[])
    ax.set_xticks(x, [scale.label for scale in scales], fontsize=5.5)
    ax.tick_params(axis="x", length=0)
    ax.spines[:].set_visible(False)
    if not len(rows):
        say_nothing_is_there(ax, "no sound trial")


def parallel_sheet(trials: Trials, /, *, width: float = COLUMN_WIDTH) -> PaperFigure:
    """Return the figure."""
    scales, rows = scales_of(trials), np.flatnonzero(thinned(trials.front, trials.sound, most=MOST_LINES))
    # A strength's label names methods: broken to the width between two axes.
    room = max(9, int(width / COLUMN_WIDTH * 62 / max(len(scales), 1)))
    scales = [Scale(name=s.name, label=lines(s.label, room), values=s.values, log=s.log) for s in scales]
    with paper_style():
        counts = Counter(trials.methods[rows].tolist())
        handles = [
            Line2D([], [], color=style.colour, linestyle=style.line, label=f"{style.label} ({counts[method]})")
            for method, style in trials.styles.items()
        ]
        if trials.front.any():
            handles.append(Line2D([], [], color="0.3", linewidth=1.2, label="strong: front"))
        figure = blank(width, 0.35 * width + 1.2, legend=handles)
        _draw(trials, scales, rows, figure.add_subplot())
        left = int(trials.sound.sum()) - len(rows)
        more = f" · {left} more sound trials are not drawn" if left else ""
        add_small_print(figure, f"{trials.small_print}{more} · {measured_by(trials.table)}")
    named = {scale.name: scale.values for scale in scales}
    everything = trials.rows({**named, "row": np.arange(len(trials.methods), dtype=float)})
    drawn = tuple(everything[row][:-1] for row in rows)
    return PaperFigure(name="parallel_coordinates", figure=figure, headings=(*HEADINGS, *named), rows=drawn)


def parallel_chart(trials: Trials, /) -> go.Figure:
    """Return the same for the screen: the method on an axis of its own, lines coloured by robust accuracy.

    On the screen an axis can be brushed and moved. The first axis has the methods in the order of `trials.styles`.
    """
    robust = measure(trials.table, "val_robust_accuracy")  # without one a line would have no colour
    rows = np.flatnonzero(thinned(trials.front, trials.sound & np.isfinite(robust), most=MOST_ON_SCREEN))
    names = list(trials.styles)
    methods = {
        "label": "method",
        "values": [names.index(method) for method in trials.methods[rows]],
        "tickvals": list(range(len(names))),
        "ticktext": [escape(style.label) for style in trials.styles.values()],
    }
    scales = [scale for scale in scales_of(trials, most=SETTINGS_ON_SCREEN) if scale.ends()]
    figure = empty_chart(380)
    figure.update_layout(margin={"l": 60, "r": 60, "t": 50, "b": 30})
    if not len(rows):
        say(figure, "no sound trial")
        return figure
    figure.add_parcoords(
        dimensions=[methods, *(_dimension(scale, rows) for scale in scales)],
        line={"color": numbers(robust[rows]), "colorscale": "Cividis"},
        labelfont={"size": 11},
    )
    return figure


def _dimension(scale: Scale, rows: np.ndarray) -> dict[str, Any]:
    """Return an axis for the screen, its values where `Scale.places` has them."""
    low, high = scale.ends() or (0.0, 1.0)
    shares = [0.0, 0.25, 0.5, 0.75, 1.0] if high > low else [0.5]
    marks = [low * (high / low) ** share if scale.log else low + share * (high - low) for share in shares]
    missing = bool(np.isnan(scale.values[rows]).any())
    return {
        "label": escape(scale.label.partition("\n(")[0].replace("\n", " ")),
        "values": numbers(scale.places()[rows]),
        "range": [_NONE if missing else 0.0, 1.0],
        "tickvals": [*([_NONE] if missing else []), *shares],
        "ticktext": [*(["none"] if missing else []), *(f"{mark:.3g}" for mark in marks)],
    }
