"""Names of the front's members, and counts where symbols lie on one another, in the printed Pareto figure."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation

from analysis.fronts.front import spread_along
from analysis.plots.trials.front_view import ParetoView
from analysis.plots.trials.label_places import place_labels, stacks

TIMES = "\N{MULTIPLICATION SIGN}"
"""The sign before a count."""

SMALL, LARGE = 4.0, 5.5
"""Sizes of a dominated trial's symbol and of a front member's, points."""

MOST_NAMES = 12
"""Most members that are named, spread along the front; a table has them all."""

MOST_COUNTS = 30
"""Most counts of trials at one place, the largest first: more would cover the figure."""

_COVERED = 0.45
"""A symbol is covered by one whose centre is nearer than this share of its width."""

_GAP = 3.6
"""Between a point and the nearest place of its label, points."""

_LED = 5.0
"""A label farther from its point than this has a line to it, points."""

_LEADER: dict[str, Any] = {
    "arrowstyle": "-", "linewidth": 0.35, "color": "0.3", "shrinkA": 0, "shrinkB": SMALL / 2,
}  # fmt: skip

_TEXT: dict[str, Any] = {"fontsize": 5.5, "ha": "center", "va": "center"}


def labelled(view: ParetoView, groups: list[list[int]], /) -> dict[int, str]:
    """Return the labels by row: names of front members, "26", and counts where symbols are covered.

    Args:
        view: The figure's points.
        groups: Rows of symbols that cover one another, the uppermost first.
    """
    members = np.flatnonzero(view.front & view.inside)
    members = members[np.argsort(view.points[members, 0], kind="stable")]
    chosen = members[list(spread_along(view.points[members], cap=MOST_NAMES))] if len(members) else members
    names = {int(row): view.labels[row] for row in chosen}
    counted = sorted(groups, key=len, reverse=True)[:MOST_COUNTS]
    return names | {group[0]: f"{names.get(group[0], '')} {TIMES}{len(group)}".strip() for group in counted}


def covered(view: ParetoView, ax: Axes, /) -> list[list[int]]:
    """Return the rows of symbols that cover one another in laid-out axes, the uppermost of each group first."""
    return stacks(_places(view, ax), view.drawing_order, reach=_COVERED * SMALL * _point(ax))


def name_points(view: ParetoView, ax: Axes, groups: list[list[int]], /) -> list[Annotation]:
    """Write the labels of `labelled` so that none covers another, and as few symbols and lines as possible.

    Labels are placed by where the points lie on paper, so the figure must be laid out, and keeps that layout.

    Args:
        view: The figure's points.
        ax: The axes they are drawn in.
        groups: From `covered`.

    Returns:
        The labels drawn; one that finds no place is left out.
    """
    texts = labelled(view, groups)
    rows = sorted(texts, key=lambda row: (not view.front[row], row))
    places, point = _places(view, ax), _point(ax)
    sizes = np.array([_size(ax, texts[row]) for row in rows]).reshape(-1, 2)
    window, obstacles = ax.get_window_extent().extents, _obstacles(view, ax, places)
    offsets = place_labels(places[rows], sizes, obstacles, bounds=window, gap=_GAP * point)
    drawn = []
    for row, size, offset in zip(rows, sizes, offsets, strict=True):
        if offset is None:
            continue
        note = ax.annotate(
            texts[row],
            view.points[row],
            xytext=(offset[0] / point, offset[1] / point),
            textcoords="offset points",
            color="black" if view.front[row] else "0.3",
            arrowprops=_LEADER if max(np.abs(offset) - size / 2) > _LED * point else None,
            zorder=6,
            **_TEXT,
        )
        note.set_in_layout(False)
        drawn.append(note)
    return drawn


def _point(ax: Axes) -> float:
    """Return the pixels of a point."""
    return float(ax.figure.dpi) / 72


def _places(view: ParetoView, ax: Axes) -> np.ndarray:
    """Return the pixels of the points within the axes, shape (n, 2), NaN for others."""
    places = np.full(view.points.shape, np.nan)
    if view.inside.any():
        places[view.inside] = ax.transData.transform(view.points[view.inside])
    return places


def _size(ax: Axes, text: str) -> tuple[float, float]:
    shown = ax.text(0, 0, text, **_TEXT)
    box = shown.get_window_extent()
    shown.remove()
    return box.width + 1, box.height


def _obstacles(view: ParetoView, ax: Axes, places: np.ndarray) -> np.ndarray:
    """Return boxes around all symbols, and along the front's line and the members' intervals, shape (m, 4)."""
    point = _point(ax)
    half = np.where(view.front, LARGE, SMALL)[:, None] / 2 * point
    symbols = np.concatenate([places - half, places + half], axis=1)[view.inside]
    if view.theory is not None and view.theory_inside:
        star = ax.transData.transform(view.theory)
        symbols = np.concatenate([symbols, [[*(star - LARGE * point), *(star + LARGE * point)]]])
    (low_x, high_x), (low_y, high_y) = ax.get_xlim(), ax.get_ylim()
    stairs = view.staircase((low_x, low_y), (high_x, high_y))
    lines = [np.clip(stairs, (low_x, low_y), (high_x, high_y))] if len(stairs) else []
    for at, (across, up) in zip(view.points[view.front], view.ends[view.front], strict=True):
        lines += [np.array([(x, at[1]) for x in across]), np.array([(at[0], y) for y in up])]
    boxes = [symbols]
    for line in lines:
        corners = ax.transData.transform(line)
        ends = np.stack([corners[:-1], corners[1:]])
        boxes.append(np.concatenate([ends.min(axis=0) - 0.5 * point, ends.max(axis=0) + 0.5 * point], axis=1))
    every = np.concatenate(boxes)
    return np.asarray(every[np.isfinite(every).all(axis=1)])
