"""Start points of a search: the paper's settings as points of a study's space.

Source: Yang, Rashtchian, Zhang, Salakhutdinov, Chaudhuri 2020, "A Closer Look at Accuracy vs. Robustness" (arXiv
2003.02460), section 5 and appendix; each method declares the paper's settings in `paper`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from search_spaces.dimensions import Dimension, SpaceError
from search_spaces.space import SearchSpace
from trainables.methods import METHODS, PAPER_METHODS
from trainables.settings import settings_of

SHARED = {"dropout": 0.0}
"""The paper's setting for all methods besides the radius; it is drawn instead if the space does not include it."""


def paper_points(space: SearchSpace, /, *, epsilon: float) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the paper's settings of a space's methods, and the reasons for omitting some.

    A point is the method, its hyperparameters, the training radius (the paper trained at the evaluation radius) and
    dropout 0. The sampler draws radius and dropout if the space does not include those values. A point is omitted if
    the space does not search one of its hyperparameters and fixes it at another value.

    Args:
        space: The study's space.
        epsilon: The study's evaluation radius.

    Returns:
        Points by Optuna parameter, each once, in the order of the methods; one line for each omitted point.

    Raises:
        SpaceError: A hyperparameter is searched over a range that does not include the paper's value.
    """
    points: list[dict[str, Any]] = []
    omitted = []
    for method in space.methods:
        unnamed: list[Mapping[str, Any]] = [{}] if method in PAPER_METHODS else []
        declared: Sequence[Mapping[str, Any]] = getattr(METHODS.load(method), "paper", unnamed)
        searched = {dimension.name: dimension for dimension in space.dimensions if dimension.applies_to(method)}
        for settings in declared:
            conflict = _conflict(space, method, settings, searched)
            if conflict:
                omitted.append(f"{method} {_listed(settings)} is omitted, because {conflict}")
                continue
            point: dict[str, Any] = {"method": method} if len(space.methods) > 1 else {}
            point |= {searched[name].key: value for name, value in settings.items() if name in searched}
            for name, value in {**SHARED, "train_epsilon": epsilon}.items():
                if name in searched and searched[name].contains(value):
                    point[searched[name].key] = value
            if point not in points:
                points.append(point)
    return points, omitted


def _conflict(
    space: SearchSpace, method: str, settings: Mapping[str, Any], searched: Mapping[str, Dimension]
) -> str | None:
    """Return why a setting of the paper is no point of the space, or None.

    Raises:
        SpaceError: A hyperparameter is searched over a range that does not include the paper's value.
    """
    declared = settings_of(METHODS.load(method))
    for name, value in settings.items():
        fixed = space.fixed.get(f"{method}.{name}", declared[name].default)
        if name not in searched and fixed != value:
            return f"every trial has {name} {fixed} (search it, or set `search.fixed.{method}.{name}`)"
    for name, value in settings.items():
        if name in searched and not searched[name].contains(value):
            raise SpaceError(
                f"`search.start_from: paper` starts {method} at {name} {_formatted(value)}, but "
                f"`search.ranges.{name}` is {searched[name].describe()}: widen it, or remove `search.start_from`"
            )
    return None


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_formatted(value)}" for name, value in settings.items())


def _formatted(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
