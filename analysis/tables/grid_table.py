"""The table of a grid in the paper's form: a line per setting, with accuracies, Lipschitzness and gaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from analysis.data.results import Table
from analysis.heldout.measurements import like_for_like, uses_lines
from analysis.method_styles import styles_for
from analysis.tables.accuracy_lines import (
    MEASURES,
    SETTINGS,
    Line,
    flag_remarks,
    line_columns,
    line_table,
    measures_of,
    on_validation,
    trial_cells,
)
from analysis.tables.text_table import TextTable, write_forms
from analysis.wording import LOWER_BOUND, lipschitz_effort, measured_by, provenance

Split = Literal["val", "test"]

UNMEASURED = "not measured on test"
"""Remark on a completed trial without test values in a table of test values."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """One study of a table.

    Args:
        rows: Its result rows.
        evaluations: Measurements on test, rows of the evaluation schema; empty without any.
        counts: Number of examples measured, by split; `examples` of the rows where not given.
    """

    rows: Table
    evaluations: Sequence[Mapping[str, Any]] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


def split_of(grids: Sequence[Grid], /) -> Split:
    """Return the split that a table of these grids shows: test if anything was measured on it, else val."""
    return "test" if any(_tested(grid) for grid in grids) else "val"


def grid_lines(grid: Grid, /, *, split: Split) -> list[Line]:
    """Return a line for each trial, ordered by dropout, then by method as in figures, then by strength.

    Its cells are those of `trial_cells`, the `split` shown, `lipschitz` (mean empirical local Lipschitz lower bound)
    and `remark` (why numbers are missing or flagged, else empty).
    """
    rows = grid.rows.to_pylist()
    styles = styles_for(row["method"] for row in rows)
    places = {method: place for place, method in enumerate(styles)}
    tested = _tested(grid) if split == "test" else {}

    def place(row: Mapping[str, Any]) -> tuple[Any, ...]:
        numbers = tuple(value or 0.0 for name, value in row.items() if name.startswith("param."))
        return (row.get("param.dropout") or 0.0, places[row["method"]], numbers, row["number"])

    lines = []
    for row in sorted(rows, key=place):
        val = on_validation(row) | ({"examples": grid.counts["val"]} if "val" in grid.counts else {})
        measured = val if split == "val" else tested.get(row["trial_id"])
        cells = trial_cells(row, label=styles[row["method"]].label)
        cells |= {"split": split, "lipschitz": None if measured is None else measured["lipschitz_mean"]}
        cells["remark"] = _remark(row, split=split, test=tested.get(row["trial_id"]))
        measures = measures_of(row, measured, train_examples=grid.counts.get("train"))
        lines.append(Line(cells=cells, measures=measures))
    return lines


def grid_table(title: str, grids: Sequence[Grid], /, *, notes: Sequence[str] = ()) -> TextTable:
    """Return grids as one table, one after the other; 95 % intervals follow each accuracy in brackets.

    Args:
        title: One line above.
        grids: The studies of the table, each measured alike within itself.
        notes: Further notes.
    """
    split = split_of(grids)
    headings = {
        "dataset": "data set", "model": "network", "method": "method", "strength": "strength", "dropout": "dropout",
        "train_accuracy": "train acc.", "accuracy": f"{split} acc.", "robust_accuracy": f"adv. {split} acc.",
        "lipschitz": f"{split} Lipschitz", "gap": "gap", "adversarial_gap": "adv. gap", "trial": "trial",
        "remark": "remark",
    }  # fmt: skip
    measurements = (_measurement(grid, split) for grid in grids if grid.rows.num_rows)
    return line_table(
        title,
        (line for grid in grids for line in grid_lines(grid, split=split)),
        headings,
        formats={"dropout": "g", "lipschitz": ".4g"},
        notes=(*_explanations(split), *measurements, *notes),
    )


def write_grid_table(
    title: str, grids: Sequence[Grid], out_dir: str | Path, /, *, name: str, notes: Sequence[str] = ()
) -> list[Path]:
    """Write the table as `NAME.md`, `.tex`, `.csv` and `.parquet` (the last two with the intervals' ends as columns).

    Returns:
        The files written.
    """
    split = split_of(grids)
    lines = [line for grid in grids for line in grid_lines(grid, split=split)]
    columns = line_columns(lines, (*SETTINGS, "dropout", "trial", "split", *MEASURES, "lipschitz", "remark"))
    return write_forms(grid_table(title, grids, notes=notes), columns, out_dir, name=name)


def _tested(grid: Grid) -> dict[str, Mapping[str, Any]]:
    """Return the like-for-like measurements on test by trial."""
    found = {row["trial_id"]: like_for_like(row, grid.evaluations) for row in grid.rows.to_pylist()}
    return {trial: test for trial, test in found.items() if test is not None}


def _remark(row: Mapping[str, Any], *, split: Split, test: Mapping[str, Any] | None) -> str:
    completed = row["status"] == "completed"
    ended = row["status"].replace("_", " ") + (f": {row['reason']}" if row["reason"] else "")
    remarks = [] if completed else [ended]
    remarks += flag_remarks(row, [] if test is None else test["flags"])
    remarks += [UNMEASURED] if split == "test" and test is None and completed else []
    return "; ".join(remarks)


def _explanations(split: Split) -> tuple[str, ...]:
    of = "every trial of the grid on test, none chosen" if split == "test" else "val: validation, not test"
    return (
        f"{of}; fractions with 95 % intervals of the examples (Wilson; gaps by Newcombe's); one seed per line",
        f"gap: train - {split}; adv. gap: adv. train - adv. {split}; Lipschitz: mean, {LOWER_BOUND}",
    )


def _measurement(grid: Grid, split: Split) -> str:
    uses = "" if split == "val" else f" · {uses_lines(grid.evaluations)[0]}"
    efforts = (provenance(grid.rows), f"adv.: {measured_by(grid.rows)}", lipschitz_effort(grid.rows))
    return " · ".join(effort for effort in efforts if effort) + uses
