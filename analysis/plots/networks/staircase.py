"""The staircase: a classifier that is accurate and robust yet jumps between the data, beside the theorem's smooth one.

Source: Yang et al. 2020, section 3 and Theorem 1: on data whose classes are 2r apart, (dist(x, -) - dist(x, +)) / 2r
has the local Lipschitz constant 1/r and is right everywhere within r of every point.
"""

from __future__ import annotations

import numpy as np
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from analysis.plots.figure import COLUMN_WIDTH, PaperFigure, add_small_print, blank, paper_style, sample

POINTS = (0.08, 0.14, 0.34, 0.40, 0.46, 0.66, 0.72, 0.92)
"""Places of the examples in [0, 1]."""

LABELS = (-1, -1, 1, 1, 1, -1, -1, 1)
"""Their classes: neighbours of different classes are 0.2 apart."""

R = 0.1
"""Half the distance between the classes."""

SHOWN_RADIUS = 0.08
"""Radius around each example that is shaded; any below r would do."""

_SMOOTH, _STAIRS = "#0072B2", "#D55E00"
_CLASSES = {-1: ("s", "0.35"), 1: ("o", "0.0")}
_GRID = 2001


def theorems_classifier(x: ArrayLike, /) -> np.ndarray:
    """Return (dist(x, -) - dist(x, +)) / 2r, the theorem's function, at places in [0, 1], (n,)."""
    apart = _apart(x)
    labels = np.array(LABELS)
    return np.asarray((apart[:, labels < 0].min(axis=1) - apart[:, labels > 0].min(axis=1)) / (2 * R))


def staircase(x: ArrayLike, /) -> np.ndarray:
    """Return the class of the nearest example, -1 or 1: constant around every example, with a step between classes."""
    return np.asarray(np.array(LABELS)[_apart(x).argmin(axis=1)], dtype=np.float64)


def staircase_sheet(*, width: float = COLUMN_WIDTH) -> PaperFigure:
    """Return the figure of both functions over the examples and their balls, with the functions' values as its data.

    Args:
        width: Inches.
    """
    x = np.linspace(0, 1, _GRID)
    smooth, stairs = theorems_classifier(x), staircase(x)
    with paper_style():
        legend = [
            Line2D([], [], color=_SMOOTH, linewidth=1.4, label="theorem's classifier: slope at most 1/r"),
            Line2D([], [], color=_STAIRS, linewidth=1.4, linestyle="--", label="staircase: no slope, then a step"),
            *(sample(mark, f"class {label:+d}", color=colour) for label, (mark, colour) in _CLASSES.items()),
            Line2D([], [], color="0.88", linewidth=6, label=f"within {SHOWN_RADIUS:g} < r = {R:g} of an example"),
        ]
        figure = blank(width, 0.5 * width + 0.5, legend=legend)
        ax = figure.add_subplot()
        for place, label in zip(POINTS, LABELS, strict=True):
            ax.axvspan(place - SHOWN_RADIUS, place + SHOWN_RADIUS, facecolor="0.92", edgecolor="none", zorder=0)
            marker, colour = _CLASSES[label]
            ax.plot(place, label, marker=marker, color=colour, markersize=4, linestyle="none", zorder=4)
        ax.axhline(0, color="0.5", linewidth=0.6)
        ax.plot(x, smooth, color=_SMOOTH, linewidth=1.4, zorder=3)
        ax.plot(x, stairs, color=_STAIRS, linewidth=1.4, linestyle="--", zorder=2)
        ax.set(xlim=(0, 1), ylim=(-1.9, 1.9), xlabel="x", ylabel="f(x); its sign is the class")
        add_small_print(
            figure,
            "both are right everywhere within any radius below r of every example · around the examples the staircase "
            "does not change at all, between them it has no Lipschitz constant",
        )
    named = {place: label for place, label in zip(np.round(POINTS, 4).tolist(), LABELS, strict=True)}
    rows = tuple(
        (at, f, g, named.get(round(at, 4)))
        for at, f, g in zip(x.tolist(), smooth.tolist(), stairs.tolist(), strict=True)
    )
    return PaperFigure(
        name="staircase", figure=figure, headings=("x", "theorems_classifier", "staircase", "example"), rows=rows
    )


def _apart(x: ArrayLike) -> np.ndarray:
    return np.asarray(np.abs(np.asarray(x, dtype=np.float64)[:, None] - np.array(POINTS)[None]))
