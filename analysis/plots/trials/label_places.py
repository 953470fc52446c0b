"""Where labels go so that none covers another, and which symbols lie on top of others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_DIRECTIONS = np.array([(1, 1), (-1, -1), (1, -1), (-1, 1), (1, 0), (-1, 0), (0, 1), (0, -1)], dtype=np.float64)
"""From a point to its label; the first are taken where nothing else decides."""
_RINGS = 6

_FAR = 0.6
"""How much a step away from its point costs a label, as a share of its own area."""


def stacks(points: np.ndarray, order: np.ndarray, /, *, reach: float) -> list[list[int]]:
    """Return groups of points of which one symbol covers the others, each with the uppermost first.

    Args:
        points: Centres, shape (n, 2), in any unit; NaN for those not drawn.
        order: Rows in the order in which they are drawn.
        reach: A centre at most this far from another is covered.
    """
    free = np.isfinite(points).all(axis=1)
    groups = []
    for top in order[::-1].tolist():
        if not free[top]:
            continue
        covered = np.flatnonzero(free & (np.hypot(*(points - points[top]).T) <= reach))
        free[covered] = False
        if len(covered) > 1:
            groups.append([top, *(row for row in covered.tolist() if row != top)])
    return groups


def place_labels(
    anchors: np.ndarray,
    sizes: np.ndarray,
    obstacles: np.ndarray,
    /,
    *,
    bounds: Sequence[float],
    gap: float,
    rings: int = _RINGS,
) -> list[tuple[float, float] | None]:
    """Return for each label the offset of its centre from its point, or None where it would cover another label.

    Labels take turns; each goes where it covers least of the obstacles, near its point rather than far from it.

    Args:
        anchors: The labels' points, shape (k, 2).
        sizes: Width and height of the labels, shape (k, 2).
        obstacles: Boxes to keep free if possible, shape (m, 4): left, bottom, right, top.
        bounds: The box that no label leaves, likewise.
        gap: Distance between a point and the nearest place of its label.
        rings: How many places there are in each direction.
    """
    placed = np.empty((0, 4))
    offsets: list[tuple[float, float] | None] = []
    for anchor, size in zip(anchors, sizes, strict=True):
        steps = np.arange(1, rings + 1)[:, None, None]
        shifts = (_DIRECTIONS * (size / 2 + gap * steps)).reshape(-1, 2)
        boxes = np.concatenate([anchor + shifts - size / 2, anchor + shifts + size / 2], axis=1)
        inside = (boxes[:, :2] >= bounds[:2]).all(axis=1) & (boxes[:, 2:] <= bounds[2:]).all(axis=1)
        allowed = inside & (_overlaps(boxes, placed).sum(axis=1) == 0)
        if not allowed.any():
            offsets.append(None)
            continue
        step = np.repeat(np.arange(rings), len(_DIRECTIONS))
        cost = _overlaps(boxes, obstacles).sum(axis=1) + _FAR * step * size.prod() / rings
        best = int(np.flatnonzero(allowed)[cost[allowed].argmin()])
        placed = np.concatenate([placed, boxes[best : best + 1]])
        offsets.append((float(shifts[best, 0]), float(shifts[best, 1])))
    return offsets


def _overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the common area of each of n boxes with each of m others, shape (n, m)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.asarray(np.clip(high - low, 0, None).prod(axis=2))
