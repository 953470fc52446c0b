"""The classifier of the theorem on a study's own images: what it promises of them, and what it keeps of others.

Source: Yang et al. 2020, section 4.1: the class of the nearest training image. Its predictions are certified, not
attacked: x is right everywhere within half the difference of its distances to the nearest other class and to its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.data.results import Table
from analysis.data.schema import ResultsError
from analysis.statistics.networks.radius_curves import Curve
from analysis.statistics.networks.theorem_radius import TheoremRadius
from analysis.wording import radius as shown_radius

FILE = "separated_classifier.json"
"""Its file in a study's folder."""

NAME = "separated-data classifier"

_MOST_STEPS = 200


@dataclass(frozen=True, kw_only=True)
class SeparatedClassifier:
    """The classifier built on a study's training images.

    Args:
        dataset: The study's data set.
        split_hash: Digest of its images and splits.
        norm: `linf` or `l2`.
        train_images: How many training images it is built on.
        two_r: Smallest distance between training images of different labels, pixel range; None for a single label.
        contradicting: Training images identical to one of another label.
        consistent_two_r: The same distance over training images that contradict none; None without such images.
        certified_radius: By validation image, in the order in which trials are measured on them: right at every point
            nearer than this, pixel range; None where it is wrong.
    """

    dataset: str
    split_hash: str
    norm: str
    train_images: int
    two_r: float | None
    contradicting: int
    consistent_two_r: float | None
    certified_radius: Sequence[float | None]

    def _first(self, examples: int | None) -> np.ndarray:
        """Return the radii of the first validation images as float64, NaN where it is wrong."""
        return np.array(self.certified_radius[:examples], dtype=np.float64)

    def clean_accuracy(self, *, examples: int | None = None) -> float:
        """Return the share of the first `examples` validation images, or of all, that it classifies correctly."""
        return float(np.mean(~np.isnan(self._first(examples))))

    def certified_accuracy(self, epsilon: float, /, *, examples: int | None = None) -> float:
        """Return the share that it certainly classifies correctly at every point within `epsilon`."""
        return float(np.mean(self._first(examples) > epsilon))

    def curve(self, upto: float, /, *, examples: int | None = None) -> Curve:
        """Return its certified accuracy at radii from 0 to `upto`: each holds until the next radius."""
        steps = np.unique(self._first(examples))
        steps = steps[(steps > 0) & (steps < upto)]
        if len(steps) > _MOST_STEPS:
            steps = np.linspace(0.0, upto, _MOST_STEPS)[1:-1]
        radii = [0.0, *steps.tolist(), upto]
        return Curve(
            trial_id=NAME,
            method="",
            split="val",
            attack="certified",
            norm=self.norm,
            examples=len(self._first(examples)),
            radii=tuple(radii),
            accuracies=tuple(self.certified_accuracy(at, examples=examples) for at in radii),
        )

    def reach(self) -> TheoremRadius | None:
        """Return the theorem's radius for the training images; None for a single label."""
        if self.two_r is None:
            return None
        return TheoremRadius(
            dataset=self.dataset,
            norm=self.norm,
            two_r=self.two_r,
            contradicting=self.contradicting,
            consistent_two_r=self.consistent_two_r,
            examples=self.train_images,
        )

    def text(self) -> str:
        """Return it as the JSON of its file."""
        return json.dumps({"version": 1, **asdict(self)}) + "\n"


@dataclass(frozen=True, kw_only=True)
class ClassifierPoint:
    """The classifier beside a study's trials, on the same validation images and at the same radius.

    Args:
        clean: Its clean accuracy.
        certified: Its certified robust accuracy at `epsilon`.
        epsilon: The study's radius.
        examples: Validation images.
        reach: The theorem's radius for the training images, None for a single label.
    """

    clean: float
    certified: float
    epsilon: float
    examples: int
    reach: TheoremRadius | None

    @property
    def exists(self) -> str:
        """What the theorem promises of the training images, in one phrase."""
        if self.reach is None:
            return "all training images have one label, so any radius is within the theorem's"
        of = f"{self.reach.examples:,} training images"
        of += f" but {self.reach.contradicting} that contradict others" if self.reach.contradicting else ""
        promised = f"some classifier is right everywhere within ε of all {of} for every ε < r = {self.reach.radius:.4g}"
        inside = "inside" if self.epsilon < self.reach.radius else "outside"
        return f"{promised} (ε = {shown_radius(self.epsilon)} is {inside})"

    @property
    def sentence(self) -> str:
        """What the theorem promises, and what its classifier keeps of images that it was not built on."""
        return (
            f"Theorem: {self.exists}. Whether one generalises is another question: the {NAME} is right on "
            f"{self.clean:.3f} of {self.examples:,} validation images, certified on {self.certified:.3f}"
        )


def read_classifier(study_dir: str | Path, table: Table, /) -> SeparatedClassifier | None:
    """Return the classifier of a study; None where it is not measured, or not on the images and norm of these rows.

    Args:
        study_dir: The study's folder, or an exported file, which has none.
        table: Result rows.

    Raises:
        ResultsError: The file is damaged.
    """
    path = Path(study_dir) / FILE
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found.pop("version") != 1:
            raise ValueError("another version")
        classifier = SeparatedClassifier(**found)
        classifier.certified_accuracy(0.0)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ResultsError(f"{path} is damaged ({error}): remove it, and measure it again") from error
    return classifier if _measured(table) == {(classifier.split_hash, classifier.norm)} else None


def classifier_point(classifier: SeparatedClassifier | None, table: Table, /) -> ClassifierPoint | None:
    """Return the classifier as a point beside a study's trials; None where these differ in images or radius."""
    if classifier is None or _measured(table) != {(classifier.split_hash, classifier.norm)}:
        return None
    radii, counts = (set(table[name].drop_null().to_pylist()) for name in ("eval_epsilon", "examples"))
    if len(radii) != 1 or not counts or not classifier.certified_radius:
        return None
    epsilon, examples = radii.pop(), min(max(counts), len(classifier.certified_radius))
    return ClassifierPoint(
        clean=classifier.clean_accuracy(examples=examples),
        certified=classifier.certified_accuracy(epsilon, examples=examples),
        epsilon=epsilon,
        examples=examples,
        reach=classifier.reach(),
    )


def _measured(table: Table) -> set[tuple[Any, ...]]:
    """Return the images and the norm of rows; failed trials may have no images."""
    columns = (table[name].to_pylist() for name in ("split_hash", "norm"))
    return {pair for pair in zip(*columns, strict=True) if pair[0] is not None}
