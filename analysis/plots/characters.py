"""Trials and their front drawn in plain ASCII characters, for a terminal."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

MEMBER, OTHER = "O", "."
"""How a member of the front and any other trial are drawn."""

_LABEL = 6
_WIDTHS_BEYOND = 3.0
"""How far left of the front other trials are drawn, in units of its extent: a collapsed trial does not squeeze it."""


def front_in_characters(points: ArrayLike, on_front: ArrayLike, /, *, width: int = 64, height: int = 14) -> list[str]:
    """Draw clean accuracy to the right and robust accuracy upwards; a cell shows a member before other trials.

    Args:
        points: Clean and robust accuracies, shape (n, 2), n >= 1; those with NaN are not drawn.
        on_front: Marks the members, shape (n,).
        width: Characters per line, at least 24.
        height: Lines of the drawing, at least 2; axis and legend come below.

    Returns:
        Lines of at most `width` characters, without trailing spaces; the legend counts trials that are not drawn.
    """
    array, members = np.asarray(points, dtype=np.float64), np.asarray(on_front, dtype=bool)
    complete = ~np.isnan(array).any(axis=1)
    array, members = array[complete], members[complete]
    if not len(array):
        return ["no trial with both accuracies yet"]
    low, high = _limits(array, members)
    inside = np.asarray(((array >= low) & (array <= high)).all(axis=1))
    columns = width - _LABEL - 2
    cells = np.rint((array - low) / (high - low) * [columns - 1, height - 1]).astype(int)
    rows = [[" "] * columns for _ in range(height)]
    for mark, chosen in ((OTHER, inside & ~members), (MEMBER, inside & members)):
        for column, row in cells[chosen]:
            rows[height - 1 - row][column] = mark
    labels = [f"{high[1]:.3f}", *[""] * (height - 2), f"{low[1]:.3f}"]
    lines = [f"{label:>{_LABEL}} |{''.join(row)}".rstrip() for label, row in zip(labels, rows, strict=True)]
    left, right = f"{low[0]:.3f}", f"{high[0]:.3f}"
    lines.append(f"{'robust':>{_LABEL}} +{'-' * columns}")
    lines.append(f"{'':{_LABEL + 2}}{left}{'clean':^{columns - len(left) - len(right)}}{right}")
    lines.append(f"{'':{_LABEL + 2}}{_legend(members, inside)}")
    return lines


def _limits(array: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper ends of both axes, each with some extent."""
    low, high = array.min(axis=0), array.max(axis=0)
    if members.any():
        clean = array[members, 0]
        low[0] = max(low[0], clean.min() - _WIDTHS_BEYOND * max(np.ptp(clean), 0.02))
    flat = high - low < 1e-9
    return np.where(flat, low - 0.01, low), np.where(flat, high + 0.01, high)


def _legend(members: np.ndarray, inside: np.ndarray) -> str:
    parts = [f"{MEMBER} front ({members.sum()})", f"{OTHER} other trials ({(inside & ~members).sum()})"]
    if (~inside).any():
        parts.append(f"{(~inside).sum()} further left")
    return "   ".join(parts)
