"""The space `core`: method, dropout, the method's strength, training epsilon."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from search_spaces.dimensions import Dimension, from_setting
from trainables.methods import METHODS
from trainables.settings import largest_radius, settings_of
from trainables.spec import EvaluationSpec, ModelSpec, TrialSpec

# The training radius is searched around the evaluation radius: from far below it, where training adds little
# robustness, up to twice as large, where larger radii have been reported to help.
EPSILON_FACTORS = (0.25, 2.0)


def core(*, methods: Sequence[str], evaluation: EvaluationSpec) -> list[Dimension]:
    """Return the dimensions that the paper varies.

    Args:
        methods: Names of the methods that trials may use.
        evaluation: The study's evaluation; `train_epsilon` is searched relative to its epsilon.

    Returns:
        Dropout, `train_epsilon` for the methods that attack while training, and those hyperparameters of each method
        that declare a search range.
    """
    dimensions = [from_setting(settings_of(ModelSpec)["dropout"])]
    loaded = {name: METHODS.load(name) for name in methods}
    attacking = [name for name, method in loaded.items() if method.attacks]
    if attacking:
        largest = largest_radius(evaluation.norm)
        low, high = (min(largest or math.inf, factor * evaluation.epsilon) for factor in EPSILON_FACTORS)
        setting = replace(settings_of(TrialSpec)["train_epsilon"], search=(low, high), high=largest)
        shared = replace(from_setting(setting), methods=tuple(attacking))
        dimensions.append(shared)
    for name, method in loaded.items():
        for setting in settings_of(method).values():
            if setting.search is not None:
                dimensions.append(from_setting(setting, owner=name))
    return dimensions
