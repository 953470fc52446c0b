"""The command `compare`: two studies beside each other on one offline page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.belief import belief_of
from study.configfile import read_yaml
from study.console import results
from study.errors import UsageError
from study.folder import CONFIG_FILE, reference_of
from study.sources import read_each

if TYPE_CHECKING:
    from analysis.comparison import Side

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
    from analysis.report.comparison import build_comparison

    sources = (first, second)
    if first.resolve() == second.resolve():
        raise UsageError(f"compare takes two different studies, got {first} twice")
    tables = list(read_each(sources, skip_damaged=skip_damaged).values())
    labels = [", ".join(dict.fromkeys(table["study"].to_pylist())) for table in tables]
    if labels[0] == labels[1]:
        labels = [f"{label} ({source})" for label, source in zip(labels, sources, strict=True)]
    try:
        sides = [_side(*each) for each in zip(sources, labels, tables, strict=True)]
        page = build_comparison(sides[0], sides[1], reference=reference_of(sources))
    except ValueError as error:
        raise UsageError(str(error)) from error
    file = out or Path(DEFAULT_FILE)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page, encoding="utf-8")
    results().print(str(file))


def _side(source: Path, label: str, table: Any) -> Side:
    from analysis.comparison import Side, best_of_methods, check_side
    from analysis.schema import EXAMPLE

    side = Side(label=label, table=table)
    try:
        check_side(side)
    except ValueError as error:
        raise UsageError(
            f"{source}: {str(error).partition(', so they share')[0]}: compare takes one measurement a side"
        ) from error
    config = source / CONFIG_FILE
    trials = {row["trial_id"] for row in best_of_methods(table).values()}
    return Side(
        label=label,
        table=table,
        config=read_yaml(config) if config.is_file() else {},
        belief=belief_of({label: source}, table) if (source / EXAMPLE.folder).is_dir() else None,
        outcomes=_outcomes(source, trials),
    )


def _outcomes(source: Path, trials: set[str]) -> Any:
    """Return the outcomes on validation of some trials of a study's folder, None where they are not there."""
    from analysis.results import read_examples
    from analysis.schema import EXAMPLE, ResultsError
    from analysis.uncertainty import outcomes

    if not (source / EXAMPLE.folder).is_dir():
        return None
    try:
        found = outcomes(read_examples(source, trials=trials), split="val")
    except ResultsError:
        return None
    return found if len(found.index) else None
