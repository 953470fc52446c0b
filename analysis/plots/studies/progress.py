"""The hypervolume as a study went on: over its trials, and over the hours its workers spent."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from analysis.data.results import Table
from analysis.fronts.growth import Growth
from analysis.plots.figure import (
    COLUMN_WIDTH,
    PaperFigure,
    add_small_print,
    blank,
    lines,
    paper_style,
    say_nothing_is_there,
)
from analysis.plots.trials.trial_points import HEADINGS, Trials, handles_of, scatter
from analysis.statistics.association import measure
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


def growth_sheet(
    growth: Growth, table: Table, /, *, unit: str = "worker-hours", width: float = COLUMN_WIDTH
) -> PaperFigure:
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
    return PaperFigure(name="hypervolume", figure=figure, headings=headings, rows=rows)


KINDS = ("robust", "clean")


def draw_best_against_last(trials: Trials, /, ax: Axes, *, kind: str) -> Axes:
    """Draw an accuracy of each trial's best checkpoint over that of its last one; on the line both are the same.

    Args:
        trials: What to draw.
        ax: Where.
        kind: "robust", whose highest value chose the best checkpoint, or "clean".

    Returns:
        `ax`.
    """
    last, best = (measure(trials.table, f"{of}val_{kind}_accuracy") for of in ("", "best_"))
    scatter(ax, last, best, trials)
    known = np.isfinite(last) & np.isfinite(best)
    ax.grid(visible=True, linewidth=0.3, color="0.9")
    ax.set_axisbelow(True)
    if not known.any():
        say_nothing_is_there(ax, "not measured")
        return ax
    ends = np.concatenate([last[known], best[known]])
    margin = max(0.06 * float(np.ptp(ends)), 0.01)
    low, high = float(ends.min()) - margin, float(ends.max()) + margin
    ax.plot([low, high], [low, high], color="0.6", linewidth=0.7, zorder=1)
    ax.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    gain = best[known] - last[known]
    # not the minus sign of a negative zero
    said = f"best minus last:\nmedian {np.median(gain) + 0.0:+.3f}, largest {gain.max() + 0.0:+.3f}"
    ax.set_title(said, fontsize=5.5, color="0.25", pad=2)
    ax.locator_params(nbins=5)
    return ax


def checkpoints_sheet(trials: Trials, /, *, width: float = COLUMN_WIDTH) -> PaperFigure:
    """Return the figure: robust accuracy on the left, clean accuracy on the right."""
    with paper_style():
        figure = blank(width, 0.5 * width + 0.8, legend=handles_of(trials))
        for ax, kind in zip(figure.subplots(1, 2), KINDS, strict=True):
            draw_best_against_last(trials, ax, kind=kind)
            attack = f"\n{attack_phrase(trials.table)}" if kind == "robust" else ""
            ax.set_xlabel(lines(f"last checkpoint's\n{kind} accuracy (val){attack}", 34), fontsize=6.5)
            ax.set_ylabel(lines(f"best checkpoint's\n{kind} accuracy (val)", 34), fontsize=6.5)
            ax.tick_params(labelsize=6)
        chosen = "best: highest robust accuracy on validation, so its own is flattered"
        add_small_print(figure, f"{trials.small_print} · {measured_by(trials.table)} · {chosen}")
    columns = {
        f"{of}val_{kind}_accuracy": measure(trials.table, f"{of}val_{kind}_accuracy")
        for kind in KINDS
        for of in ("", "best_")
    }
    places = [len(HEADINGS) + 1, len(HEADINGS) + 3]
    rows = tuple(row for row in trials.rows(columns) if any(row[place] is not None for place in places))
    return PaperFigure(name="best_against_last", figure=figure, headings=(*HEADINGS, *columns), rows=rows)
