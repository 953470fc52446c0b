"""One table in every form: terminal, Markdown, LaTeX, CSV.

On a terminal numbers are not broken, texts fold, and a table that is too wide is transposed.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.data.files import unlinked
from analysis.data.results import write_plain
from analysis.wording import L_2, L_INF

if TYPE_CHECKING:
    from rich.console import JustifyMethod, RenderableType
    from rich.table import Table as RichTable

Cell = str | float | int | bool | None

_NONE = "-"

LONG = 12
"""Words longer than this many characters may be broken."""


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """Rows with a heading for each column, numbers at full precision, and notes.

    Args:
        title: One line above.
        headings: One per column.
        formats: One per column, a format specification for numbers such as ".3f", empty for text.
        rows: Cells; None and NaN show as a dash.
        notes: Lines below the table.
    """

    title: str
    headings: tuple[str, ...]
    formats: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def cells(self) -> list[list[str]]:
        """Return the rows as formatted text."""
        return [[_shown(cell, spec) for cell, spec in zip(row, self.formats, strict=True)] for row in self.rows]

    def without_empty_columns(self) -> TextTable:
        """Return the table without the columns that would show nothing but dashes."""
        kept = [at for at, column in enumerate(zip(*self.cells(), strict=True)) if set(column) != {_NONE}]

        def chosen(line: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(line[at] for at in kept)

        rows = tuple(map(chosen, self.rows))
        return replace(self, headings=chosen(self.headings), formats=chosen(self.formats), rows=rows)

    def markdown(self) -> str:
        """Return the table as Markdown, the notes as a paragraph below."""
        escaped = [[cell.replace("|", "\\|") for cell in row] for row in [list(self.headings), *self.cells()]]
        rule = ["---:" if spec else ":---" for spec in self.formats]
        lines = [f"| {' | '.join(row)} |" for row in [escaped[0], rule, *escaped[1:]]]
        return "\n".join([f"**{self.title}**", "", *lines, "", *(f"{note}  " for note in self.notes)]) + "\n"

    def latex(self) -> str:
        """Return the table for LaTeX with booktabs, notes below in small print; texts are escaped."""
        rows = [" & ".join(map(_tex, row)) + r" \\" for row in [list(self.headings), *self.cells()]]
        columns = "".join("r" if spec else "l" for spec in self.formats)
        notes = [rf"\par\smallskip{{\footnotesize {_tex(note)}\par}}" for note in self.notes]
        lines = [
            "% needs \\usepackage{booktabs}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            rows[0],
            r"\midrule",
            *rows[1:],
            r"\bottomrule",
            r"\end{tabular}",
            *notes,
        ]
        return "\n".join(lines) + "\n"

    def __rich_console__(self, _: Any, options: Any) -> Iterator[Any]:
        yield for_terminal(self, options.max_width)


def csv_text(headings: Sequence[str], rows: Sequence[Sequence[Cell]], /) -> str:
    """Return CSV with Unix line ends; floats as the shortest text that reads back the same, None empty.

    Text that a spreadsheet would run as a formula is preceded by an apostrophe, see `inert`.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(map(inert, headings))
    writer.writerows([inert(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return buffer.getvalue()


def inert(text: str, /) -> str:
    """Return text with an apostrophe before it if a spreadsheet would take it for a formula; numbers are unchanged."""
    if not text.startswith(("=", "+", "-", "@", "\t", "\r")):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def write_forms(shown: TextTable, columns: Mapping[str, list[Any]], out_dir: str | Path, /, *, name: str) -> list[Path]:
    """Write a table as `NAME.md` and `.tex`, and its numbers at full precision as `.csv` and `.parquet`.

    Args:
        shown: The table.
        columns: The numbers by column.
        out_dir: Created if missing.
        name: Stem of the files' names.

    Returns:
        The files written.
    """
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    numbers = csv_text(list(columns), list(zip(*columns.values(), strict=True)))
    forms = {"md": shown.markdown(), "tex": shown.latex(), "csv": numbers}
    for suffix, text in forms.items():
        unlinked(folder / f"{name}.{suffix}").write_text(text, encoding="utf-8")
    write_plain(folder / f"{name}.parquet", columns)
    return [folder / f"{name}.{suffix}" for suffix in (*forms, "parquet")]


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$", "\u2264": r"$\leq$",
    "\u2265": r"$\geq$", "\u03b5": r"$\varepsilon$", "\u00b7": r"$\cdot$", L_INF: r"$\ell_\infty$", L_2: r"$\ell_2$",
}  # fmt: skip

_SPECIAL = re.compile("|".join(re.escape(text) for text in sorted(_TEX, key=len, reverse=True)))


def _tex(text: str) -> str:
    return _SPECIAL.sub(lambda found: _TEX[found[0]], text)


def _shown(cell: Cell, spec: str) -> str:
    if cell is None or cell == "" or (isinstance(cell, float) and math.isnan(cell)):
        return _NONE
    return cell if isinstance(cell, str) else format(cell, spec)


def for_terminal(table: TextTable, room: int, /) -> RenderableType:
    """Return the table for rich, transposed if its columns do not fit the width.

    Args:
        table: The table.
        room: Characters in a line.
    """
    from rich.markup import escape

    headings = [heading.replace(" ", "\n") for heading in table.headings]
    rows = [[cell.replace(", ", ",\n") for cell in row] for row in table.cells()]
    widths = _widths([headings, *rows], table.formats, room)
    if not widths:
        return _transposed(table, room)
    drawn = _framed(title=table.title, notes=table.notes)
    for heading, spec, width in zip(headings, table.formats, widths, strict=True):
        side: JustifyMethod = "right" if spec else "left"
        drawn.add_column(escape(heading), justify=side, no_wrap=bool(spec), overflow="fold", width=width)
    for row in rows:
        drawn.add_row(*map(escape, row))
    return drawn


def _widths(lines: Sequence[Sequence[str]], formats: Sequence[str], room: int) -> list[int]:
    """Return the columns' widths, narrowing the widest first; empty if they do not fit."""
    columns = list(zip(*lines, strict=True))
    wide = [max(len(line) for cell in column for line in [*cell.split("\n"), "-"]) for column in columns]
    word = [min(LONG, max(len(each) for cell in column for each in [*cell.split(), "-"])) for column in columns]
    least = [whole if spec else longest for whole, longest, spec in zip(wide, word, formats, strict=True)]
    for bound in range(max(wide, default=0), -1, -1):
        widths = [min(whole, max(own, bound)) for whole, own in zip(wide, least, strict=True)]
        if sum(widths) + len(widths) - 1 <= room:
            return widths
    return []


def _transposed(table: TextTable, room: int) -> RenderableType:
    from rich.console import Group
    from rich.markup import escape

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
    from rich import box
    from rich.markup import escape
    from rich.table import Table as RichTable

    drawn = RichTable(box=box.SIMPLE_HEAD, show_edge=False, padding=0, title_justify="left", caption_justify="left")
    drawn.title, drawn.caption = escape(title) or None, escape("\n".join(notes)) or None
    return drawn
