"""The command `compare`: two studies side by side on one offline page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.config.loading import read_yaml
from study.config.schema import StudyConfig
from study.console import results
from study.directory.layout import CONFIG_FILE
from study.directory.rows import reference_of
from study.errors import UsageError, usage_errors
from study.reports.posterior import belief_of, examples_of
from study.reports.sources import StudySources, gather_each
from trainables.checkpoints.files import write_text
from trainables.settings import with_former_values

if TYPE_CHECKING:
    from analysis.tables.comparison import Side


def compare(first: Path, second: Path, /, *, out: Path | None, skip_damaged: bool = False) -> None:
    """Write the page and print its path.

    Args:
        first: The baseline of the differences: a study's folder, or an exported Parquet file.
        second: The study to compare with it, likewise.
        out: The file to write; None for `comparison.html` in the working folder.
        skip_damaged: Leave out damaged files, each named in a warning.

    Raises:
        UsageError: Results that are unreadable, empty or of different measurements within one study, or the same study
            twice.
    """
    from analysis.fronts.front import require_like_for_like
    from analysis.report.comparison_page import build_comparison

    sources = (first, second)
    if first.resolve() == second.resolve():
        raise UsageError(f"compare takes two different studies, got {first} twice")
    studies = gather_each(sources, skip_damaged=skip_damaged)
    labels = [", ".join(dict.fromkeys(study.table["study"].to_pylist())) for study in studies]
    if labels[0] == labels[1]:
        labels = [f"{label} ({source})" for label, source in zip(labels, sources, strict=True)]
    for source, study in zip(sources, studies, strict=True):
        try:
            require_like_for_like(study.table)
        except ValueError as error:
            raise UsageError(
                f"{source}: {str(error).partition(', so they share')[0]}: each side must be of one measurement"
            ) from error
    sides = [_side(*each) for each in zip(labels, sources, studies, strict=True)]
    with usage_errors(ValueError):
        page = build_comparison(sides[0], sides[1], reference=reference_of(sources))
    file = out or Path("comparison.html")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, page)
    results().print(str(file))


def _side(label: str, source: Path, study: StudySources) -> Side:
    from analysis.tables.comparison import Side, best_of_methods

    config = source / CONFIG_FILE
    return Side(
        label=label,
        table=study.table,
        config=with_former_values(read_yaml(config), StudyConfig) if config.is_file() else {},
        belief=belief_of(study.sources, study.table),
        outcomes=_outcomes(study, {row["trial_id"] for row in best_of_methods(study.table).values()}),
    )


def _outcomes(study: StudySources, trials: set[str]) -> Any:
    from analysis.data.schema import ResultsError
    from analysis.statistics.intervals import outcomes

    try:
        validation = outcomes(examples_of(study.sources, trials), split="val")
    except ResultsError:
        return None
    return validation if len(validation.index) else None
