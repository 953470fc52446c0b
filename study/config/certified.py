"""Whether a study can have certified accuracies: what its config asks for, and its network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.fronts.objectives import CERTIFIED, parse_constraint
from study.config.early_stopping import SchedulerConfig
from study.errors import UsageError
from trainables.methods import METHODS

if TYPE_CHECKING:
    from torch import nn

    from trainables.data.base import ImageData
    from trainables.spec import EvaluationSpec


def check_certify(
    certify: str, scheduler: SchedulerConfig, objectives: Sequence[str], constraints: Sequence[str], /
) -> None:
    """Check that what a study searches or compares by is measured.

    Args:
        certify: `evaluation.certify`.
        scheduler: Compares trials too.
        objectives: Of the search.
        constraints: Of the search.

    Raises:
        ValueError: Certified accuracy is used and not asked for.
    """
    compared = [] if scheduler.name == "none" else scheduler.axes()
    used = {*objectives, *compared, *(parse_constraint(text).column for text in constraints)}
    if certify == "none" and CERTIFIED.name in used:
        raise ValueError(
            f"`evaluation.certify` must be ibp or full where an objective or a constraint is {CERTIFIED.name}, got none"
        )


def check_bounds(evaluation: EvaluationSpec, methods: Sequence[str], network: nn.Module, data: ImageData, /) -> None:
    """Check that a study's network can be bounded, if its measurement or a method asks for that.

    Args:
        evaluation: The measurement.
        methods: Names of its methods; those with `bounds = True` train on interval bounds.
        network: Its network.
        data: Its data set.

    Raises:
        UsageError: It cannot.
    """
    from trainables.certified.certificate import unsupported

    shape = data.image_shape
    if evaluation.certify != "none" and (problem := unsupported(network, shape, norm=evaluation.norm)):
        raise UsageError(f"`evaluation.certify` must be none for this network, got {evaluation.certify}: {problem}")
    for method in methods:
        if getattr(METHODS.load(method), "bounds", False) and (problem := unsupported(network, shape, norm="linf")):
            raise UsageError(f"`search.methods` must be without {method} for this network: {problem}")
