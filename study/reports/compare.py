"""The command `compare`: two studies beside each other on one offline page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.config.loading import read_yaml
from study.console import results
from study.directory.layout import CONFIG_FILE
from study.directory.rows import reference_of
from study.errors import UsageError
from study.reports.posterior import belief_of, examples_of
from study.reports.sources import StudySources, gather_each

if TYPE_CHECKING:
    from analysis.tables.comparison import Side

DEFAULT_FILE = "comparison.html"


def compare(first: Path, second: Path, /, *, out: Path | None, skip_damaged: bool = False) -> None:
    """Write the page and print where it lies.

    Args:
        first: The study that differences are taken from: its folder, or an exported Parquet file.
        second: The other one.
        out: The file; `comparison.html` in the working folder when None.
        skip_damaged: Leave out damaged files, each named in a warning.

    Raises:
        UsageError: Results that cannot be read, that are empty, that measured different things within one study, or the
            same study twice.
    """
    from analysis.report.comparison_page import build_comparison

    sources = (first, second)
    if first.resolve() == second.resolve():
        raise UsageError(f"compare takes two different studies, got {first} twice")
    found = gather_each(sources, skip_damaged=skip_damaged)
    labels = [", ".join(dict.fromkeys(each.table["study"].to_pylist())) for each in found]
    if labels[0] == labels[1]:
        labels = [f"{label} ({source})" for label, source in zip(labels, sources, strict=True)]
    sides = [_checked(*each) for each in zip(sources, labels, found, strict=True)]
    sides = [_known(*each) for each in zip(sides, sources, found, strict=True)]
    try:
        page = build_comparison(sides[0], sides[1], reference=reference_of(sources))
    except ValueError as error:
        raise UsageError(str(error)) from error
    file = out or Path(DEFAULT_FILE)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page, encoding="utf-8")
    results().print(str(file))


def _checked(source: Path, label: str, found: StudySources) -> Side:
    from analysis.fronts.front import require_like_for_like
    from analysis.tables.comparison import Side

    side = Side(label=label, table=found.table)
    try:
        require_like_for_like(side.table)
    except ValueError as error:
        raise UsageError(
            f"{source}: {str(error).partition(', so they share')[0]}: compare takes one measurement a side"
        ) from error
    return side


def _known(side: Side, source: Path, found: StudySources) -> Side:
    """Return a side with what lies beside its rows: the config, and what the per-example outcomes say."""
    from analysis.tables.comparison import best_of_methods

    config = source / CONFIG_FILE
    return replace(
        side,
        config=read_yaml(config) if config.is_file() else {},
        belief=belief_of(found.sources, found.table),
        outcomes=_outcomes(found, {row["trial_id"] for row in best_of_methods(found.table).values()}),
    )


def _outcomes(found: StudySources, trials: set[str]) -> Any:
    """Return the outcomes on validation of some trials of a study, None where they are not there."""
    from analysis.data.schema import ResultsError
    from analysis.statistics.intervals import outcomes

    try:
        there = outcomes(examples_of(found.sources, trials), split="val")
    except ResultsError:
        return None
    return there if len(there.index) else None
