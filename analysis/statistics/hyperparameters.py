"""The hyperparameters that vary in a study, each as a column of numbers, and one column for all methods' strengths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.data.results import Table
from analysis.method_styles import styles_for
from analysis.statistics.association import measure
from analysis.wording import SHARED_PARAMETERS

STRENGTH = "strength"
"""Name of the setting that holds each method's own strength."""

_WIDE = 50
_LINEAR = ("dropout", "train_epsilon")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One hyperparameter over the trials of a table.

    Args:
        name: `train_epsilon`, a parameter's name without "param.", or `STRENGTH`.
        label: What axes call it, with its unit.
        values: Shape (n,); NaN where a trial has none.
    """

    name: str
    label: str
    values: np.ndarray

    @property
    def log(self) -> bool:
        """Whether the values span so much that only a logarithmic axis shows them."""
        known = self.values[np.isfinite(self.values)]
        wide = bool(len(known) and known.min() > 0 and known.max() > _WIDE * known.min())
        return wide and self.name not in _LINEAR


def varying_settings(table: Table, /) -> list[Setting]:
    """Return what varies: training radius, dropout, the methods' strengths, then further parameters by name.

    A method's strength is the first by name of its own parameters that varies; the label says whose is which.
    """
    methods = np.asarray(table["method"].to_pylist(), dtype=object)
    columns = {
        name.removeprefix("param."): measure(table, name) for name in table.column_names if name.startswith("param.")
    }
    found = [Setting(name="train_epsilon", label="training radius ε", values=measure(table, "train_epsilon"))]
    if "dropout" in columns:
        found.append(Setting(name="dropout", label="dropout rate", values=columns.pop("dropout")))
    own = {name: values for name, values in columns.items() if name not in SHARED_PARAMETERS}
    chosen = _strengths(methods, own)
    if chosen:
        values = np.full(len(methods), np.nan)
        for method, name in chosen.items():
            values[methods == method] = own[name][methods == method]
        found.append(Setting(name=STRENGTH, label=f"strength ({_said(chosen)})", values=values))
    for name, values in columns.items():
        rest = values.copy()
        rest[[chosen.get(method) == name for method in methods]] = np.nan
        found.append(Setting(name=name, label=name.replace("_", " "), values=rest))
    return [setting for setting in found if _varies(setting.values)]


def _strengths(methods: np.ndarray, own: dict[str, np.ndarray]) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for method in styles_for(methods):
        varied = [name for name, values in sorted(own.items()) if _varies(values[methods == method])]
        chosen |= {method: varied[0]} if varied else {}
    return chosen


def _said(chosen: dict[str, str]) -> str:
    styles = styles_for(chosen)
    names = dict.fromkeys(chosen.values())
    return "; ".join(
        f"{name} of {', '.join(styles[method].label for method in styles if chosen[method] == name)}" for name in names
    )


def _varies(values: np.ndarray) -> bool:
    known = values[np.isfinite(values)]
    return bool(len(known) and (known != known[0]).any())
