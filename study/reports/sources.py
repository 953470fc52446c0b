"""One or several studies, from folders or exports, as one table with a distinct id for each trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.console import quoted
from study.directory.data_notes import read_data_notes
from study.directory.layout import CONFIG_FILE
from study.directory.rows import heldout_results, read_rows, strong_results
from study.errors import UsageError, usage_errors
from study.evaluation.study_separation import known_classifier


@dataclass(frozen=True, kw_only=True)
class StudySources:
    """Studies read together.

    Attributes:
        table: Their result rows; those of several studies are `analysis.data.combine.relabelled`.
        sources: Their folders or files, by their label in the table.
        rows: The result rows of each as stored, by the same labels.
    """

    table: Any
    sources: Mapping[str, Path]
    rows: Mapping[str, Any]

    @property
    def home(self) -> Path:
        """The folder of the first study."""
        return home_of(next(iter(self.sources.values())))

    def config(self) -> str:
        """Return the configs as text, each below its label if there are several; empty for exports."""
        configs = {
            label: (source / CONFIG_FILE).read_text(encoding="utf-8")
            for label, source in self.sources.items()
            if (source / CONFIG_FILE).is_file()
        }
        if len(self.sources) == 1:
            return "".join(configs.values())
        return "\n".join(f"# {label}\n{text}" for label, text in configs.items())

    def data_notes(self) -> list[str]:
        """Return what was noticed about the studies' data sets, labelled if there are several; none for exports."""
        lines = {label: read_data_notes(source) for label, source in self.sources.items() if source.is_dir()}
        if len(self.sources) == 1:
            return [line for own in lines.values() for line in own]
        return [f"{label}: {line}" for label, own in lines.items() for line in own]

    def strong(self) -> dict[str, Any]:
        """Return the `StrongResult` of each trial that strong attacks were run on, by its id in the table.

        Raises:
            UsageError: Damaged files.
        """
        found = {label: strong_results(source, self.rows[label]) for label, source in self.sources.items()}
        if len(found) == 1:
            return next(iter(found.values()))
        return {f"{label}/{trial}": result for label, results in found.items() for trial, result in results.items()}

    def classifier(self) -> Any:
        """Return the `SeparatedClassifier` of the studies; None without one, or where their images or norms differ."""
        found = (known_classifier(home_of(source), self.table) for source in self.sources.values())
        return next((classifier for classifier in found if classifier is not None), None)

    def on_test(self) -> Any:
        """Return the studies' `HeldoutResults`; None if nothing was measured on test.

        The winner's curse is averaged only within a study, so the results of several studies have none.
        """
        from analysis.heldout.members import together

        heldout = {
            label: results
            for label, source in self.sources.items()
            if source.is_dir() and (results := heldout_results(source, table=self.rows[label])) is not None
        }
        if len(self.sources) == 1 or not heldout:
            return next(iter(heldout.values()), None)
        return together(heldout)


def home_of(source: Path, /) -> Path:
    """Return a study's folder, or the folder in which its exported file lies."""
    return source.parent if source.is_file() else source


def gather(study_dirs: Sequence[Path], /, *, skip_damaged: bool = False) -> StudySources:
    """Read one or several studies.

    Args:
        study_dirs: Folders, even with `results/` alone, or exported Parquet files; repeated ones are read once.
        skip_damaged: Leave out damaged files, each named in a warning.

    Raises:
        UsageError: A source without rows, one that cannot be read, or two that hold the same trials.
    """
    return _with_distinct_ids(_read(study_dirs, skip_damaged=skip_damaged))


def gather_each(study_dirs: Sequence[Path], /, *, skip_damaged: bool = False) -> list[StudySources]:
    """Read studies to compare, each as `gather` reads it alone."""
    read = _read(study_dirs, skip_damaged=skip_damaged)
    return [_with_distinct_ids({source: table}) for source, table in read.items()]


def _with_distinct_ids(read: Mapping[Path, Any]) -> StudySources:
    from analysis.data.combine import by_study, joined, relabelled

    tables = [(name, source, rows) for source, table in read.items() for name, rows in by_study(table).items()]
    if len(tables) == 1:
        name, source, table = tables[0]
        return StudySources(table=table, sources={name: source}, rows={name: table})
    names = [name for name, _, _ in tables]
    labels = [name if names.count(name) == 1 else f"{name} ({source})" for name, source, _ in tables]
    rows = {label: table for label, (_, _, table) in zip(labels, tables, strict=True)}
    return StudySources(
        table=joined([relabelled(table, label) for label, table in rows.items()]),
        sources={label: source for label, (_, source, _) in zip(labels, tables, strict=True)},
        rows=rows,
    )


def _read(study_dirs: Sequence[Path], *, skip_damaged: bool) -> dict[Path, Any]:
    """Return the result rows by folder or file, each read once; raises as `gather` does."""
    from analysis.data.combine import require_distinct
    from analysis.data.schema import ResultsError

    distinct = {source.resolve(): source for source in study_dirs}
    tables = {source: read_rows([source], skip_damaged=skip_damaged) for source in distinct.values()}
    for source, table in tables.items():
        if not table.num_rows:
            raise UsageError(f"{source} has no results yet: run `robust-study resume {quoted(source)}`")
    with usage_errors(ResultsError):
        require_distinct({str(source): table for source, table in tables.items()})
    return tables
