"""Which changes of a config leave a study what it is, and which would make its trials incomparable."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from study.config.schema import StudyConfig
from study.errors import UsageError

HARMLESS = (
    "cluster",
    "dataset.root",
    "front",
    "resources",
    "search.num_trials",
    "search.time_budget",
    "storage.checkpoint_minutes",
    "storage.checkpoints",
    "storage.keep",
    "tracking",
)
"""Keys, and sections of keys, that say how much is run and where, not what is measured or proposed."""


def flat(tree: Mapping[str, Any], prefix: str = "", /) -> dict[str, Any]:
    """Return nested values by their dotted keys."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return found


def check_unchanged(
    recorded: Mapping[str, Any], config: StudyConfig, /, *, where: str, given: Collection[str] = ()
) -> None:
    """Check that a study's trials mean what they meant when it began.

    Args:
        recorded: The config it began with, as `StudyConfig.to_dict` gave it.
        config: The config now.
        where: The file to mend.
        given: Dotted keys that the command line sets.

    Raises:
        UsageError: A line for each key that changes the meaning, with both values.
    """
    began, now = flat(_filled(recorded)), flat(config.to_dict())
    changed = [key for key in {**began, **now} if began.get(key) != now.get(key) and not _is_harmless(key)]
    if changed:
        is_given = all(any(key == name or key.startswith(f"{name}.") for name in given) for key in changed)
        mend = "leave out its --set" if is_given else f"put the old values back in {where}"
        raise UsageError(
            *(f"`{key}` was {began.get(key)!r} when the study began and is {now.get(key)!r} now" for key in changed),
            f"its trials would no longer be comparable: {mend}, or launch a new study under another name",
        )


def _filled(recorded: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the recorded config with keys that a later version added at their defaults."""
    try:
        return StudyConfig.model_validate(recorded).to_dict()
    except ValueError:
        return recorded


def _is_harmless(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in HARMLESS)
