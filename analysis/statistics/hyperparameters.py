"""The hyperparameters that vary in a study as columns of numbers, with one column for all methods' strengths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.data.results import Table
from analysis.method_styles import styles_for
from analysis.statistics.association import measure
from analysis.wording import SHARED_PARAMETERS

STRENGTH = "strength"
"""Name of the setting with each method's own strength."""

_WIDE = 50
_LINEAR = ("dropout", "train_epsilon")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One hyperparameter over the trials of a table.

    Args:
        name: `train_epsilon`, a parameter's name without "param.", or `STRENGTH`.
        label: Axis label.
        values: Shape (n,); NaN where a trial has none.
    """

    name: str
    label: str
    values: np.ndarray

    @property
    def log(self) -> bool:
        """Whether the values span more than a linear axis can show."""
        finite = self.values[np.isfinite(self.values)]
        wide = bool(len(finite) and finite.min() > 0 and finite.max() > _WIDE * finite.min())
        return wide and self.name not in _LINEAR


def varying_settings(table: Table, /) -> list[Setting]:
    """Return the settings that vary: training radius, dropout, the methods' strengths, then other parameters by name.

    A method's strength is the first by name of its own parameters that varies; the label lists them by method.
    """
    methods = np.asarray(table["method"].to_pylist(), dtype=object)
    columns = {
        name.removeprefix("param."): measure(table, name) for name in table.column_names if name.startswith("param.")
    }
    settings = [Setting(name="train_epsilon", label="training radius ε", values=measure(table, "train_epsilon"))]
    if "dropout" in columns:
        settings.append(Setting(name="dropout", label="dropout rate", values=columns.pop("dropout")))
    strengths = own_strengths(table)
    if strengths:
        values = np.full(len(methods), np.nan)
        for method, name in strengths.items():
            values[methods == method] = columns[name][methods == method]
        settings.append(Setting(name=STRENGTH, label=f"strength ({_strength_label(strengths)})", values=values))
    for name, values in columns.items():
        rest = values.copy()
        rest[[strengths.get(method) == name for method in methods]] = np.nan
        settings.append(Setting(name=name, label=name.replace("_", " "), values=rest))
    return [setting for setting in settings if _varies(setting.values)]


def own_strengths(table: Table, /) -> dict[str, str]:
    """Return each method's strength, the first by name of its own parameters that varies, without "param."."""
    methods = np.asarray(table["method"].to_pylist(), dtype=object)
    columns = [name.removeprefix("param.") for name in table.column_names if name.startswith("param.")]
    own = {name: measure(table, f"param.{name}") for name in columns if name not in SHARED_PARAMETERS}
    strengths: dict[str, str] = {}
    for method in styles_for(methods):
        varying = [name for name, values in sorted(own.items()) if _varies(values[methods == method])]
        strengths |= {method: varying[0]} if varying else {}
    return strengths


def _strength_label(strengths: dict[str, str]) -> str:
    styles = styles_for(strengths)
    names = dict.fromkeys(strengths.values())
    return "; ".join(
        f"{name} of {', '.join(style.label for method, style in styles.items() if strengths[method] == name)}"
        for name in names
    )


def _varies(values: np.ndarray) -> bool:
    finite = values[np.isfinite(values)]
    return bool(len(finite) and (finite != finite[0]).any())
