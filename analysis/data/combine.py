"""Several studies as one: rows that tell their studies apart, for everything that knows a trial by its id alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from analysis.data.results import Table, read_results, to_table
from analysis.data.schema import RESULT, ResultsError


def read_studies(sources: Sequence[str | Path], /, *, skip_damaged: bool = False) -> Table:
    """Return the result rows of several studies as one table, study after study, each once.

    Args:
        sources: Study folders and exported Parquet files; one named twice counts once.
        skip_damaged: As in `analysis.data.results.read_results`.

    Raises:
        ResultsError: As `read_results` does, and two sources of the same trials.
    """
    once = {Path(source).resolve(): str(source) for source in sources}
    tables = {name: read_results(source, skip_damaged=skip_damaged) for source, name in once.items()}
    require_apart(tables)
    return joined([to_table({}, RESULT), *tables.values()])


def require_apart(tables: Mapping[str, Table], /) -> None:
    """Refuse sources that hold the same trials, begun at the same time, as a study and its own export do.

    Args:
        tables: Result rows, by what their source is called.

    Raises:
        ResultsError: Two sources share a trial.
    """
    holder: dict[tuple[str, str, str], str] = {}
    for source, table in tables.items():
        columns = (table[name].to_pylist() for name in ("study", "trial_id", "started_at"))
        for study, trial, begun in zip(*columns, strict=True):
            other = holder.setdefault((study, trial, begun), source) if begun else source
            if other != source:
                raise ResultsError(f"{source} and {other} both hold trial {trial} of study {study}: give one of them")


def relabelled(table: Table, label: str, /) -> Table:
    """Return rows of one study with `label` as their study and before their trials' ids, `label/00000`.

    Args:
        table: Result or example rows.
        label: What the study is called among the others.
    """
    ids = [f"{label}/{trial}" for trial in table["trial_id"].to_pylist()]
    for name, values in (("study", [label] * len(ids)), ("trial_id", ids)):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), pa.array(values, type=pa.string()))
    return table


def joined(tables: Sequence[Table], /) -> Table:
    """Return tables one after the other; a column that one lacks is null there."""
    return pa.concat_tables(list(tables), promote_options="default").combine_chunks()


def by_study(table: Table, /) -> dict[str, Table]:
    """Return the rows of each study of a table, in order of first appearance."""
    names = table["study"].to_pylist()
    return {
        name: table.take([index for index, each in enumerate(names) if each == name]) for name in dict.fromkeys(names)
    }
