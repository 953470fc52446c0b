"""The paper's table: accuracies, Lipschitzness and gaps per method and dropout, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from analysis.data.results import Table
from analysis.fronts.front import feasible, require_like_for_like
from analysis.tables.accuracy_lines import MEASURES, Line, line_columns, line_table, measures_of, on_validation
from analysis.tables.text_table import Cell, TextTable, write_forms
from analysis.wording import LOWER_BOUND, count, measured_by, provenance

LEVELS = 4
"""Most values of dropout with a line each; more are grouped into bands."""

BANDS = ((0.0, 0.0), (0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.5), (0.5, 1.0))
"""Bands of dropout, excluding the lower end except in the first."""

_COUNTS = ("trials", "failed", "flagged", "infeasible")

HEADINGS = {
    "method": "method", "dropout": "dropout", "trial": "trial",
    "train_accuracy": "train", "accuracy": "val", "robust_accuracy": "adv. val",
    "lipschitz": "Lipschitz (val)", "gap": "gap", "adversarial_gap": "adv. gap",
} | {name: name for name in _COUNTS}  # fmt: skip
"""Headings of the columns."""

FORMATS = {"lipschitz": ".4g"} | dict.fromkeys(_COUNTS, "d")
"""Format specifications of the numeric columns."""


def paper_lines(table: Table, /, *, levels: Sequence[str] | None = None) -> list[Line]:
    """Return a line for each method and level (or band) of dropout that has trials.

    Its cells are `method`, `dropout` (level or band, in words), `trial` (the one shown: of those that may be on a front
    that with the highest validation robust accuracy; None without one), its `lipschitz` (mean empirical local
    Lipschitz lower bound on validation), and how many trials there are: `trials`, `failed`, `flagged` and `infeasible`
    as `analysis.wording.Counts` has them.

    Args:
        table: Result rows.
        levels: Each row's level of dropout as text; computed from its dropout rates when None.

    Raises:
        MixedStudiesError: The rows differ in what they measure; see `require_like_for_like`.
    """
    require_like_for_like(table)
    levels = dropout_levels(dropouts(table)) if levels is None else levels
    groups: dict[tuple[str, str], list[int]] = {}
    for index, key in enumerate(zip(table["method"].to_pylist(), levels, strict=True)):
        groups.setdefault(key, []).append(index)
    return [_line(*key, table.take(groups[key])) for key in sorted(groups)]


def _line(method: str, dropout: str, trials: Table) -> Line:
    rows = trials.filter(feasible(trials)).to_pylist()
    measured = [row for row in rows if row["val_robust_accuracy"] is not None]
    best = max(measured, key=lambda row: (row["val_robust_accuracy"], -row["number"]), default=None)
    cells: dict[str, Cell] = {"method": method, "dropout": dropout, "trial": None, "lipschitz": None}
    cells |= asdict(count(trials))
    if best is None:
        return Line(cells=cells, measures={})
    cells |= {"trial": best["trial_id"], "lipschitz": best["val_lipschitz_mean"]}
    return Line(cells=cells, measures=measures_of(best, on_validation(best)))


def paper_table(table: Table, /) -> TextTable:
    """Return `paper_lines` as a table; 95 % intervals follow each number in brackets."""
    lines = paper_lines(table)
    notes = (
        "validation, not test; 95 % intervals of the examples (Wilson; gaps by Newcombe's), not corrected "
        "for selection",
        f"adv.: {measured_by(table)}; Lipschitz: mean, {LOWER_BOUND}",
        "gap: train - val; adv. gap: adv. train - adv. val",
        provenance(table),
    )
    title = "Per method and dropout: the trial with the highest validation robust accuracy"
    return line_table(title, lines, HEADINGS, formats=FORMATS, notes=notes if lines else ())


def write_paper_table(table: Table, out_dir: str | Path, /) -> list[Path]:
    """Write the table as `table.md`, `.tex`, `.csv` and `.parquet` (the last two with interval ends as columns).

    Returns:
        The files written.
    """
    lines = paper_lines(table)
    columns = line_columns(lines, ("method", "dropout", "trial", *_COUNTS, "lipschitz", *MEASURES))
    return write_forms(paper_table(table), columns, out_dir, name="table")


def dropouts(table: Table, /) -> list[float | None]:
    """Return each row's dropout rate."""
    return table["param.dropout"].to_pylist() if "param.dropout" in table.column_names else [None] * table.num_rows


def dropout_levels(rates: Sequence[float | None], /) -> list[str]:
    """Return dropout rates as text: the values if there are few, else their bands."""
    shown = "{:g}".format if len(set(rates)) <= LEVELS else _band
    return ["-" if rate is None else shown(rate) for rate in rates]


def _band(value: float) -> str:
    for low, high in BANDS:
        if value <= high:
            return "0" if high == 0 else f"{low:g}-{high:g}"
    return f"> {BANDS[-1][1]:g}"
