"""Exact distances between the classes of a data set, and the robust classifier whose existence they imply.

Source: Yang et al. 2020, sections 3 and 4.1. A data set is r-separated if images of different labels are at least 2r
apart; then a classifier of local Lipschitz constant 1/r exists that is correct everywhere within r of every image.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trainables.data.base import Integers, Pixels
from trainables.separation.nearest import Encoded, Encoder, Nearest
from trainables.spec import Norm

PAIRS = {"train-train": ("train", "train"), "test-train": ("test", "train"), "test-test": ("test", "test")}
"""Kinds of pairs: the split whose examples have a distance, and the split that they are compared with."""

OnProgress = Callable[[str, int, int], None]
"""Receives the kind of pairs being compared, the number of pairs done so far, and their total."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Example:
    """One image: its split, its position in the source's file order, its label."""

    split: str
    index: int
    label: int


@dataclass(frozen=True, kw_only=True)
class PairDistances:
    """For each example of one split the exact nearest neighbour of another label in the same or the other split.

    Attributes:
        pairs: A key of `PAIRS`.
        labels: int64 (n,), in the source's order.
        nearest: Distances in levels (linf) or squared levels (l2), and indices in the other split.
        nearest_labels: int64 (n,), -1 where there is no other label.
        minimum: The smallest distance, in levels or squared levels; None if there is no other label.
        consistent_minimum: The same without contradicting images; None if there is no such pair.
    """

    pairs: str
    labels: Integers
    nearest: Nearest
    nearest_labels: Integers
    minimum: int | None
    consistent_minimum: int | None

    @property
    def closest(self) -> tuple[Example, Example] | None:
        """The pair at `minimum`, the first in file order."""
        if self.minimum is None:
            return None
        first = int(np.flatnonzero(self.nearest.distance == self.minimum)[0])
        second = int(self.nearest.index[first])
        split, against = PAIRS[self.pairs]
        return (
            Example(split, first, int(self.labels[first])),
            Example(against, second, int(self.nearest_labels[first])),
        )


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Certified radii of the classifier x -> argmin over classes of dist(x, class), on some examples.

    By the triangle inequality, the decision is the same at every point whose distance from x is less than half the
    difference of the distances of x to its class and to all others. An example as near to another class as to its own
    counts as wrong at every radius.

    Attributes:
        own: float64 (n,), distance to the nearest training image of the same label, in [0, 1] units; inf for none.
        radius: float64 (n,): correct at every point at a strictly smaller distance; 0 if wrong at x itself, inf if
            there is no other class. Rounded down.
    """

    own: Floats
    radius: Floats

    def accuracy(self, epsilon: float, /) -> float:
        """Return the share of examples that are certified to be classified correctly everywhere within `epsilon`."""
        return float(np.mean(epsilon < self.radius))


@dataclass(frozen=True, kw_only=True)
class Separation:
    """The separation of a data set.

    Attributes:
        norm: `linf` or `l2`.
        scale: The level that means 1.0.
        pairs: One entry for each kind of pairs.
        contradicting: Groups of identical images that do not all have one label.
        certificate: The separated-data classifier built on train, measured on test.
    """

    norm: Norm
    scale: int
    pairs: tuple[PairDistances, ...]
    contradicting: tuple[tuple[Example, ...], ...]
    certificate: Certificate

    @cached_property
    def two_r(self) -> float | None:
        """The smallest distance between images of different labels, in [0, 1] units."""
        return self.in_units(_least(part.minimum for part in self.pairs))

    @cached_property
    def consistent_two_r(self) -> float | None:
        """The same without contradicting images."""
        return self.in_units(_least(part.consistent_minimum for part in self.pairs))

    def in_units(self, levels: int | None, /) -> float | None:
        """Return one exact distance in [0, 1] units."""
        return None if levels is None else float(in_units(np.array([levels]), norm=self.norm, scale=self.scale)[0])


def in_units(levels: Integers, /, *, norm: Norm, scale: int) -> Floats:
    """Return exact distances in [0, 1] units, float64; -1 (no neighbour) becomes infinity.

    Args:
        levels: Levels for linf, squared levels for l2.
        norm: `linf` or `l2`.
        scale: The level that means 1.0.
    """
    finite = np.where(levels < 0, 0, levels)
    values = (finite if norm == "linf" else np.sqrt(finite)) / scale
    return np.where(levels < 0, np.inf, values)


def measure_separation(
    splits: Mapping[str, tuple[Pixels, Integers]],
    /,
    *,
    norm: Norm,
    scale: int,
    on_progress: OnProgress = lambda *_: None,
) -> Separation:
    """Measure the separation within train, between test and train, and within test, and certify the classifier.

    Args:
        splits: "train" and "test": images, uint8 (n, c, h, w) in 0..scale with n at least 1, and labels, (n,).
        norm: `linf` or `l2`.
        scale: The level that means 1.0.
        on_progress: Called with the progress of the comparison of all pairs.
    """
    encoder = Encoder(splits["train"][0], norm=norm)
    encoded = {split: encoder.encode(*part) for split, part in splits.items()}
    sizes = {split: len(part) for split, part in encoded.items()}
    own_class = "test-train, same label"
    comparisons = {**PAIRS, own_class: PAIRS["test-train"]}
    total = sum(sizes[split] * sizes[against] for split, against in comparisons.values())
    done = 0

    def compare(name: str) -> Nearest:
        split, against = comparisons[name]

        def advance(count: int) -> None:
            nonlocal done
            done += count * sizes[against]
            on_progress(name, done, total)

        on_progress(name, done, total)
        same_label = name == own_class
        return encoder.nearest(encoded[split], encoded[against], same_label=same_label, on_advance=advance)

    groups = contradicting(splits)
    nearest = {name: compare(name) for name in comparisons}
    return Separation(
        norm=norm,
        scale=scale,
        pairs=tuple(_pair_distances(name, nearest[name], encoded, groups, encoder) for name in PAIRS),
        contradicting=groups,
        certificate=certificate(nearest[own_class], nearest["test-train"], norm=norm, scale=scale),
    )


def contradicting(splits: Mapping[str, tuple[Pixels, Integers]], /) -> tuple[tuple[Example, ...], ...]:
    """Return the groups of identical images that do not all have one label, each in file order.

    Args:
        splits: Images, (n, ...), and labels, (n,), of each split.
    """
    groups: dict[bytes, list[Example]] = defaultdict(list)
    for split, (images, labels) in splits.items():
        for index, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            groups[hashlib.sha256(np.ascontiguousarray(image).data).digest()].append(Example(split, index, label))
    return tuple(tuple(group) for group in groups.values() if len({example.label for example in group}) > 1)


def certificate(own: Nearest, other: Nearest, /, *, norm: Norm, scale: int) -> Certificate:
    """Return the certified radii of the separated-data classifier.

    Args:
        own: Nearest training images of the same label.
        other: Nearest training images of other labels.
        norm: `linf` or `l2`.
        scale: The level that means 1.0.
    """
    d1 = in_units(own.distance, norm=norm, scale=scale)
    # Zeros avoid warnings in the arithmetic; radii without another class become infinite below.
    d2 = np.where(other.found, in_units(other.distance, norm=norm, scale=scale), 0.0)
    correct = own.found & (~other.found | (own.distance < other.distance))
    if norm == "linf":
        # A single quotient of integers is the float nearest to the true radius, so every smaller float is below that.
        radius = (other.distance - own.distance) / (2 * scale)
    else:
        # Square roots, quotients and a difference of floats have a smaller rounding error than what is subtracted.
        radius = np.maximum((d2 - d1) / 2 - 4 * np.spacing(d2), 0)
    return Certificate(own=d1, radius=np.where(correct, np.where(other.found, radius, np.inf), 0.0))


def _pair_distances(
    name: str,
    nearest: Nearest,
    encoded: Mapping[str, Encoded],
    groups: Sequence[Sequence[Example]],
    encoder: Encoder,
) -> PairDistances:
    split, against = PAIRS[name]
    labels, other_labels = encoded[split].labels, encoded[against].labels
    return PairDistances(
        pairs=name,
        labels=labels,
        nearest=nearest,
        nearest_labels=np.where(nearest.found, other_labels[nearest.index], -1),
        minimum=_least(nearest.distance[nearest.found].tolist()),
        consistent_minimum=_consistent_minimum(
            nearest,
            (encoded[split], encoded[against]),
            (_members(groups, split, len(labels)), _members(groups, against, len(other_labels))),
            encoder,
        ),
    )


def _consistent_minimum(
    nearest: Nearest,
    parts: tuple[Encoded, Encoded],
    removed: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    encoder: Encoder,
) -> int | None:
    """Return the minimum without contradicting images; only images that lose their neighbour are searched again."""
    kept = nearest.found & ~removed[0]
    lost = kept & removed[1][nearest.index]
    least = _least(nearest.distance[kept & ~lost].tolist())
    if least is not None:
        lost &= nearest.distance < least
    if lost.any():
        searched = encoder.nearest(parts[0].take(lost), parts[1].take(~removed[1]))
        least = _least([least, *searched.distance[searched.found].tolist()])
    return least


def _members(groups: Sequence[Sequence[Example]], split: str, count: int) -> NDArray[np.bool_]:
    mask = np.zeros(count, dtype=np.bool_)
    mask[[example.index for group in groups for example in group if example.split == split]] = True
    return mask


def _least(values: Iterable[int | None]) -> int | None:
    return min((value for value in values if value is not None), default=None)
