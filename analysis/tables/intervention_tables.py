"""The intervention's numbers as tables: a doubled dose, what goes with Lipschitzness, gaps by dropout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.data.files import unlinked
from analysis.method_styles import short_name
from analysis.statistics.association import LIPSCHITZ
from analysis.statistics.intervals import Estimate
from analysis.statistics.intervention import RESPONSES, Experiment, dose_effects, dose_label, dropout_gaps
from analysis.statistics.mediation import ASSUMPTIONS, Mediation, mediation
from analysis.tables.text_table import Cell, TextTable, csv_text

GAPS = {"clean_gap": "clean", "robust_gap": "robust"}
"""The gaps, train minus validation, and their names."""


@dataclass(frozen=True, kw_only=True)
class EstimateTable:
    """A table some of whose columns are estimates with intervals.

    Args:
        title: One line above.
        headings: One per column.
        rows: Cells.
        notes: Lines below.
        factors: Headings of the estimates that are differences of log2, shown as factors.
        digits: Of the other estimates.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[Cell | Estimate, ...], ...]
    notes: tuple[str, ...]
    factors: frozenset[str] = frozenset()
    digits: int = 3

    def text(self) -> TextTable:
        """Return the table to read, intervals in brackets."""
        shown = tuple(tuple(map(self._shown, self.headings, row)) for row in self.rows)
        kinds = ["" if any(isinstance(row[at], str) for row in shown) else "g" for at in range(len(self.headings))]
        return TextTable(title=self.title, headings=self.headings, formats=tuple(kinds), rows=shown, notes=self.notes)

    def csv(self) -> str:
        """Return the numbers at full precision; the ends of an interval follow as `..., low` and `..., high`."""
        columns: dict[str, list[Cell]] = {}
        for at, heading in enumerate(self.headings):
            cells = [row[at] for row in self.rows]
            if not any(isinstance(cell, Estimate) for cell in cells):
                columns[heading] = [cell for cell in cells if not isinstance(cell, Estimate)]
                continue
            ends = [self._ends(heading, cell) if isinstance(cell, Estimate) else (None,) * 3 for cell in cells]
            for name, numbers in zip(
                (heading, f"{heading}, low", f"{heading}, high"), zip(*ends, strict=True), strict=True
            ):
                columns[name] = list(numbers)
        return csv_text(list(columns), list(zip(*columns.values(), strict=True)))

    def _ends(self, heading: str, cell: Estimate) -> tuple[float, float, float]:
        value, low, high = cell.value, cell.low, cell.high
        return (2.0**value, 2.0**low, 2.0**high) if heading in self.factors else (value, low, high)

    def _shown(self, heading: str, cell: Cell | Estimate) -> Cell:
        if not isinstance(cell, Estimate):
            return short_name(cell) if heading == "method" and isinstance(cell, str) else cell
        if heading in self.factors:
            value, low, high = self._ends(heading, cell)
            return f"{value:.3g} [{low:.3g}, {high:.3g}]"
        return cell.signed(digits=self.digits)


def intervention_tables(experiment: Experiment, /) -> dict[str, EstimateTable]:
    """Return the tables by the names of their files; the parts of a gain only where natural training is compared."""
    tables = {
        "dose_effects": doubling_table(experiment),
        "dose_correlations": correlations_table(experiment),
        "dropout_gaps": gaps_table(experiment),
    }
    # the same trials give the same draws
    if (parts := mediation(experiment, generator=np.random.default_rng(0))) is not None:
        tables["mediation"] = mediation_table(parts)
    return tables


def doubling_table(experiment: Experiment, /) -> EstimateTable:
    """Return what one doubling of each method's dose does."""
    headings = {name: f"{text}, change" for name, text in RESPONSES.items()}
    return EstimateTable(
        title="One doubling of the dose",
        headings=("method", "dose", *headings.values(), "n"),
        rows=tuple(
            (
                one.method,
                dose_label(one.dose),
                *(one.effects[name] for name in RESPONSES),
                max((found.n for found in one.effects.values() if found), default=0),
            )
            for one in dose_effects(experiment)
        ),
        notes=(
            "Slopes over log2 of the doses above 0, with an intercept for each dropout rate and 95 % HC3 intervals: of "
            "Lipschitz estimates the factor, of accuracies the difference. The study set the dose, in random order, so "
            "these are effects of the dose; where the response bends, they are its mean trend. A dash: too few trials.",
        ),
        factors=frozenset(headings[name] for name in LIPSCHITZ),
    )


def correlations_table(experiment: Experiment, /) -> EstimateTable:
    """Return how Lipschitzness and robust accuracy go together within each method, with the dose varied and without."""
    headings = [f"{form}, {over}" for over in ("over all doses", "between seeds") for form in LIPSCHITZ.values()]
    return EstimateTable(
        title="Rank correlation of Lipschitzness with robust accuracy",
        headings=("method", *headings),
        rows=tuple(
            (one.method, *(found[name] for found in (one.correlation, one.between_seeds) for name in LIPSCHITZ))
            for one in dose_effects(experiment)
        ),
        notes=(
            "Spearman's, 95 %. Over all doses: as every study reports it, the dose being what varies most; seeds of "
            "one setting count as trials of their own, so the interval is too narrow for other doses. Between seeds: "
            "among trials of equal settings, so without any intervention.",
        ),
        digits=2,
    )


def mediation_table(found: Mediation, /) -> EstimateTable:
    """Return each dose's gain over natural training, and the part that goes with its change in Lipschitzness."""
    return EstimateTable(
        title="Gain in robust accuracy over natural training, and the part that goes with Lipschitzness",
        headings=("method", "dose", "gain", "Lipschitz, times", "goes with it", "the rest", "n"),
        rows=tuple(
            (part.method, part.dose, part.total, part.doublings, part.part, part.rest, part.n) for part in found.parts
        ),
        notes=(
            "At the same dropout rates; scale-free estimate. Goes with it: the difference in log2 of Lipschitzness "
            f"times {found.slope.signed()}, the change of robust accuracy per doubling among the trials of one method "
            "and dropout rate. 95 %: gain and Lipschitzness by t, the parts by bootstrap over seeds.",
            ASSUMPTIONS,
        ),
        factors=frozenset({"Lipschitz, times"}),
    )


def gaps_table(experiment: Experiment, /) -> EstimateTable:
    """Return the mean generalisation gaps at each dropout rate, and their differences from the lowest rate."""
    found = {name: dropout_gaps(experiment, name) for name in GAPS}
    return EstimateTable(
        title="Train minus validation accuracy by dropout",
        headings=("dropout", *(f"{text} gap{what}" for text in GAPS.values() for what in ("", ", change"))),
        rows=tuple((rate, *(each for of in found.values() for each in of[rate])) for rate in experiment.rates()),
        notes=(
            "Means over the methods' doses that have trials at all rates, each counted once, with 95 % t-intervals "
            "over seeds; change: from the lowest rate.",
        ),
    )


def write_intervention(experiment: Experiment, out_dir: str | Path, /) -> list[Path]:
    """Write each of `intervention_tables` as `NAME.md` and `.csv`; return the files."""
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, table in intervention_tables(experiment).items():
        for suffix, text in (("md", table.text().markdown()), ("csv", table.csv())):
            written.append(folder / f"{name}.{suffix}")
            unlinked(written[-1]).write_text(text, encoding="utf-8")
    return written
