"""The paper's table: accuracies, Lipschitzness and gaps per method and dropout, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.data.results import Table, write_plain
from analysis.fronts.front import feasible, require_like_for_like
from analysis.statistics.intervals import Estimate, accuracy_estimate, difference
from analysis.tables.text_table import TextTable
from analysis.wording import LOWER_BOUND, measured_by, provenance

LEVELS = 4
"""Most values of dropout that get a line each; more are put into bands."""

BANDS = ((0.0, 0.0), (0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.5), (0.5, 1.0))
"""Bands of dropout, the lower end left out but for the first."""

_COLUMNS = (
    ("train_accuracy", "train"),
    ("accuracy", "val"),
    ("robust_accuracy", "adv. val"),
    ("gap", "gap"),
    ("adversarial_gap", "adv. gap"),
)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One method at one level of dropout.

    Args:
        method: The method.
        dropout: The level or band, in words.
        trial: The trial shown: of those that may be on a front the one with the highest validation robust accuracy;
            None where there is none.
        trials: Trials there.
        failed: How many of them failed.
        flagged: How many completed with flags.
        infeasible: How many completed without flags, but against a constraint of their study.
        measures: By name: train accuracy, accuracy, robust accuracy, their gaps, each with its 95 % interval.
        lipschitz: Mean empirical local Lipschitz lower bound on validation.
    """

    method: str
    dropout: str
    trial: str | None
    trials: int
    failed: int
    flagged: int
    infeasible: int
    measures: Mapping[str, Estimate]
    lipschitz: float | None


def paper_lines(table: Table, /, *, allow_mixed: bool = False, levels: Sequence[str] | None = None) -> list[Line]:
    """Return a line for each method and level (or band) of dropout that has trials.

    Args:
        table: Result rows.
        allow_mixed: Put rows together though they were measured differently.
        levels: Each row's level of dropout in words, those of its own dropout rates when None.

    Raises:
        MixedStudiesError: The rows differ in what they measure, and `allow_mixed` is not set.
    """
    if not allow_mixed:
        require_like_for_like(table)
    sound = feasible(table)
    levels = dropout_levels(dropouts(table)) if levels is None else levels
    groups: dict[tuple[str, str], list[int]] = {}
    for index, (method, level) in enumerate(zip(table["method"].to_pylist(), levels, strict=True)):
        groups.setdefault((method, level), []).append(index)
    rows = table.to_pylist()
    return [_line(key, [rows[i] for i in groups[key]], sound[groups[key]]) for key in sorted(groups)]


def paper_table(table: Table, /, *, allow_mixed: bool = False) -> TextTable:
    """Return `paper_lines` as a table; 95 % intervals follow each number in brackets."""
    lines = paper_lines(table, allow_mixed=allow_mixed)
    rows = [
        (
            line.method,
            line.dropout,
            line.trial or "",
            *(_shown(line.measures.get(name)) for name, _ in _COLUMNS[:3]),
            line.lipschitz,
            *(_shown(line.measures.get(name)) for name, _ in _COLUMNS[3:]),
            line.trials,
            line.failed,
            line.flagged,
            line.infeasible,
        )
        for line in lines
    ]
    headings = ("method", "dropout", "trial", *(heading for _, heading in _COLUMNS[:3]), "Lipschitz (val)")
    return TextTable(
        title="Per method and dropout: the trial with the highest validation robust accuracy",
        headings=(*headings, *(heading for _, heading in _COLUMNS[3:]), "trials", "failed", "flagged", "infeasible"),
        formats=("", "", "", "", "", "", ".4g", "", "", "d", "d", "d", "d"),
        rows=tuple(rows),
        notes=(
            "validation, not test; 95 % intervals of the examples (Wilson; gaps by Newcombe's), without the luck of "
            "having been chosen",
            f"adv.: {measured_by(table)}; Lipschitz: mean, {LOWER_BOUND}",
            "gap: train - val; adv. gap: adv. train - adv. val",
            provenance(table),
        )
        if lines
        else (),
    )


