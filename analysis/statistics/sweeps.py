"""Settings that differ in one number alone, and their seeds: what the field's fixed-method curves join."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.data.results import Table
from analysis.fronts.objectives import FRONT, values
from analysis.statistics.importance import setting_name
from analysis.statistics.intervention import soundly_measured
from analysis.wording import SHARED_PARAMETERS

LEAST = 3
"""Fewest values of a setting that make a curve."""

_OTHERS = ("train_epsilon", "options", "craft_mode", "model")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Trials of one method that differ in one setting and their seeds alone.

    Args:
        method: The method.
        setting: Column of the setting that is swept.
        held: The other settings that vary among the method's trials, "dropout 0.2, lr 0.1"; empty for none.
        points: For each value of the setting, ascending, the value and the accuracies of its seeds, shape (seeds, 2).
        trials: The ids of those seeds, in the same order.
    """

    method: str
    setting: str
    held: str
    points: tuple[tuple[float, np.ndarray], ...]
    trials: tuple[tuple[str, ...], ...]

    @property
    def seeds(self) -> int:
        """The most seeds that a value of the setting has."""
        return max(len(accuracies) for _, accuracies in self.points)


def sweeps_of(table: Table, /) -> list[Sweep]:
    """Return the curves of the soundly measured trials, methods sorted, each along its setting with the longest ones.

    A curve is of a grid's points, or has a value with several seeds: values drawn at random, once each, show noise
    rather than the setting. The setting is a number of the method's own, its training radius or a shared one, the first
    of these on ties.
    """
    sound = table.filter(soundly_measured(table) & np.isfinite(values(table, FRONT)).all(axis=1))
    rows = sound.to_pylist()
    curves = []
    for method in sorted({row["method"] for row in rows}):
        of_method = [row for row in rows if row["method"] == method]
        candidates = [_along(name, method, of_method) for name in _swept(of_method)]
        curves += max(candidates, key=lambda found: max((len(one.points) for one in found), default=0), default=[])
    return curves


def _swept(rows: list[dict[str, Any]]) -> list[str]:
    """Return the numeric settings that vary, a method's own first, then its radius, then shared ones."""
    columns = [name for name in rows[0] if name.startswith("param.")]
    shared = [f"param.{name}" for name in SHARED_PARAMETERS]
    ordered = [*sorted(name for name in columns if name not in shared), "train_epsilon", *shared]
    return [name for name in ordered if len({row.get(name) for row in rows} - {None}) >= LEAST]


def _along(name: str, method: str, rows: list[dict[str, Any]]) -> list[Sweep]:
    settings = [column for column in rows[0] if column.startswith("param.") or column in _OTHERS]
    varying = [column for column in settings if column != name and len({row[column] for row in rows}) > 1]
    groups: dict[tuple[Any, ...], dict[float, list[dict[str, Any]]]] = {}
    for row in rows:
        if row[name] is not None:
            group = groups.setdefault(tuple(row[column] for column in varying), {})
            group.setdefault(float(row[name]), []).append(row)
    return [
        Sweep(
            method=method,
            setting=name,
            held=_held(dict(zip(varying, key, strict=True))),
            points=tuple((value, _accuracies(seeds)) for value, seeds in sorted(group.items())),
            trials=tuple(tuple(row["trial_id"] for row in seeds) for _, seeds in sorted(group.items())),
        )
        for key, group in groups.items()
        if len(group) >= LEAST and _is_planned(group)
    ]


def _is_planned(group: Mapping[float, list[dict[str, Any]]]) -> bool:
    seeds = list(group.values())
    return any(len(rows) > 1 for rows in seeds) or all(row["proposal"] == "grid" for rows in seeds for row in rows)


def _accuracies(rows: list[dict[str, Any]]) -> np.ndarray:
    """Return clean and robust accuracy of rows, shape (n, 2)."""
    return np.stack([values(row, FRONT) for row in rows])


def _held(settings: Mapping[str, Any]) -> str:
    texts = (
        "none" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
        for value in settings.values()
    )
    return ", ".join(f"{setting_name(name)} {text}" for name, text in zip(settings, texts, strict=True))
