"""Exact nearest neighbour of each image with another label, or with the same: all pairs, pruned, on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.base import Integers, Pixels
from trainables.separation.kernels import LANES, scan_l2, scan_linf
from trainables.spec import Norm

_BLOCK = 256
_SAMPLE = 1024
_PIVOTS = 256
# Heads of l2 are at most this long, so their differences fit int16 and squared distances int32.
_HEAD_LENGTH = 15_000

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Nearest:
    """Exact nearest neighbours.

    Attributes:
        distance: int64 (n,), in levels for linf, squared levels for l2; -1 where there is no neighbour.
        index: int64 (n,), of the neighbour in the references, the smallest on ties; -1 where there is no neighbour.
    """

    distance: Integers
    index: Integers

    @property
    def found(self) -> NDArray[np.bool_]:
        """Whether each image has a neighbour, (n,)."""
        return self.index >= 0


@dataclass(frozen=True)
class Encoded:
    """Images in the layout of the scan: the values that prune best come first.

    Attributes:
        head: (n, 64), compared first: pixels (linf) or rounded coordinates of a projection (l2).
        tail: uint8 (n, a multiple of 64), the other pixels (linf) or all of them (l2), padded with zeros.
        labels: int64 (n,).
    """

    head: NDArray[Any]
    tail: Pixels
    labels: Integers

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.bool_], /) -> Encoded:
        """Return a copy of the images selected by a mask (n,)."""
        return Encoded(self.head[rows], self.tail[rows], self.labels[rows])


class Encoder:
    """Encodes images so that their first 64 values distinguish most pairs, and searches all pairs on the CPU.

    The encoding (an order of the pixels, principal directions) is fitted to a sample of the references. It affects
    the speed of a search, but not its result.

    Args:
        references: uint8 (n, ...), n at least 1.
        norm: `linf` or `l2`.
    """

    def __init__(self, references: Pixels, /, *, norm: Norm) -> None:
        self.norm = norm
        sample = _flat(references[:: -(-len(references) // _SAMPLE)]).astype(np.float64)
        self.num_pixels = sample.shape[1]
        self._sample = sample - sample.mean(axis=0)
        self._order = _pruning_order(self._sample[:: -(-len(self._sample) // _PIVOTS)])

    @cached_property
    def unit(self) -> float:
        """The length of a level in heads of l2: the longest centred image has a head of length 15,000."""
        return _HEAD_LENGTH / (127.5 * float(np.sqrt(self.num_pixels)))

    @cached_property
    def _directions(self) -> NDArray[np.float64]:
        """Orthonormal columns (d, at most 64) that span the sample's leading principal directions."""
        _, vectors = np.linalg.eigh(self._sample @ self._sample.T)
        leading = self._sample.T @ vectors[:, : -LANES - 1 : -1]
        return np.linalg.qr(leading)[0]

    def encode(self, images: Pixels, labels: Integers, /) -> Encoded:
        """Return a copy of the images in the scan's layout.

        Args:
            images: uint8 (n, ...), shaped as the references.
            labels: Integers (n,).
        """
        flat = _flat(images)
        tail_order = self._order[LANES:] if self.norm == "linf" else self._order
        tail = np.zeros((len(flat), -(-len(tail_order) // LANES) * LANES), dtype=np.uint8)
        head = np.zeros((len(flat), LANES), dtype=np.uint8 if self.norm == "linf" else np.int16)
        for start in range(0, len(flat), _SAMPLE):
            rows = slice(start, start + _SAMPLE)
            tail[rows, : len(tail_order)] = flat[rows][:, tail_order]
            if self.norm == "linf":
                head[rows, : self.num_pixels] = flat[rows][:, self._order[:LANES]]
            else:
                projected = self.unit * ((flat[rows] - 127.5) @ self._directions)
                head[rows, : projected.shape[1]] = np.rint(projected)
        return Encoded(head, tail, np.ascontiguousarray(labels, dtype=np.int64))

    def nearest(
        self,
        queries: Encoded,
        references: Encoded,
        /,
        *,
        same_label: bool = False,
        threads: int | None = None,
        on_advance: Advance = lambda _: None,
    ) -> Nearest:
        """Find for each query the exact nearest reference with another label, or with the same label.

        Args:
            queries: From this encoder.
            references: From this encoder; may be `queries` if the labels must differ.
            same_label: Compare pairs of the same label instead of pairs of different labels.
            threads: Number of cores to use; None uses all that this process may run on.
            on_advance: Called from this thread with the number of queries just finished.
        """
        too_far = 256 if self.norm == "linf" else 255**2 * self.num_pixels + 1
        best = np.full(len(queries), too_far, dtype=np.int64)
        index = np.full(len(queries), -1, dtype=np.int64)

        def search(start: int) -> int:
            rows = slice(start, start + _BLOCK)
            arrays = (queries.head[rows], queries.tail[rows], queries.labels[rows])
            others = (references.head, references.tail, references.labels)
            if self.norm == "linf":
                scan_linf(*arrays, *others, same_label, best[rows], index[rows])
            else:
                scan_l2(*arrays, *others, same_label, best[rows], index[rows], self.unit)
            return len(arrays[2])

        starts = range(0, len(queries), _BLOCK)
        pool = ThreadPoolExecutor(max_workers=threads or available_cores())
        try:
            for done in as_completed([pool.submit(search, start) for start in starts]):
                on_advance(done.result())
        finally:
            pool.shutdown(cancel_futures=True)
        best[index < 0] = -1
        return Nearest(best, index)


def available_cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pruning_order(sample: NDArray[np.float64]) -> Integers:
    """Order the pixels so that the first ones distinguish images best.

    Each of the first 256 is the pixel whose variation is explained least by those before it (pivoted Cholesky
    decomposition of the covariance); the others follow by decreasing variance. By variance alone the first pixels
    would be neighbours in natural images, and redundant: the pivots make a linf search of CIFAR-10 fifteen times as
    fast.

    Args:
        sample: Centred images (n, d).

    Returns:
        All pixels, int64 (d,).
    """
    residual = sample.astype(np.float32)
    by_variance = np.argsort(-np.square(residual).sum(axis=0), kind="stable")
    first: list[int] = []
    for _ in range(min(_PIVOTS, sample.shape[1])):
        unexplained = np.square(residual).sum(axis=0)
        unexplained[first] = 0
        pixel = int(unexplained.argmax())
        if unexplained[pixel] < 1e-3:
            break
        first.append(pixel)
        direction = residual[:, pixel] / np.sqrt(unexplained[pixel])
        residual -= np.outer(direction, direction @ residual)
    return np.array([*first, *by_variance[~np.isin(by_variance, first)]], dtype=np.int64)


def _flat(images: Pixels) -> Pixels:
    return images.reshape(len(images), -1)
