"""Compiled scans over all pairs of images in integer arithmetic: first a lower bound, then the exact distance.

numba compiles them on first use, which takes seconds, and then reads them from its cache beside this file or in the
user's cache folder. Plain NumPy (`benchmarks/separation.py` runs both) is about a hundred times slower.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from trainables.data.base import Integers, Pixels

F = TypeVar("F", bound=Callable[..., Any])

LANES = 64
"""Number of values compared at once; heads have this many, tails a multiple of it."""

_TILE = 256


def _compiled(function: F) -> F:
    try:
        return cast(F, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # there is no writable folder for the cache
        return cast(F, numba.njit(nogil=True)(function))


@_compiled
def scan_linf(
    heads: Pixels, tails: Pixels, labels: Integers,
    other_heads: Pixels, other_tails: Pixels, other_labels: Integers,
    same_label: bool, best: Integers, index: Integers,  # noqa: FBT001 - numba takes arguments by position
) -> None:  # fmt: skip
    """Find the linf-nearest of the others for each image, in levels; the smallest index wins ties.

    The largest difference of two heads is a lower bound, as the distance is a maximum over pixels.

    Args:
        heads: The 64 pixels that distinguish images best, (n, 64).
        tails: All other pixels, (n, a multiple of 64), the same order in both sets, padded alike.
        labels: (n,).
        other_heads: (m, 64).
        other_tails: (m, as `tails`).
        other_labels: (m,).
        same_label: Whether pairs of the same label are compared, or pairs of different labels.
        best: (n,), initially larger than any distance; updated in place.
        index: (n,), set together with `best`.
    """
    for start in range(0, len(other_labels), _TILE):
        stop = min(start + _TILE, len(other_labels))
        for query in range(len(labels)):
            bound = best[query]
            for other in range(start, stop):
                far = np.uint8(0)
                for k in range(LANES):
                    a, b = heads[query, k], other_heads[other, k]
                    far = max(far, np.uint8(max(a, b) - min(a, b)))
                # The label is tested last: as the first test it would cost more in branch mispredictions than it saves.
                if far >= bound or (labels[query] == other_labels[other]) != same_label:
                    continue
                for block in range(0, tails.shape[1], LANES):
                    for k in range(block, block + LANES):
                        a, b = tails[query, k], other_tails[other, k]
                        far = max(far, np.uint8(max(a, b) - min(a, b)))
                    if far >= bound:
                        break
                if far < bound:
                    bound = np.int64(far)
                    index[query] = other
            best[query] = bound


@_compiled
def scan_l2(
    heads: NDArray[np.int16], tails: Pixels, labels: Integers,
    other_heads: NDArray[np.int16], other_tails: Pixels, other_labels: Integers,
    same_label: bool, best: Integers, index: Integers, unit: float,  # noqa: FBT001 - numba takes them by position
) -> None:  # fmt: skip
    """Find the l2-nearest of the others for each image, in squared levels; the smallest index wins ties.

    Heads are rounded coordinates of an orthogonal projection, where a level is `unit`. A projection shortens distances,
    and rounding changes each of the 64 differences by at most 1, so images D levels apart have heads at most
    unit * D + 8 apart.

    `heads` have squared distances that fit int32, `tails` are all pixels, and `unit` is the length of a level in heads;
    the other arguments are those of `scan_linf`, with squared levels in `best`.
    """
    for start in range(0, len(other_labels), _TILE):
        stop = min(start + _TILE, len(other_labels))
        for query in range(len(labels)):
            bound = best[query]
            limit = _head_limit(int(bound), unit)
            for other in range(start, stop):
                near = np.int32(0)
                for k in range(LANES):
                    delta = np.int16(heads[query, k] - other_heads[other, k])
                    near = np.int32(near + np.int32(delta) * np.int32(delta))
                if near > limit or (labels[query] == other_labels[other]) != same_label:
                    continue
                total = np.int64(0)
                for block in range(0, tails.shape[1], LANES):
                    part = np.int32(0)
                    for k in range(block, block + LANES):
                        delta = np.int16(np.int16(tails[query, k]) - np.int16(other_tails[other, k]))
                        part = np.int32(part + np.int32(delta) * np.int32(delta))
                    total += part
                    if total >= bound:
                        break
                if total < bound:
                    bound = total
                    limit = _head_limit(int(bound), unit)
                    index[query] = other
            best[query] = bound


@_compiled
def _head_limit(bound: int, unit: float) -> int:
    # The slack of 1e-9 and 1e-3 far exceeds the rounding errors of the projections and of this line.
    return int((unit * (1 + 1e-9) * np.sqrt(bound) + 8.001) ** 2) + 1
