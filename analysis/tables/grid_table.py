"""A grid in the paper's form: a line for each setting, with accuracies, Lipschitzness and gaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from analysis.data.results import Table, write_plain
from analysis.heldout.measurements import like_for_like, uses_lines
from analysis.statistics.intervals import Estimate, accuracy_estimate, difference
from analysis.tables.text_table import Cell, TextTable
from analysis.wording import LOWER_BOUND, measured_by, own_parameters, provenance

Split = Literal["val", "test"]

UNMEASURED = "not measured on test"
"""The remark of a completed trial that a table of test figures lacks."""

MEASURES = ("train_accuracy", "accuracy", "robust_accuracy", "gap", "adversarial_gap")
"""What a line has with an interval, in the order of the columns."""

_TEXTS = ("study", "dataset", "model", "method", "strength")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The rows of one study that is part of a table.

    Args:
        rows: Its result rows.
        evaluations: What was measured on test, rows of the evaluation schema; empty where nothing was.
        counts: How many examples each split's columns really hold; `examples` of the rows where not given.
    """

    rows: Table
    evaluations: Sequence[Mapping[str, Any]] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One setting of a grid.

    Args:
        texts: Study, data set, network, method (its short name) and strength.
        dropout: The dropout rate, None where the results have none.
        trial: The trial.
        measures: By name: train accuracy, accuracy, robust accuracy, gap, adversarial gap, each with its 95 % interval;
            a failed trial has none.
        lipschitz: Mean empirical local Lipschitz lower bound.
        remark: Why numbers are missing or doubtful, empty for no doubt.
    """

    texts: Mapping[str, str]
    dropout: float | None
    trial: str
    measures: Mapping[str, Estimate]
    lipschitz: float | None
    remark: str


def split_of(grids: Sequence[Grid], /) -> Split:
    """Return which split a table of these grids shows: test once anything was measured there, else val."""
    return "test" if any(_tested(grid) for grid in grids) else "val"


def grid_lines(grid: Grid, /, *, split: Split) -> list[Line]:
    """Return a line for each trial, ordered by dropout, then by method as in figures, then by strength."""
    from analysis.method_styles import styles_for

    rows = grid.rows.to_pylist()
    styles = styles_for(row["method"] for row in rows)
    places = {method: place for place, method in enumerate(styles)}
    tested = _tested(grid) if split == "test" else {}

    def place(row: Mapping[str, Any]) -> tuple[Any, ...]:
        numbers = tuple(value or 0.0 for name, value in row.items() if name.startswith("param."))
        return (row.get("param.dropout") or 0.0, places[row["method"]], numbers, row["number"])

    return [
        line_of(
            row, label=styles[row["method"]].label, split=split, test=tested.get(row["trial_id"]), counts=grid.counts
        )
        for row in sorted(rows, key=place)
    ]


def grid_table(title: str, grids: Sequence[Grid], /, *, notes: Sequence[str] = ()) -> TextTable:
    """Return grids, one below the other, as a table; 95 % intervals follow each accuracy in brackets.

    Args:
        title: One line above.
        grids: The studies of the table, each of like measurement; they need not be like one another.
        notes: Further lines below.
    """
    split = split_of(grids)
    rows: list[tuple[Cell, ...]] = []
    for grid in grids:
        for line in grid_lines(grid, split=split):
            shown = [str(line.measures[name]) if name in line.measures else "" for name in MEASURES]
            texts = [line.texts[name] for name in _TEXTS[1:]]
            rows.append((*texts, line.dropout, *shown[:3], line.lipschitz, *shown[3:], line.trial, line.remark))
    headings = ("data set", "network", "method", "strength", "dropout", "train acc.", f"{split} acc.")
    measured = (f"adv. {split} acc.", f"{split} Lipschitz", "gap", "adv. gap", "trial", "remark")
    return TextTable(
        title=title,
        headings=(*headings, *measured),
        formats=("", "", "", "", "g", "", "", "", ".4g", "", "", "", ""),
        rows=tuple(rows),
        notes=(*_explanations(split), *(_measurement(grid, split) for grid in grids if grid.rows.num_rows), *notes),
    )


def write_grid_table(
    title: str, grids: Sequence[Grid], out_dir: str | Path, /, *, name: str, notes: Sequence[str] = ()
) -> list[Path]:
    """Write the table as `NAME.md`, `.tex`, `.csv` and `.parquet` (the last two with the intervals' ends as columns).

    Returns:
        The files written.
    """
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    split = split_of(grids)
    shown = grid_table(title, grids, notes=notes)
    columns = _flat([line for grid in grids for line in grid_lines(grid, split=split)], split)
    return write_forms(shown, columns, folder, name=name)


def write_forms(shown: TextTable, columns: Mapping[str, list[Any]], folder: Path, /, *, name: str) -> list[Path]:
    """Write a table as Markdown and LaTeX, and its numbers at full precision as CSV and Parquet."""
    whole = TextTable(
        title="", headings=tuple(columns), formats=("",) * len(columns), rows=tuple(zip(*columns.values(), strict=True))
    )
    written = [folder / f"{name}.{suffix}" for suffix in ("md", "tex", "csv", "parquet")]
    for path, text in zip(written, (shown.markdown(), shown.latex(), whole.csv()), strict=False):
        path.write_text(text, encoding="utf-8")
    write_plain(written[3], columns)
    return written


def _tested(grid: Grid) -> dict[str, Mapping[str, Any]]:
    """Return by trial what was measured on test as the study measures."""
    found = {row["trial_id"]: like_for_like(row, grid.evaluations) for row in grid.rows.to_pylist()}
    return {trial: test for trial, test in found.items() if test is not None}


def line_of(
    row: Mapping[str, Any],
    /,
    *,
    label: str,
    split: Split,
    test: Mapping[str, Any] | None,
    counts: Mapping[str, int] = MappingProxyType({}),
) -> Line:
    """Return the line of one trial.

    Args:
        row: Its result row.
        label: What its method is called.
        split: What the columns other than train's are of.
        test: Its measurement on test as the study measures, None where there is none.
        counts: How many examples each split's columns really hold; `examples` of the row where not given.
    """
    shares = {"train_accuracy": row["train_clean_accuracy"], "train_robust": row["train_robust_accuracy"]}
    sizes = dict.fromkeys(shares, counts.get("train", row["examples"]))
    if split == "val":
        measured: Mapping[str, Any] = {name.removeprefix("val_"): row[name] for name in row if name.startswith("val_")}
        size = counts.get("val", row["examples"])
    else:
        measured, size = test or {}, (test or row)["examples"]
    shares |= {"accuracy": measured.get("clean_accuracy"), "robust_accuracy": measured.get("robust_accuracy")}
    sizes |= {"accuracy": size, "robust_accuracy": size}
    found = {name: accuracy_estimate(share, sizes[name]) for name, share in shares.items() if share is not None}
    for name, first, second in (
        ("gap", "train_accuracy", "accuracy"),
        ("adversarial_gap", "train_robust", "robust_accuracy"),
    ):
        if first in found and second in found:
            found[name] = difference(found[first], found[second])
    doubts = [row["status"].replace("_", " ") + (f": {row['reason']}" if row["reason"] else "")]
    doubts = doubts if row["status"] != "completed" else []
    doubts += [f"flagged: {', '.join(row['flags'])}"] if row["flags"] else []
    doubts += [f"flagged on test: {', '.join(test['flags'])}"] if test is not None and test["flags"] else []
    doubts += [UNMEASURED] if split == "test" and test is None and row["status"] == "completed" else []
    texts = {name: str(row[name]) for name in ("study", "dataset", "model")}
    return Line(
        texts=texts | {"method": label, "strength": own_parameters(row)},
        dropout=row.get("param.dropout"),
        trial=row["trial_id"],
        measures={name: found[name] for name in MEASURES if name in found},
        lipschitz=measured.get("lipschitz_mean"),
        remark="; ".join(doubts),
    )


def _explanations(split: Split) -> tuple[str, ...]:
    of = "every trial of the grid on test, none chosen" if split == "test" else "val: validation, not test"
    return (
        f"{of}; fractions with 95 % intervals of the examples (Wilson; gaps by Newcombe's); one seed a line",
        f"gap: train - {split}; adv. gap: adv. train - adv. {split}; Lipschitz: mean, {LOWER_BOUND}",
    )


def _measurement(grid: Grid, split: Split) -> str:
    uses = "" if split == "val" else f" · {uses_lines(grid.evaluations)[0]}"
    return f"{provenance(grid.rows)} · adv.: {measured_by(grid.rows)}{uses}"


def _flat(lines: Sequence[Line], split: Split) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {name: [line.texts[name] for line in lines] for name in _TEXTS}
    columns |= {"dropout": [line.dropout for line in lines], "trial": [line.trial for line in lines]}
    columns["split"] = [split] * len(lines)
    columns |= measure_columns(lines)
    columns["lipschitz"] = [line.lipschitz for line in lines]
    columns["remark"] = [line.remark for line in lines]
    return columns


def measure_columns(lines: Sequence[Line], /) -> dict[str, list[float | None]]:
    """Return by name the accuracies and gaps of lines, and the ends of their intervals as `<name>_low` and `_high`."""
    columns: dict[str, list[float | None]] = {}
    for name in MEASURES:
        found = [line.measures.get(name) for line in lines]
        columns[name] = [None if entry is None else entry.value for entry in found]
        columns[f"{name}_low"] = [None if entry is None else entry.low for entry in found]
        columns[f"{name}_high"] = [None if entry is None else entry.high for entry in found]
    return columns
