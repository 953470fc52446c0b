"""The classifier of the theorem, built on a study's own training images and certified on its validation images.

Source: Yang et al. 2020, section 4.1 and Theorem 1: f(x) = (dist(x, class 0) - dist(x, class 1)) / 2r, here for any
number of classes: the class of the nearest training image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.data.base import Split
from trainables.separation.distances import Certificate, certificate, contradicting, in_units
from trainables.separation.nearest import Encoder
from trainables.spec import Norm

Floats = NDArray[np.float64]

OnPairs = Callable[[str, int, int], None]
"""Receives what is compared, the number of pairs compared so far, and their total."""


@dataclass(frozen=True, kw_only=True)
class ClassifierDistances:
    """What is known of the classifier.

    Attributes:
        separation: float64 (n,), from each training image to the nearest one of another label, in [0, 1] units; inf
            where there is none.
        contradicting: (n,), whether an identical training image has another label.
        correct: (m,), whether it is right on each validation image itself.
        certificate: Of the m validation images, in their order.
    """

    separation: Floats
    contradicting: NDArray[np.bool_]
    correct: NDArray[np.bool_]
    certificate: Certificate


def pairs_compared(train: int, val: int, /) -> int:
    """Return how many pairs of images `measure_classifier` compares."""
    return train * (train + 2 * val)


def measure_classifier(
    train: Split, val: Split, /, *, norm: Norm, scale: int, on_progress: OnPairs = lambda *_: None
) -> ClassifierDistances:
    """Measure the distances that give the classifier's separation, accuracy and certified radii, exactly.

    Args:
        train: The n images it is built on, n at least 1.
        val: The m images it is certified on.
        norm: `linf` or `l2`.
        scale: The level that means 1.0.
        on_progress: Called from this thread between comparisons; what it raises ends them.
    """
    encoder = Encoder(train.images, norm=norm)
    known, asked = encoder.encode(train.images, train.labels), encoder.encode(val.images, val.labels)
    total, done = pairs_compared(len(train), len(val)), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count * len(train)
        on_progress("separated-data classifier", done, total)

    on_progress("separated-data classifier", done, total)
    apart = encoder.nearest(known, known, on_advance=advance)
    other = encoder.nearest(asked, known, on_advance=advance)
    own = encoder.nearest(asked, known, same_label=True, on_advance=advance)
    bad = np.zeros(len(train), dtype=np.bool_)
    groups = contradicting({"train": (train.images, train.labels)})
    bad[[example.index for group in groups for example in group]] = True
    return ClassifierDistances(
        separation=in_units(apart.distance, norm=norm, scale=scale),
        contradicting=bad,
        correct=own.found & (~other.found | (own.distance < other.distance)),
        certificate=certificate(own, other, norm=norm, scale=scale),
    )
