"""Settings with several seeds as one line each: mean and standard deviation over the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.data.results import Table
from analysis.fronts.front import require_like_for_like
from analysis.fronts.objectives import CERTIFIED
from analysis.method_styles import styles_for
from analysis.statistics.intervention import soundly_measured
from analysis.tables.text_table import TextTable, write_forms
from analysis.wording import LOWER_BOUND, measured_by, own_parameters, provenance

NAME = "settings"
"""Stem of the files' names."""

MEASURES = {
    "val_clean_accuracy": ("clean", ".3f"),
    "val_robust_accuracy": ("robust", ".3f"),
    "val_certified_accuracy": ("certified", ".3f"),
    "val_lipschitz_mean": ("Lipschitz", ".3g"),
    "val_lipschitz_scale_free_mean": ("scale-free Lipschitz", ".3g"),
    "clean_gap": ("gap", "+.3f"),
    "robust_gap": ("adv. gap", "+.3f"),
    "seconds": ("s a trial", ".3g"),
}
"""Columns with a mean over seeds, their headings and formats."""


@dataclass(frozen=True, kw_only=True)
class SettingLine:
    """The trials of one setting.

    Args:
        first: Row of the first of them.
        trials: How many there are.
        values: Of each of `MEASURES`, the soundly measured trials' values, NaN left out.
    """

    first: Mapping[str, Any]
    trials: int
    values: Mapping[str, np.ndarray]

    @property
    def n(self) -> int:
        """Number of soundly measured trials."""
        return max(len(of) for of in self.values.values())

    def mean(self, name: str, /) -> float | None:
        """Return the mean of one of `MEASURES`; None where nothing is known."""
        return float(self.values[name].mean()) if len(self.values[name]) else None

    def deviation(self, name: str, /) -> float | None:
        """Return the sample standard deviation over the seeds; None with fewer than two."""
        return float(self.values[name].std(ddof=1)) if len(self.values[name]) > 1 else None


def setting_lines(table: Table, /) -> list[SettingLine]:
    """Return a line for each setting, by method as in figures, strength, radius and dropout; none without replicates.

    Args:
        table: Result rows.

    Raises:
        MixedStudiesError: The rows differ in what they measure; see `require_like_for_like`.
    """
    require_like_for_like(table)
    groups: dict[tuple[str, int], list[int]] = {}
    rows = table.to_pylist()
    for index, row in enumerate(rows):
        first = row["number"] if row["replicate_of"] is None else row["replicate_of"]
        groups.setdefault((row["study"], first), []).append(index)
    if all(len(members) == 1 for members in groups.values()):
        return []
    sound = soundly_measured(table)
    columns = {name: _column(table, name) for name in MEASURES}
    lines = []
    for members in groups.values():
        chosen = np.array(members)[sound[members]]
        known = {name: values[chosen][np.isfinite(values[chosen])] for name, values in columns.items()}
        lines.append(SettingLine(first=rows[members[0]], trials=len(members), values=known))
    places = {method: place for place, method in enumerate(styles_for(row["method"] for row in rows))}
    return sorted(lines, key=lambda line: _place(line.first, places))


def _column(table: Table, name: str) -> np.ndarray:
    """Return a measure, shape (n,); of a certificate that was sought and proves nothing 0."""
    if name == CERTIFIED.column:
        return CERTIFIED.read(table)
    return np.asarray(table[name].to_numpy(zero_copy_only=False), dtype=np.float64)


def _place(row: Mapping[str, Any], places: Mapping[str, int]) -> tuple[Any, ...]:
    own = tuple(value or 0.0 for name, value in row.items() if name.startswith("param.") and name != "param.dropout")
    return (places[row["method"]], own, row["train_epsilon"] or 0.0, row.get("param.dropout") or 0.0, row["number"])


def settings_table(table: Table, /) -> TextTable:
    """Return `setting_lines` as a table, without rows where no setting has several seeds."""
    lines = setting_lines(table)
    shown = {name: heading for name, heading in MEASURES.items() if any(len(line.values[name]) for line in lines)}
    styles = styles_for(line.first["method"] for line in lines)
    rows = tuple(
        (
            styles[line.first["method"]].label,
            own_parameters(line.first),
            line.first["train_epsilon"],
            line.first.get("param.dropout"),
            str(line.n) if line.n == line.trials else f"{line.n} of {line.trials}",
            *(_shown(line, name) for name in shown),
        )
        for line in lines
    )
    notes = (
        "mean ± standard deviation over seeds, of completed trials without flags on their measurement (as catastrophic "
        "overfitting is not); validation, not test",
        f"robust: {measured_by(table)}; Lipschitz: mean, {LOWER_BOUND}; gap: train - val",
        "certified: proved for every point of the ball, 0 where nothing is proved",
        provenance(table),
    )
    return TextTable(
        title="Settings with several seeds",
        headings=("method", "strength", "train ε", "dropout", "n", *(heading for heading, _ in shown.values())),
        formats=("", "", ".4g", "g", "", *("" for _ in shown)),
        rows=rows,
        notes=notes if lines else (),
    )


def _shown(line: SettingLine, name: str) -> str | None:
    mean, deviation, spec = line.mean(name), line.deviation(name), MEASURES[name][1]
    if mean is None:
        return None
    return format(mean, spec) if deviation is None else f"{mean:{spec}} ± {deviation:{spec.removeprefix('+')}}"


def write_settings_table(table: Table, out_dir: str | Path, /) -> list[Path]:
    """Write the table as `settings.md`, `.tex`, `.csv` and `.parquet`, where a setting has several seeds.

    The last two hold mean, standard deviation and number at full precision.

    Returns:
        The files written.
    """
    lines = setting_lines(table)
    return write_forms(settings_table(table), _columns(lines), out_dir, name=NAME) if lines else []


def _columns(lines: Sequence[SettingLine]) -> dict[str, list[Any]]:
    named = ("study", "trial_id", "dataset", "model", "method", "train_epsilon")
    columns: dict[str, list[Any]] = {name: [line.first[name] for line in lines] for name in named}
    columns["strength"] = [own_parameters(line.first) for line in lines]
    columns["dropout"] = [line.first.get("param.dropout") for line in lines]
    columns["trials"] = [line.trials for line in lines]
    for name in MEASURES:
        columns[name] = [line.mean(name) for line in lines]
        columns[f"{name}_sd"] = [line.deviation(name) for line in lines]
        columns[f"{name}_n"] = [len(line.values[name]) for line in lines]
    return columns
