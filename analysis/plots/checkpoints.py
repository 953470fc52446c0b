"""The checkpoint that validation chose against the last one, over all trials of a study."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from analysis.association import measure
from analysis.plots.sheet import Sheet, add_small_print, blank, lines, say_nothing_is_there
from analysis.plots.style import COLUMN_WIDTH, paper_style
from analysis.plots.trials import HEADINGS, Trials, handles_of, scatter
from analysis.wording import attack_phrase, measured_by

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


def checkpoints_sheet(trials: Trials, /, *, width: float = COLUMN_WIDTH) -> Sheet:
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
    return Sheet(name="best_against_last", figure=figure, headings=(*HEADINGS, *columns), rows=rows)
