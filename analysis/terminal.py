"""A table as a terminal shows it: numbers whole, texts folded, turned where there is no room for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, JustifyMethod, RenderableType
from rich.markup import escape
from rich.table import Table as RichTable

if TYPE_CHECKING:
    from analysis.tables import TextTable


LONG = 12
"""Words longer than this many characters may be broken."""


def for_terminal(table: TextTable, room: int, /) -> RenderableType:
    """Return the table for rich; turned, a row becoming a column, where its words do not fit beside each other.

    Args:
        table: What it holds.
        room: Characters in a line.
    """
    headings = [heading.replace(" ", "\n") for heading in table.headings]
    rows = [[cell.replace(", ", ",\n") for cell in row] for row in table.cells()]
    widths = _widths([headings, *rows], table.formats, room)
    if not widths:
        return _turned(table, room)
    drawn = _framed(title=table.title, notes=table.notes)
    for heading, spec, width in zip(headings, table.formats, widths, strict=True):
        side: JustifyMethod = "right" if spec else "left"
        drawn.add_column(escape(heading), justify=side, no_wrap=bool(spec), overflow="fold", width=width)
    for row in rows:
        drawn.add_row(*map(escape, row))
    return drawn


def _widths(lines: Sequence[Sequence[str]], formats: Sequence[str], room: int) -> list[int]:
    """Return the columns' widths, the widest made narrower first; none where they do not fit."""
    columns = list(zip(*lines, strict=True))
    wide = [max(len(line) for cell in column for line in [*cell.split("\n"), "-"]) for column in columns]
    word = [min(LONG, max(len(each) for cell in column for each in [*cell.split(), "-"])) for column in columns]
    least = [whole if spec else longest for whole, longest, spec in zip(wide, word, formats, strict=True)]
    for bound in range(max(wide, default=0), -1, -1):
        widths = [min(whole, max(own, bound)) for whole, own in zip(wide, least, strict=True)]
        if sum(widths) + len(widths) - 1 <= room:
            return widths
    return []


def _turned(table: TextTable, room: int) -> RenderableType:
    cells = table.cells()
    first = max(map(len, table.headings))
    widest = max((len(cell) for row in cells for cell in row), default=1)
    together = max(1, (room - first) // (widest + 1))
    parts = [cells[start : start + together] for start in range(0, len(cells), together)] or [[]]
    drawn: list[RichTable] = []
    for index, part in enumerate(parts):
        title, notes = table.title if not index else "", table.notes if index == len(parts) - 1 else ()
        drawn.append(_framed(title=title, notes=notes))
        for heading in (table.headings[0], *(row[0] for row in part)):
            drawn[-1].add_column(escape(heading), overflow="fold")
        for place, heading in enumerate(table.headings[1:], start=1):
            drawn[-1].add_row(escape(heading), *(escape(row[place]) for row in part))
    return Group(drawn[0], *(each for one in drawn[1:] for each in ("", one)))


def _framed(*, title: str, notes: Sequence[str]) -> RichTable:
    drawn = RichTable(box=box.SIMPLE_HEAD, show_edge=False, padding=0, title_justify="left", caption_justify="left")
    drawn.title, drawn.caption = escape(title) or None, escape("\n".join(notes)) or None
    return drawn
