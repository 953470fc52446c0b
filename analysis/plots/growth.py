"""The hypervolume as a study went on: over its trials, and over the hours its workers spent."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from analysis.plots.sheet import Sheet, add_small_print, blank, lines, say_nothing_is_there
from analysis.plots.style import COLUMN_WIDTH, paper_style
from analysis.progress import Growth
from analysis.results import Table
from analysis.wording import attack_phrase, measured_by, provenance


def draw_growth(growth: Growth, /, ax: Axes, *, over: str) -> Axes:
    """Draw the hypervolume after each trial as a step line.

    Args:
        growth: What to draw.
        ax: Where.
        over: "trials" or "hours".

    Returns:
        `ax`.
    """
    x = growth.trials if over == "trials" else growth.hours
    if np.isfinite(x).any():
        ax.step(x, growth.volume, where="post", color="#0072B2", linewidth=1)
        ax.set_xlim(0, None)
        grown = growth.volume[np.isfinite(growth.volume) & (growth.volume > 0)]
        if len(grown):
            # from a little below the median, so that late gains are seen
            room = max(0.1 * float(grown.max() - np.median(grown)), 0.02 * float(grown.max()))
            ax.set_ylim(max(0.0, float(np.median(grown)) - 4 * room), float(grown.max()) + room)
    else:
        say_nothing_is_there(ax, "no trial yet" if not len(x) else "durations unknown")
    ax.grid(visible=True, linewidth=0.3, color="0.9")
    ax.set_axisbelow(True)
    return ax


def growth_sheet(growth: Growth, table: Table, /, *, unit: str = "worker-hours", width: float = COLUMN_WIDTH) -> Sheet:
    """Return the figure: over trials on the left, over hours on the right.

    Args:
        growth: The hypervolume of `table`.
        table: Its result rows.
        unit: What `growth.hours` counts.
        width: Inches.
    """
    with paper_style():
        figure = blank(width, 0.4 * width + 0.55)
        left, right = figure.subplots(1, 2, sharey=True)
        draw_growth(growth, left, over="trials")
        draw_growth(growth, right, over="hours")
        left.set_xlabel("trials ended")
        right.set_xlabel(f"{unit} of all trials")
        names = "clean, robust accuracy; val" if len(growth.objectives) == 2 else f"{', '.join(growth.objectives)}"
        left.set_ylabel(lines(f"hypervolume ({names})\n{attack_phrase(table)}", 25), fontsize=6)
        reference = ", ".join(f"{value:g}" for value in growth.reference)
        add_small_print(figure, f"{provenance(table)} · {measured_by(table)} · reference point ({reference})")
    columns = zip(growth.trials.tolist(), growth.hours.tolist(), growth.volume.tolist(), strict=True)
    rows = tuple((trial, hours if np.isfinite(hours) else None, volume) for trial, hours, volume in columns)
    headings = ("trials", unit.replace("-", "_"), "hypervolume")
    return Sheet(name="hypervolume", figure=figure, headings=headings, rows=rows)