def write_paper_table(table: Table, out_dir: str | Path, /, *, allow_mixed: bool = False) -> list[Path]:
    """Write the table as `table.md`, `.tex`, `.csv` and `.parquet` (the last two with the ends as columns).

    Returns:
        The files written.
    """
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    shown = paper_table(table, allow_mixed=allow_mixed)
    columns = _flat(paper_lines(table, allow_mixed=allow_mixed))
    written = [folder / f"table.{suffix}" for suffix in ("md", "tex", "csv", "parquet")]
    written[0].write_text(shown.markdown(), encoding="utf-8")
    written[1].write_text(shown.latex(), encoding="utf-8")
    whole = TextTable(
        title="", headings=tuple(columns), formats=("",) * len(columns), rows=tuple(zip(*columns.values(), strict=True))
    )
    written[2].write_text(whole.csv(), encoding="utf-8")
    write_plain(written[3], columns)
    return written


def _flat(lines: list[Line]) -> dict[str, list[Any]]:
    names = ("method", "dropout", "trial", "trials", "failed", "flagged", "infeasible", "lipschitz")
    columns: dict[str, list[Any]] = {name: [getattr(line, name) for line in lines] for name in names}
    for name, _ in _COLUMNS:
        found = [line.measures.get(name) for line in lines]
        columns[name] = [None if entry is None else entry.value for entry in found]
        columns[f"{name}_low"] = [None if entry is None else entry.low for entry in found]
        columns[f"{name}_high"] = [None if entry is None else entry.high for entry in found]
    return columns


def _line(key: tuple[str, str], rows: list[dict[str, Any]], sound: np.ndarray) -> Line:
    eligible = [row for row, fine in zip(rows, sound, strict=True) if fine and row["val_robust_accuracy"] is not None]
    best = max(eligible, key=lambda row: (row["val_robust_accuracy"], -row["number"]), default=None)
    return Line(
        method=key[0],
        dropout=key[1],
        trial=None if best is None else best["trial_id"],
        trials=len(rows),
        failed=sum(row["status"] == "failed" for row in rows),
        flagged=sum(bool(row["flags"]) and row["status"] == "completed" for row in rows),
        infeasible=sum(
            row["status"] == "completed" and not row["flags"] and not fine
            for row, fine in zip(rows, sound, strict=True)
        ),
        measures={} if best is None else _measures(best),
        lipschitz=None if best is None else best["val_lipschitz_mean"],
    )


def _measures(row: Mapping[str, Any]) -> dict[str, Estimate]:
    shares = {
        "train_accuracy": row["train_clean_accuracy"],
        "accuracy": row["val_clean_accuracy"],
        "robust_accuracy": row["val_robust_accuracy"],
    }
    shares["train_robust"] = row["train_robust_accuracy"]
    found = {name: accuracy_estimate(share, row["examples"]) for name, share in shares.items() if share is not None}
    for name, first, second in (
        ("gap", "train_accuracy", "accuracy"),
        ("adversarial_gap", "train_robust", "robust_accuracy"),
    ):
        if first in found and second in found:
            found[name] = difference(found[first], found[second])
    return {name: entry for name, entry in found.items() if name != "train_robust"}


def dropouts(table: Table, /) -> list[float | None]:
    """Return each row's dropout rate."""
    return table["param.dropout"].to_pylist() if "param.dropout" in table.column_names else [None] * table.num_rows


def dropout_levels(rates: Sequence[float | None], /) -> list[str]:
    """Return dropout rates in words: the values themselves where there are few, else their bands."""
    shown = "{:g}".format if len(set(rates)) <= LEVELS else _band
    return ["-" if rate is None else shown(rate) for rate in rates]


def _band(value: float) -> str:
    for low, high in BANDS:
        if value <= high:
            return "0" if high == 0 else f"{low:g}-{high:g}"
    return f"> {BANDS[-1][1]:g}"


def _shown(estimate: Estimate | None) -> str:
    return "" if estimate is None else f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
