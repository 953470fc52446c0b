"""Which changes of a config keep a study's trials comparable, and which are refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from analysis.data.nested import flat
from study.config.schema import StudyConfig
from study.errors import UsageError
from trainables.settings import with_former_values

HARMLESS = (
    "cluster",
    "dataset.root",
    "front",
    "resources",
    "search.num_trials",
    "search.seeds",
    "search.time_budget",
    "storage.checkpoint_minutes",
    "storage.checkpoints",
    "storage.keep",
    "storage.optuna",
    "tracking",
)
"""Keys, and sections of keys, that set how much is run and where, not what is measured or proposed."""


def check_unchanged(
    recorded: Mapping[str, Any], config: StudyConfig, /, *, where: str, given: Collection[str] = ()
) -> None:
    """Check that no change of its config makes a study's trials incomparable.

    Args:
        recorded: The config that the study started with, as `StudyConfig.to_dict` returned it.
        config: The config now.
        where: The config's file.
        given: Dotted keys that the command line sets.

    Raises:
        UsageError: A line for each key whose change is refused, with both values.
    """
    changed = refused_changes(recorded, config)
    if changed:
        is_given = all(any(key == name or key.startswith(f"{name}.") for name in given) for key in changed)
        remedy = "leave out its --set" if is_given else f"restore the old values in {where}"
        raise UsageError(
            *changed.values(),
            f"its trials would no longer be comparable: {remedy}, or launch a new study under another name",
        )


def refused_changes(recorded: Mapping[str, Any], config: StudyConfig, /) -> dict[str, str]:
    """Return a line with both values for each key whose change makes a study's trials incomparable, by key.

    Args:
        recorded: As in `check_unchanged`.
        config: Likewise.
    """
    old, new = flat(_filled(recorded)), flat(config.to_dict())
    return {
        key: f"`{key}` was {old.get(key)!r} when the study started and is {new.get(key)!r} now"
        for key in {**old, **new}
        if old.get(key) != new.get(key) and not _is_harmless(key)
    }


def _filled(recorded: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the recorded config with the keys that a later version added."""
    try:
        return StudyConfig.model_validate(with_former_values(recorded, StudyConfig)).to_dict()
    except ValueError:
        return recorded


def _is_harmless(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in HARMLESS)
