"""Small pieces of HTML: escaped text, tables, bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources

from analysis.tables.text_table import TextTable

# Nothing may be fetched: the page's own policy forbids it. WebGL charts compile functions, hence eval.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval' blob:; "
    "img-src data: blob:; worker-src blob:"
)


def asset(name: str, /) -> str:
    """Return the text of one of the page's own files: `report.css` or `report.js`."""
    return resources.files("analysis.report").joinpath("assets", name).read_text(encoding="utf-8")


def document(title: str, small: str, sections: Mapping[str, tuple[str, str]], /, *, scripts: str = "") -> str:
    """Return a whole page that opens without a network.

    Args:
        title: The page's title and heading.
        small: Small print below it.
        sections: By the name that links use: the heading, and the HTML below it.
        scripts: Script elements at the page's end.
    """
    links = "".join(f'<li><a href="#{name}">{escape(heading)}</a></li>' for name, (heading, _) in sections.items())
    body = "\n".join(
        f'<section id="{name}"><h2>{escape(heading)}</h2>\n{inner}\n</section>'
        for name, (heading, inner) in sections.items()
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{asset('report.css')}</style></head>\n<body>"
        f'<a class="skip" href="#{next(iter(sections))}">Skip to the content</a><h1>{escape(title)}</h1>'
        f'<p class="small">{escape(small)}</p><nav aria-label="Sections"><ul>{links}</ul></nav>\n'
        f"<main>{body}</main>\n{scripts}</body></html>\n"
    )


def table_html(table: TextTable, /, *, caption: bool = True, row_class: Sequence[str] = ()) -> str:
    """Return a table with a caption and its notes below; numbers to the right.

    Args:
        table: What it holds.
        caption: Whether its title is shown.
        row_class: A `data-method` for each row, by which a filter hides it; empty for none.
    """
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
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in table.notes)
    body = "\n".join(rows)
    return (
        f'<div class="scroll" tabindex="0"><table>{title}<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>'
        f"</div>{notes}"
    )


def paragraph(text: str, /) -> str:
    """Return escaped text as a paragraph."""
    return f"<p>{escape(text)}</p>"


def bullets(lines: Sequence[str], /) -> str:
    """Return escaped lines as a list, empty for none."""
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>" if lines else ""


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
