"""Whether a study can have certified accuracies: what its config asks for, and its network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.fronts.objectives import CERTIFIED, parse_constraint

if TYPE_CHECKING:
    from torch import nn

    from trainables.data.base import ImageData
    from trainables.spec import EvaluationSpec


def check_certify(certify: str, names: Sequence[str], constraints: Sequence[str], /) -> None:
    """Check that what a study searches or compares by is measured.

    Args:
        certify: `evaluation.certify`.
        names: Objectives of the search and of its scheduler.
        constraints: Of the search.

    Raises:
        ValueError: Certified accuracy is used and not asked for.
    """
    if certify == "none" and CERTIFIED.name in (*names, *(parse_constraint(text).column for text in constraints)):
        raise ValueError(
            f"`evaluation.certify` must be ibp or full where an objective or a constraint is {CERTIFIED.name}, got none"
        )


def uncertifiable(evaluation: EvaluationSpec, network: nn.Module, data: ImageData, /) -> str | None:
    """Return why no trial of a study can have the certified accuracy that it asks for; None if trials can.

    Args:
        evaluation: The study's measurement.
        network: Its network.
        data: Its data set.
    """
    from trainables.certified.certificate import unsupported

    problem = unsupported(network, data.image_shape, norm=evaluation.norm)
    if evaluation.certify == "none" or problem is None:
        return None
    return f"`evaluation.certify` must be none where nothing can be proved, got {evaluation.certify}: {problem}"
