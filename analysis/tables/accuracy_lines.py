"""Lines of accuracies, gaps and Lipschitzness, shared by the paper's table, the grid's and the chosen trials'."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.statistics.intervals import Estimate, accuracy_estimate, difference
from analysis.tables.text_table import Cell, TextTable
from analysis.wording import own_parameters

MEASURES = ("train_accuracy", "accuracy", "robust_accuracy", "gap", "adversarial_gap")
"""Measures with an interval, in the order of the columns; gaps are train minus the split shown."""

SETTINGS = ("study", "dataset", "model", "method", "strength")
"""The cells that describe what was trained."""

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a table.

    Args:
        cells: All cells except the measures, by column.
        measures: The known ones of `MEASURES`, by name, each with its 95 % interval.
    """

    cells: Mapping[str, Cell]
    measures: Mapping[str, Estimate]


def trial_cells(row: Row, /, *, label: str) -> dict[str, Cell]:
    """Return a trial's `SETTINGS`, `dropout` (its rate) and `trial` (its id).

    Args:
        row: Its result row.
        label: Name of its method.
    """
    texts: dict[str, Cell] = {name: str(row[name]) for name in ("study", "dataset", "model")}
    texts |= {"method": label, "strength": own_parameters(row)}
    return texts | {"dropout": row.get("param.dropout"), "trial": row["trial_id"]}


def flag_remarks(row: Row, on_test: Sequence[str], /) -> list[str]:
    """Describe a trial's flags: those of its result row, and those raised on test."""
    known = {"flagged": row["flags"], "flagged on test": on_test}
    return [f"{what}: {', '.join(flags)}" for what, flags in known.items() if flags]


def on_validation(row: Row, /) -> dict[str, Any]:
    """Return a result row's validation measures under the names of a measurement on test."""
    measured = {name.removeprefix("val_"): value for name, value in row.items() if name.startswith("val_")}
    return measured | {"examples": row["examples"]}


def measures_of(row: Row, measured: Row | None, /, *, train_examples: int | None = None) -> dict[str, Estimate]:
    """Return a trial's known measures.

    Args:
        row: Its result row, for train.
        measured: Its `clean_accuracy`, `robust_accuracy` and number of `examples` on the split shown.
        train_examples: Number of training examples; that of the row when None.
    """
    size = row["examples"] if train_examples is None else train_examples
    shown = measured or {"clean_accuracy": None, "robust_accuracy": None, "examples": 0}
    shares = {
        "train_accuracy": (row["train_clean_accuracy"], size),
        "train_robust": (row["train_robust_accuracy"], size),
        "accuracy": (shown["clean_accuracy"], shown["examples"]),
        "robust_accuracy": (shown["robust_accuracy"], shown["examples"]),
    }
    found = {name: accuracy_estimate(share, n) for name, (share, n) in shares.items() if share is not None}
    gaps = {"gap": ("train_accuracy", "accuracy"), "adversarial_gap": ("train_robust", "robust_accuracy")}
    for name, (train, other) in gaps.items():
        if train in found and other in found:
            found[name] = difference(found[train], found[other])
    return {name: found[name] for name in MEASURES if name in found}


def line_table(
    title: str,
    lines: Iterable[Line],
    headings: Mapping[str, str],
    /,
    *,
    formats: Mapping[str, str],
    notes: Iterable[str],
) -> TextTable:
    """Return lines as a table with measures as text, their intervals in brackets.

    Args:
        title: One line above.
        lines: Its lines.
        headings: Heading of each column, cells and measures alike.
        formats: Format specifications by column; text without one.
        notes: Lines below.
    """
    return TextTable(
        title=title,
        headings=tuple(headings.values()),
        formats=tuple(formats.get(name, "") for name in headings),
        rows=tuple(
            tuple(str(line.measures[name]) if name in line.measures else line.cells.get(name) for name in headings)
            for line in lines
        ),
        notes=tuple(notes),
    )


def line_columns(lines: Sequence[Line], names: Iterable[str], /) -> dict[str, list[Any]]:
    """Return columns at full precision; the ends of a measure's interval follow it as `<name>_low` and `<name>_high`.

    Args:
        lines: The lines.
        names: Cells and measures, in the order of the columns.
    """
    columns: dict[str, list[Any]] = {}
    for name in names:
        if name not in MEASURES:
            columns[name] = [line.cells[name] for line in lines]
            continue
        for column, part in ((name, "value"), (f"{name}_low", "low"), (f"{name}_high", "high")):
            columns[column] = [getattr(line.measures.get(name), part, None) for line in lines]
    return columns
