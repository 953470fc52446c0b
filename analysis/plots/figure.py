"""A figure with its data, and what all figures for papers share: legend, small print, broken lines, files."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis.data.files import unlinked
from analysis.tables.text_table import Cell, csv_text
from analysis.wording import L_2, L_INF

PRINTED = ("png", "pdf", "svg")
"""Formats of figures for papers; png has 300 dpi."""

_LETTERS = 58
"""Letters of a legend that fit side by side in a column."""

_SAMPLE = 5
"""Letters that an entry's sample and gap take."""

_LINE = 0.15
"""Height of a legend's line, inches."""


@dataclass(frozen=True, kw_only=True)
class PaperFigure:
    """One figure for a paper, and the data it draws.

    Args:
        name: Stem of its files.
        figure: Drawn within `paper_style`.
        headings: Columns of the data.
        rows: The data, as measured; missing values are None.
    """

    name: str
    figure: Figure
    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def write(self, out_dir: str | Path, /, *, formats: Iterable[str] = PRINTED) -> list[Path]:
        """Write `<name>.<format>` for each format and `<name>.csv`; the same table gives the same bytes.

        Raises:
            ValueError: Unknown format.
        """
        return write_files(
            Path(out_dir) / self.name, formats, lambda: self.figure, data=csv_text(self.headings, self.rows)
        )


def check_formats(formats: Iterable[str], /, *, valid: Sequence[str] = PRINTED) -> None:
    """Check that all formats are valid, else raise a ValueError."""
    if unknown := [entry for entry in formats if entry not in valid]:
        raise ValueError(f"unknown figure format {unknown[0]!r}; valid: {', '.join(valid)}")


def write_files(
    stem: Path,
    formats: Iterable[str],
    figure: Callable[[], Figure],
    /,
    *,
    data: str,
    page: Callable[[], str] | None = None,
) -> list[Path]:
    """Write a figure's file in each format, and its data as CSV; return the files.

    Args:
        stem: Their path without suffix; its folder is created if missing.
        formats: Of `PRINTED`, and html if there is a page.
        figure: Draws the printed figure, if it is to be written.
        data: The CSV.
        page: Makes the page for html.

    Raises:
        ValueError: Unknown format.
    """
    paths = [stem.with_name(f"{stem.name}.{entry}") for entry in formats]
    check_formats((path.suffix[1:] for path in paths), valid=PRINTED if page is None else (*PRINTED, "html"))
    stem.parent.mkdir(parents=True, exist_ok=True)
    drawn = None
    for path in map(unlinked, paths):
        if page is not None and path.suffix == ".html":
            path.write_text(page(), encoding="utf-8")
            continue
        with paper_style():
            drawn = drawn or figure()
            # no file holds a date, so that the same table gives the same bytes
            dated = {".png": "Software", ".pdf": "CreationDate", ".svg": "Date"}[path.suffix]
            drawn.savefig(path, metadata={dated: None})
            # what was laid out once stays: each layout takes as long as a drawing
            drawn.set_layout_engine("none")
    paths.append(stem.with_name(f"{stem.name}.csv"))
    unlinked(paths[-1]).write_text(data, encoding="utf-8")
    return paths


def blank(width: float, height: float, /, *, legend: Sequence[Line2D] = ()) -> Figure:
    """Return an empty figure whose layout keeps texts apart, with a legend above what is drawn into it.

    Args:
        width: Inches.
        height: Inches, without the legend, which adds its own.
        legend: Its entries; they take as many columns as the width takes.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    if not legend:
        return figure
    texts = [str(handle.get_label()).split("\n") for handle in legend]
    lengths = [max(map(len, text)) for text in texts]
    room = width / COLUMN_WIDTH * _LETTERS
    columns = next(n for n in range(len(legend), 0, -1) if n == 1 or _span(lengths, n) <= room)
    columns = -(-len(legend) // -(-len(legend) // columns))  # as many rows, filled evenly
    figure.set_figheight(height + _LINE * -(-sum(map(len, texts)) // columns))
    figure.legend(
        handles=list(legend),
        loc="outside upper center",
        ncols=columns,
        frameon=False,
        handletextpad=0.3,
        handlelength=1.8,
        columnspacing=0.9,
    )
    return figure


def sample(marker: str, label: str, /, **look: Any) -> Line2D:
    """Return a legend's entry for points: a marker without a line; `look` as in matplotlib's `Line2D`."""
    style: dict[str, Any] = {"linestyle": "none", "markersize": 4.5, "markeredgewidth": 0.6}
    return Line2D([], [], marker=marker, label=label, **style | look)


def _span(lengths: Sequence[int], columns: int) -> int:
    """Return how many letters a legend is wide that fills so many columns one after the other."""
    filled = np.array_split(np.asarray(lengths), columns)
    return sum(int(column.max()) + _SAMPLE for column in filled)


def log_axis(axis: Axis, /) -> None:
    """Label a logarithmic axis with plain numbers, no more of them than there is room for."""
    low, high = sorted(axis.get_view_interval())
    if not 0 < low < high:
        return
    if high < 8 * low:
        axis.set_major_locator(MaxNLocator(nbins=4))
    else:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 60 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def add_small_print(figure: Figure, text: str, /) -> str:
    """Put study, data set and counts below the figure, broken between them rather than within; return the lines."""
    width = int(78 * figure.get_figwidth() / COLUMN_WIDTH)
    # a non-breaking space keeps each part whole that fits into a line
    parts = [part if len(part) > width else part.replace(" ", "\xa0") for part in text.split(" · ")]
    broken = lines(" · ".join(parts), width)
    figure.supxlabel(broken, fontsize=5.5, color="0.35")
    return broken


def say_nothing_is_there(ax: Any, text: str, /) -> None:
    """Write into empty axes why they are empty."""
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes, color="0.4", fontsize=6.5, wrap=True)


def lines(text: str, width: int, /) -> str:
    """Break text that would outgrow the figure, and set the norms with a subscript."""
    broken = "\n".join(textwrap.fill(line, width) for line in text.split("\n"))
    return broken.replace("$", r"\$").replace(L_INF, r"$\ell_\infty$").replace(L_2, r"$\ell_2$")


COLUMN_WIDTH = 3.3
"""Width of a figure that fills one column of a two-column paper, inches."""

WIDTHS = {"column": COLUMN_WIDTH, "page": 6.9}
"""Widths of figures by what they fill, inches."""

_PAPER: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.labelsize": 7.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.linewidth": 0.3,
    "grid.color": "0.9",
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 7,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "robust-study",
}


@contextmanager
def paper_style() -> Iterator[None]:
    """Draw and save within this context; the user's own matplotlib settings neither enter nor are changed."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_PAPER)
        yield
