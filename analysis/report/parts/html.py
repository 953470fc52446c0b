"""Small pieces of HTML: escaped text, sections that fold, tables to copy, bars."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from html import escape
from importlib import resources

from analysis.method_styles import short_name
from analysis.tables.text_table import TextTable, csv_text

# Nothing may be fetched: the page's own policy forbids it. WebGL charts compile functions, hence eval.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval' blob:; "
    "img-src data: blob:; worker-src blob:"
)


def asset(name: str, /) -> str:
    """Return the text of one of the page's own files, such as `report.css`."""
    return resources.files("analysis.report").joinpath("assets", name).read_text(encoding="utf-8")


def document(
    title: str,
    small: str,
    sections: Mapping[str, tuple[str, str]],
    /,
    *,
    opening: str = "",
    folded: Collection[str] = (),
    scripts: str = "",
) -> str:
    """Return a whole page that opens without a network.

    Args:
        title: The page's title and heading.
        small: Small print below it.
        sections: By the name that links use: the heading, and the HTML below it. They fold.
        opening: HTML above the links to the sections.
        folded: Names of the sections that are folded at first.
        scripts: Script elements at the page's end.
    """
    links = "".join(f'<li><a href="#{name}">{escape(heading)}</a></li>' for name, (heading, _) in sections.items())
    body = "\n".join(
        f'<details class="section" id="{name}"{"" if name in folded else " open"}>'
        f"<summary><h2>{escape(heading)}</h2></summary>\n{inner}\n</details>"
        for name, (heading, inner) in sections.items()
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{asset('report.css')}</style></head>\n<body>"
        f'<a class="skip" href="#{next(iter(sections))}">Skip to the sections</a><header><h1>{escape(title)}</h1>'
        f'<p class="small">{escape(small)}</p></header>\n<main>{opening}\n'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n{body}</main>\n'
        f"<script>{asset('page.js')}</script>\n{scripts}</body></html>\n"
    )


def table_html(table: TextTable, /, *, caption: bool = True, row_class: Sequence[str] = ()) -> str:
    """Return a table with a caption, its notes below and buttons that copy it; numbers to the right.

    Columns without a value are left out, of a table without rows only the notes remain. Methods have their short names.

    Args:
        table: What it holds.
        caption: Whether its title is shown.
        row_class: A `data-method` for each row, by which a filter hides it; empty for none.
    """
    table = _with_short_names(table.without_empty_columns())
    notes = "".join(f'<p class="note">{prose(note)}</p>' for note in table.notes)
    if not table.rows:
        return notes
    head = "".join(
        f'<th scope="col"{_align(spec)}>{escape(heading)}</th>'
        for heading, spec in zip(table.headings, table.formats, strict=True)
    )
    rows = []
    for index, cells in enumerate(table.cells()):
        mark = f' data-method="{escape(row_class[index])}"' if row_class else ""
        shown = "".join(
            f"<td{_align(spec)}>{escape(cell)}</td>" for cell, spec in zip(cells, table.formats, strict=True)
        )
        rows.append(f"<tr{mark}>{shown}</tr>")
    title = f"<caption>{escape(table.title)}</caption>" if caption and table.title else ""
    body = "\n".join(rows)
    forms = {"LaTeX": table.latex(), "CSV": csv_text(table.headings, table.rows)}
    buttons = " ".join(copy_button(name, text, what=f"{table.title} as {name}") for name, text in forms.items())
    return (
        f'<div class="scroll" tabindex="0"><table>{title}<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>'
        f'</div>{notes}<p class="copy">Copy as {buttons}</p>'
    )


def _with_short_names(table: TextTable) -> TextTable:
    """Return the table with each method's short name in the columns that name methods."""
    named = [heading in ("method", "among") for heading in table.headings]
    rows = tuple(
        tuple(
            short_name(cell) if of_method and isinstance(cell, str) else cell
            for cell, of_method in zip(row, named, strict=True)
        )
        for row in table.rows
    )
    return replace(table, rows=rows)


def copy_button(name: str, text: str, /, *, what: str) -> str:
    """Return a button that copies a text to the clipboard; `what` says which one to a screen reader."""
    return f'<button type="button" data-copy="{escape(text)}" aria-label="Copy {escape(what)}">{escape(name)}</button>'


def command_line(command: str, /) -> str:
    """Return a command with a button that copies it."""
    return f'<p class="command"><code>{escape(command)}</code> {copy_button("Copy", command, what=command)}</p>'


def prose(text: str, /) -> str:
    """Return escaped text, what is between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def paragraph(text: str, /) -> str:
    """Return escaped text as a paragraph."""
    return f"<p>{prose(text)}</p>"


def bullets(lines: Sequence[str], /) -> str:
    """Return escaped lines as a list, empty for none."""
    return "<ul>" + "".join(f"<li>{prose(line)}</li>" for line in lines) + "</ul>" if lines else ""


def bars(shares: dict[str, float], /) -> str:
    """Return shares in [0, 1] as labelled bars, the numbers written out."""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="number">{share:.2f}</td>'
        f'<td class="bar"><span style="width:{100 * share:.0f}%"></span></td></tr>'
        for name, share in shares.items()
    )
    return f'<table class="bars"><tbody>{rows}</tbody></table>'


def _align(spec: str) -> str:
    return ' class="number"' if spec else ""
