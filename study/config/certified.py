"""Whether a study can have certified accuracies: what its config asks for, and its network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from analysis.fronts.objectives import CERTIFIED, parse_constraint

if TYPE_CHECKING:
    from torch import nn

    from study.config.schema import StudyConfig


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


def uncertifiable(config: StudyConfig, network: nn.Module, data: Any, /) -> tuple[str, bool] | None:
    """Return why no trial can have a certified accuracy, and whether the study needs one; None if trials can.

    Args:
        config: The study's config.
        network: Its network.
        data: Its data set.
    """
    from trainables.certified.certificate import unsupported

    problem = unsupported(network, data.image_shape, norm=config.evaluation.norm)
    if config.evaluation.certify == "none" or problem is None:
        return None
    search, scheduler = config.search, config.scheduler
    names = [*search.objectives, *([] if scheduler.name == "none" else scheduler.axes())]
    constrained = [parse_constraint(text).column for text in search.constraints]
    text = f"`evaluation.certify` {config.evaluation.certify}, but of model {config.model.name} nothing can be proved"
    return f"{text}: {problem}", CERTIFIED.name in (*names, *constrained)
