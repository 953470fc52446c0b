"""Lipschitzness, robust and clean accuracy over the strength that a grid sets, a column for each method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.method_styles import styles_for
from analysis.plots.figure import COLUMN_WIDTH, PaperFigure, add_small_print, blank, lines, log_axis, paper_style
from analysis.statistics.association import LIPSCHITZ
from analysis.statistics.intervention import REFERENCE, RESPONSES, Experiment, Point, dose_label, points
from analysis.wording import attack_phrase, measured_by, provenance, radius_phrase

_Look = tuple[str, Any, str]

_LOOKS: tuple[_Look, ...] = (
    ("#0072B2", "-", "o"),
    ("#D55E00", "--", "s"),
    ("#009E73", ":", "^"),
    ("#CC79A7", "-.", "D"),
)
"""Colour, line and marker of the dropout rates in turn, from Okabe and Ito's colour-blind safe set."""

_COLUMN = 1.3
"""Least inches of a method's column."""

HEADINGS = ("method", "dose", "level", "dropout", "response", "mean", "low", "high", "n")


def dose_response_sheet(experiment: Experiment, /, *, width: float = COLUMN_WIDTH) -> PaperFigure:
    """Return the figure: a row for each response, a column for each method, a line for each dropout rate.

    Points are means over trials (geometric ones of Lipschitz estimates), bars their 95 % t-intervals; the horizontal
    lines and bands are natural training at the same dropout rates. A dose of 0 has no place on the logarithmic axis: it
    is in the data only. Means over few seeds have wide intervals, which are cut where they leave the panel.

    Args:
        experiment: The trials.
        width: Inches; more where the methods' columns need more.
    """
    found, table = points(experiment), experiment.table
    styles = styles_for(experiment.names)
    looks = dict(zip(experiment.rates(), _LOOKS * len(experiment.rates()), strict=False))
    with paper_style():
        figure = blank(
            max(width, _COLUMN * len(styles) + 0.4), 1.15 * len(RESPONSES) + 0.6, legend=_handles(found, looks)
        )
        axes = figure.subplots(len(RESPONSES), len(styles), sharex="col", sharey="row", squeeze=False)
        for row, response in zip(axes, RESPONSES, strict=True):
            for ax, method in zip(row, styles, strict=True):
                ax.set_xscale("log")
                ax.set_yscale("log" if response in LIPSCHITZ else "linear")
                for dropout, look in looks.items():
                    _draw(
                        [point for point in found if (point.response, point.dropout) == (response, dropout)],
                        method,
                        look,
                        ax,
                    )
                ax.grid(visible=True)
                ax.tick_params(labelsize=6)
            _limit(row[0], [point for point in found if point.response == response])
            if response in LIPSCHITZ:
                log_axis(row[0].yaxis)
            row[0].set_ylabel(lines(_label(experiment, response), 22), fontsize=6)
        for ax, style in zip(axes[0], styles.values(), strict=True):
            ax.set_title(style.label, fontsize=7, pad=2)
        for ax, method in zip(axes[-1], styles, strict=True):
            ax.set_xlabel(lines(dose_label(experiment.names[method]), 20), fontsize=6)
            ax.set_xticks(sorted({point.dose for point in found if point.method == method and point.dose}))
            ax.set_xticks([], minor=True)
            ax.xaxis.set_major_formatter("{x:g}")
            ax.tick_params(axis="x", labelsize=5, rotation=45)
        shown = f"{table.num_rows} in the figure · {_trials(found)}, bars: 95 % (t)"
        add_small_print(figure, f"{provenance(experiment.whole)} · {measured_by(table)} · {shown}")
    rows = tuple(
        (
            point.method,
            experiment.names.get(point.method),
            point.dose,
            point.dropout,
            point.response,
            *(None if number != number else number for number in (point.mean.value, point.mean.low, point.mean.high)),
            point.n,
        )
        for point in found
    )
    return PaperFigure(name="dose_response", figure=figure, headings=HEADINGS, rows=rows)


def dose_response_svg(experiment: Experiment, /) -> str:
    """Return the figure as an SVG element for a page; the same trials give the same text."""
    sheet = dose_response_sheet(experiment)
    buffer = StringIO()
    with paper_style():
        sheet.figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _draw(found: Sequence[Point], method: str, look: _Look, ax: Axes) -> None:
    """Draw one dropout rate's doses of a method, and its reference."""
    colour, line, marker = look
    for point in found:
        if point.method == REFERENCE:
            ax.axhline(point.mean.value, color=colour, linestyle=line, linewidth=0.6, alpha=0.7, zorder=1)
            if point.mean.low == point.mean.low:
                ax.axhspan(point.mean.low, point.mean.high, color=colour, alpha=0.08, linewidth=0, zorder=0)
    doses = [(point.dose, point.mean) for point in found if point.method == method and point.dose]
    if not doses:
        return
    x, y = [dose for dose, _ in doses], [mean.value for _, mean in doses]
    ends = [mean.value - mean.low for _, mean in doses], [mean.high - mean.value for _, mean in doses]
    looks: dict[str, Any] = {"color": colour, "linestyle": line, "marker": marker, "markersize": 2.5, "linewidth": 0.9}
    ax.errorbar(x, y, yerr=ends, elinewidth=0.6, capsize=1.5, capthick=0.6, **looks)


def _limit(ax: Axes, found: Sequence[Point]) -> None:
    """Keep the axis to the means and most of their intervals: a t-interval of two trials can span decades."""
    means = [point.mean.value for point in found]
    if not means:
        return
    low, high = min(means), max(means)
    if found[0].response in LIPSCHITZ:
        ax.set_ylim(low / 2, high * 2)
    else:
        ax.set_ylim(max(low - 0.1, -0.02), min(high + 0.1, 1.02))


def _handles(found: Sequence[Point], looks: Mapping[float, _Look]) -> list[Line2D]:
    handles = [
        Line2D(
            [], [], color=colour, linestyle=line, marker=marker, markersize=3, linewidth=0.9, label=f"dropout {rate:g}"
        )
        for rate, (colour, line, marker) in looks.items()
    ]
    if any(point.method == REFERENCE for point in found):
        handles.append(Line2D([], [], color="0.5", linewidth=0.6, label="level: natural training"))
    return handles


def _label(experiment: Experiment, response: str) -> str:
    if response in LIPSCHITZ:
        return f"{RESPONSES[response]}\n(lower bound, val)\n{radius_phrase(experiment.table)}"
    attack = attack_phrase(experiment.table) if "robust" in response else ""
    return f"{RESPONSES[response]} (val)\n{attack}"


def _trials(found: Sequence[Point]) -> str:
    sizes = sorted({point.n for point in found})
    count = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    return f"points: means over {count} trials"
