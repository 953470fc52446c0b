"""One or several studies, as folders or exports, gathered as one table that tells their trials apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.directory.layout import CONFIG_FILE
from study.directory.rows import heldout_results, read_rows
from study.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class StudySources:
    """Studies read together.

    Attributes:
        table: Their result rows; those of several studies are `analysis.data.combine.relabelled`.
        sources: Their folders or files, by what the table calls them.
        rows: The result rows as each of those has them, by the same names.
    """

    table: Any
    sources: Mapping[str, Path]
    rows: Mapping[str, Any]

    @property
    def home(self) -> Path:
        """The folder of the first."""
        return home_of(next(iter(self.sources.values())))

    def config(self) -> str:
        """Return the configs as text, each below its study's name where there are several; empty for exports."""
        found = {
            label: (source / CONFIG_FILE).read_text(encoding="utf-8")
            for label, source in self.sources.items()
            if (source / CONFIG_FILE).is_file()
        }
        if len(self.sources) == 1:
            return "".join(found.values())
        return "\n".join(f"# {label}\n{text}" for label, text in found.items())

    def on_test(self) -> Any:
        """Return what the folders hold on test, a `HeldoutResults`; None where nothing was measured.

        The winner's curse is averaged within one study only, so that of several has none.
        """
        from analysis.heldout.members import together

        found = {
            label: heldout_results(source, table=self.rows[label])
            for label, source in self.sources.items()
            if source.is_dir()
        }
        known = {label: one for label, one in found.items() if one is not None}
        if len(self.sources) == 1 or not known:
            return next(iter(known.values()), None)
        return together(known)


def home_of(source: Path, /) -> Path:
    """Return a study's folder, or the folder in which its exported file lies."""
    return source.parent if source.is_file() else source


def gather(study_dirs: Sequence[Path], /, *, skip_damaged: bool = False) -> StudySources:
    """Read one or several studies.

    Args:
        study_dirs: Folders, folders with `results/` alone, or exported Parquet files; one given twice counts once.
        skip_damaged: Leave out damaged files, each named in a warning.

    Raises:
        UsageError: A source without rows, one that cannot be read, or two that hold the same trials.
    """
    return _told_apart(_read(study_dirs, skip_damaged=skip_damaged))


def gather_each(study_dirs: Sequence[Path], /, *, skip_damaged: bool = False) -> list[StudySources]:
    """Read studies to be held against each other, each as `gather` reads it alone."""
    read = _read(study_dirs, skip_damaged=skip_damaged)
    return [_told_apart({source: table}) for source, table in read.items()]


def _told_apart(read: Mapping[Path, Any]) -> StudySources:
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
    """Return the result rows of each folder or file once; raises as `gather` does."""
    from analysis.data.combine import require_distinct
    from analysis.data.schema import ResultsError

    once = {source.resolve(): source for source in study_dirs}
    tables = {source: read_rows([source], skip_damaged=skip_damaged) for source in once.values()}
    for source, table in tables.items():
        if not table.num_rows:
            raise UsageError(f"{source} has no results yet: run `robust-study resume {source}`")
    try:
        require_distinct({str(source): table for source, table in tables.items()})
    except ResultsError as error:
        raise UsageError(str(error)) from error
    return tables
