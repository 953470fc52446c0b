"""The radii at which an accurate and robust classifier exists for a data set by the theorem.

Source: Yang et al. 2020, section 3: on data whose classes are 2r apart some classifier of local Lipschitz constant 1/r
is right everywhere within r of every example.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.data.results import Table


@dataclass(frozen=True, kw_only=True)
class TheoremRadius:
    """The separation of a data set's images and the radius that follows from it.

    Args:
        dataset: The data set.
        norm: `linf` or `l2`.
        two_r: Smallest distance between images of different labels, pixel range.
        contradicting: Number of images identical to one of another label.
        consistent_two_r: The same distance over images that contradict none; a lower bound of it if one's nearest
            neighbour contradicts another. None without such images.
        examples: Number of images whose distances were measured.
    """

    dataset: str
    norm: str
    two_r: float
    contradicting: int
    consistent_two_r: float | None
    examples: int

    @property
    def radius(self) -> float:
        """Return r over all images, or over those that contradict none if others contradict and so make it 0."""
        return (self.two_r if not self.contradicting else self.consistent_two_r or 0.0) / 2


def reach_of(distances: Table, /) -> TheoremRadius | None:
    """Return the theorem's radius for a data set.

    Args:
        distances: Rows of the separation schema, of one data set and norm.

    Returns:
        None if no image has a distance to one of another label.

    Raises:
        ValueError: Rows of several data sets or norms.
    """
    names = {name: sorted(set(distances[name].to_pylist())) for name in ("dataset", "norm")}
    if mixed := [f"{name} ({', '.join(found)})" for name, found in names.items() if len(found) > 1]:
        raise ValueError(f"distances must be of one data set and norm, got several: {'; '.join(mixed)}")
    values = np.asarray(distances["distance"].to_pylist(), dtype=float)
    finite = np.isfinite(values)
    if not finite.any():
        return None
    contradicting = np.asarray(distances["contradicting"].to_pylist(), dtype=bool)
    places = list(zip(distances["split"].to_pylist(), distances["index"].to_pylist(), strict=True))
    consistent = values[finite & ~contradicting]
    return TheoremRadius(
        dataset=names["dataset"][0],
        norm=names["norm"][0],
        two_r=float(values[finite].min()),
        contradicting=len({place for place, bad in zip(places, contradicting, strict=True) if bad}),
        consistent_two_r=float(consistent.min()) if len(consistent) else None,
        examples=len(set(places)),
    )
