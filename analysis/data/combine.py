"""Combine several studies into one table, and prefix trial ids with their study where only the id is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from analysis.data.results import Table, read_results, to_table
from analysis.data.schema import RESULT, ResultsError


def read_studies(sources: Sequence[str | Path], /, *, skip_damaged: bool = False) -> Table:
    """Return the result rows of several studies as one table, in the order of the sources.

    Args:
        sources: Study folders and exported Parquet files; one given twice is read once.
        skip_damaged: As in `analysis.data.results.read_results`.

    Raises:
        ResultsError: As `read_results` does, or two sources hold the same trials.
    """
    once = {Path(source).resolve(): str(source) for source in sources}
    tables = {name: read_results(source, skip_damaged=skip_damaged) for source, name in once.items()}
    require_distinct(tables)
    return joined([to_table({}, RESULT), *tables.values()])


def require_distinct(tables: Mapping[str, Table], /) -> None:
    """Check that no two sources hold the same trial, as a study and its export do.

    Two studies of one name may have started their trials in the same second; how long each took differs.

    Args:
        tables: Result rows by the name of their source.

    Raises:
        ResultsError: Two sources share a trial.
    """
    holder: dict[tuple[str, str, str, float | None], str] = {}
    for source, table in tables.items():
        columns = (table[name].to_pylist() for name in ("study", "trial_id", "started_at", "seconds"))
        for study, trial, started, seconds in zip(*columns, strict=True):
            other = holder.setdefault((study, trial, started, seconds), source) if started else source
            if other != source:
                raise ResultsError(f"{source} and {other} both hold trial {trial} of study {study}: give one of them")


def relabelled(table: Table, label: str, /) -> Table:
    """Return rows of one study with `label` as their study and as a prefix of their trial ids, `label/00000`.

    Args:
        table: Result or example rows.
        label: Name that distinguishes the study from the others.
    """
    ids = [f"{label}/{trial}" for trial in table["trial_id"].to_pylist()]
    for name, values in (("study", [label] * len(ids)), ("trial_id", ids)):
        position = table.schema.get_field_index(name)
        table = table.set_column(position, table.schema.field(name), pa.array(values, type=pa.string()))
    return table


def joined(tables: Sequence[Table], /) -> Table:
    """Return tables concatenated; a column missing from one is null in its rows."""
    return pa.concat_tables(list(tables), promote_options="default").combine_chunks()


def by_study(table: Table, /) -> dict[str, Table]:
    """Return the rows of each study of a table, in order of first appearance."""
    names = table["study"].to_pylist()
    return {
        name: table.take([index for index, each in enumerate(names) if each == name]) for name in dict.fromkeys(names)
    }
