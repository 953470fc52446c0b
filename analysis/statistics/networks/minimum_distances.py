"""Each trial's distances from images to the nearest misclassified points found: upper bounds, read and summarised."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.data.files import read_file, trial_files
from analysis.data.schema import DISTANCE
from analysis.wording import attack_name


@dataclass(frozen=True, kw_only=True)
class MemberDistances:
    """One trial's distances.

    Args:
        study: Its study.
        trial_id: The trial.
        method: Its method.
        split: "val".
        attack: Name of the attack, with its steps.
        norm: `linf` or `l2`.
        epsilon: The study's radius.
        cap: The largest radius searched.
        distances: One per image, ascending, pixel range; 0 where it is misclassified, inf where no misclassified
            point was found within `cap`.
        flags: Doubts that the attack raised; empty for none, or where the file is from before they were kept.
    """

    study: str
    trial_id: str
    method: str
    split: str
    attack: str
    norm: str
    epsilon: float
    cap: float
    distances: tuple[float, ...]
    flags: tuple[str, ...] = ()

    def within(self, radius: float, /) -> float:
        """Return the share of images with a misclassified point found within a radius, that radius included."""
        return float(np.mean(np.array(self.distances) <= radius))

    @property
    def median(self) -> float | None:
        """The distance within which half of the images have such a point; None if fewer have one within `cap`."""
        value = self.distances[(len(self.distances) - 1) // 2]
        return value if math.isfinite(value) else None

    def summary(self) -> dict[str, Any]:
        """Return the trial's numbers by name."""
        settings = {name: getattr(self, name) for name in ("trial_id", "method", "split", "attack", "norm", "epsilon")}
        return settings | {
            "cap": self.cap,
            "examples": len(self.distances),
            "median_distance": self.median,
            "misclassified": self.within(0.0),
            "within_epsilon": self.within(self.epsilon),
            "none_found": 1 - self.within(self.cap),
            "flags": list(self.flags),
        }


def read_distances(study_dir: str | Path, /, *, trials: Collection[str] | None = None) -> list[MemberDistances]:
    """Return the distances of a study's trials, in the order of their ids; none for an exported file.

    Args:
        study_dir: The study's folder.
        trials: Ids of the trials to read; all when None.

    Raises:
        ResultsError: A file is damaged, or of another version.
    """
    files = trial_files(Path(study_dir) / DISTANCE.folder)
    return [_read(path) for path in files if trials is None or path.stem in trials]


def _read(path: Path) -> MemberDistances:
    rows = read_file(path, DISTANCE).to_pylist()
    first = rows[0]
    found = sorted(math.inf if row["distance"] is None else row["distance"] for row in rows)
    return MemberDistances(
        **{name: first[name] for name in ("study", "trial_id", "method", "split", "norm", "epsilon", "cap")},
        attack=attack_name(first["attack"], first["steps"]),
        distances=tuple(found),
        flags=tuple(first.get("flags") or ()),
    )
