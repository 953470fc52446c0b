"""Several studies as one: rows that tell their studies apart, for everything that knows a trial by its id alone."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from analysis.results import Table


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
