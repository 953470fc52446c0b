"""What figures and report of a study show: its result rows and what is known beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from analysis.data.results import Table
from analysis.fronts.strong_attacks import StrongResult
from analysis.heldout.members import HeldoutResults
from analysis.statistics.front_posterior import FrontPosterior
from analysis.statistics.importance import MethodImportance
from analysis.statistics.networks.minimum_distances import MemberDistances
from analysis.statistics.networks.radius_curves import Curve
from analysis.statistics.networks.separated_classifier import SeparatedClassifier
from analysis.statistics.networks.theorem_radius import TheoremRadius, reach_of


@dataclass(frozen=True, kw_only=True)
class StudyMaterial:
    """One study, or several of like measurement, as figures and report show it.

    Args:
        table: Result rows.
        config: The config as YAML, empty where unknown.
        data_notes: What was noticed about the data set when it was loaded, a sentence each.
        belief: What the per-example outcomes say of the front.
        importance: Shares of variance by objective and hyperparameter.
        importance_sample: Which trials those rest on, in words.
        importance_within: The same within each method.
        near_front: Importances for being near the front, by what was computed, in words.
        reference: Reference values of the hypervolume, by objective.
        separation: Distances between the classes of the data set, rows of the separation schema.
        curves: Accuracy against the radius, of front members.
        distances: From images to the nearest adversarial examples found, of front members that were measured.
        devices: What a trial holds while it runs, so that hours count `unit`.
        unit: "worker-hours", or "GPU-hours".
        strong: Members' values under strong attacks, by trial.
        classifier: The theorem's classifier on the study's own images, None where it is not measured.
        on_test: What is known on test, None where nothing was measured.
        homes: The studies' folders as a command line names them, by study; empty where there are none.
        epochs: Epoch rows of the trials, for figures; None where they are not read or not recorded.
        smoothness: Some members' Lipschitz estimates of single images, by trial and split, sorted; for figures.
    """

    table: Table
    config: str = ""
    data_notes: Sequence[str] = ()
    belief: FrontPosterior | None = None
    importance: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    importance_sample: str = ""
    importance_within: Sequence[MethodImportance] = ()
    near_front: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    reference: Mapping[str, float] | None = None
    separation: Table | None = None
    curves: Sequence[Curve] = ()
    distances: Sequence[MemberDistances] = ()
    devices: float = 1.0
    unit: str = "worker-hours"
    strong: Mapping[str, StrongResult] = field(default_factory=dict)
    classifier: SeparatedClassifier | None = None
    on_test: HeldoutResults | None = None
    homes: Mapping[str, str] = field(default_factory=dict)
    epochs: Table | None = None
    smoothness: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The names of the studies."""
        return ", ".join(dict.fromkeys(self.table["study"].to_pylist()))

    def probabilities(self) -> dict[str, float]:
        """Return the probabilities to be truly on the front by trial, empty without per-example outcomes."""
        return {} if self.belief is None else self.belief.probabilities()

    def reach(self) -> TheoremRadius | None:
        """Return the theorem's radius for the study's training images, else for the data set; None if unknown."""
        if self.classifier is not None:
            return self.classifier.reach()
        return None if self.separation is None else reach_of(self.separation)
