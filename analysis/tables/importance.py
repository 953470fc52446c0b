"""Tables of importance within methods."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.statistics.importance import (
    MethodImportance,
    sample_words,
    setting_name,
    settings_within,
    target_label,
    too_few,
)
from analysis.tables.text_table import Cell, TextTable


def objectives_within(found: Sequence[MethodImportance], /) -> list[str]:
    """Return the objectives with shares of any method, in order."""
    return list(dict.fromkeys(name for one in found for name in one.shares))


def within_table(found: Sequence[MethodImportance], /) -> tuple[TextTable, list[str]]:
    """Return the shares within each method as a table, a line per setting, and the method of each line."""
    names = objectives_within(found)
    rows: list[tuple[Cell, ...]] = []
    methods = []
    for one in found:
        for setting in settings_within(one):
            shares = (one.shares.get(name, {}).get(setting) for name in names)
            rows.append((one.method, sample_words(one), setting_name(setting), *shares))
            methods.append(one.method)
    few = too_few(found)
    table = TextTable(
        title="Importance within each method",
        headings=("method", "trials", "setting", *(target_label(name) for name in names)),
        formats=("", "", "", *(".2f" for _ in names)),
        rows=tuple(rows),
        notes=(
            "share of a forest's variance, as above, of one method's trials alone; with a single setting that varies "
            "it is always 1",
            *([few] if few else []),
        ),
    )
    return table, methods
