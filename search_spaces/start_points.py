"""Where a search may start: the settings that the paper ran, placed into a study's space.

Source: Yang, Rashtchian, Zhang, Salakhutdinov, Chaudhuri 2020, "A Closer Look at Accuracy vs. Robustness" (arXiv
2003.02460), section 5 and appendix; each method declares its own in `paper`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search_spaces.dimensions import Dimension, SpaceError
from search_spaces.space import SearchSpace
from trainables.methods import METHODS
from trainables.settings import settings_of

SHARED = {"dropout": 0.0}
"""What all of the paper's methods have in common besides the radius; where the space lacks it, it is drawn."""


def paper_points(space: SearchSpace, /, *, epsilon: float) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the paper's settings of a space's methods, and why some are left out.

    A point holds the method, its hyperparameters, the training radius (the paper trained at the radius it measured
    at) and dropout 0. Radius and dropout are left to the sampler where the space does not hold them. A point with a
    hyperparameter that the space does not search, and that every trial has at another value, is left out.

    Args:
        space: The study's space.
        epsilon: The study's evaluation radius.

    Returns:
        Points by Optuna parameter, each once, in the order of the methods; one line for each point left out.

    Raises:
        SpaceError: A hyperparameter is searched over a range that does not hold the paper's value.
    """
    points: list[dict[str, Any]] = []
    left_out = []
    for method in space.methods:
        declared: tuple[Mapping[str, Any], ...] = getattr(METHODS.load(method), "paper", ({},))
        searched = {own.name: own for own in space.dimensions if own.applies_to(method)}
        for settings in declared:
            different = _held_elsewhere(space, method, settings, searched)
            if different:
                left_out.append(f"{method} {_written(settings)} is left out, because {different}")
                continue
            point: dict[str, Any] = {"method": method} if len(space.methods) > 1 else {}
            point |= {searched[name].key: value for name, value in settings.items() if name in searched}
            for name, value in {**SHARED, "train_epsilon": epsilon}.items():
                if name in searched and searched[name].holds(value):
                    point[searched[name].key] = value
            if point not in points:
                points.append(point)
    return points, left_out


def _held_elsewhere(
    space: SearchSpace, method: str, settings: Mapping[str, Any], searched: Mapping[str, Dimension]
) -> str | None:
    declared = settings_of(METHODS.load(method))
    for name, value in settings.items():
        if name in searched:
            if not searched[name].holds(value):
                raise SpaceError(
                    f"`search.start_from: paper` starts {method} at {name} {_shown(value)}, and "
                    f"`search.ranges.{name}` is {searched[name].describe()}: widen it, or leave `search.start_from` out"
                )
            continue
        held = space.fixed.get(f"{method}.{name}", declared[name].default)
        if held != value:
            return f"every trial has {name} {held} (search it, or set `search.fixed.{method}.{name}`)"
    return None


def _written(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in settings.items())


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
