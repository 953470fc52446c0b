"""The hypervolume as a study went on: over its trials, and over the hours its workers spent."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

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
from analysis.plots.screen import empty_chart, numbers, say, set_text
from analysis.plots.trials.trial_points import HEADINGS, Trials, add_trials, handles_of, scatter
from analysis.statistics.association import measure
from analysis.wording import attack_phrase, measured_by, provenance


def _late(growth: Growth) -> tuple[float, float] | None:
    """Return ends of the upright axis, from a little below the median volume, so that late gains are seen."""
    grown = growth.volume[np.isfinite(growth.volume) & (growth.volume > 0)]
    if not len(grown):
        return None
    room = max(0.1 * float(grown.max() - np.median(grown)), 0.02 * float(grown.max()))
    return max(0.0, float(np.median(grown)) - 4 * room), float(grown.max()) + room


def growth_sheet(
    growth: Growth, table: Table, /, *, unit: str = "worker-hours", width: float = COLUMN_WIDTH
) -> PaperFigure:
    """Return the figure of the hypervolume after each trial: over trials on the left, over hours on the right.

    Args:
        growth: The hypervolume of `table`.
        table: Its result rows.
        unit: What `growth.hours` counts.
        width: Inches.
    """
    with paper_style():
        figure = blank(width, 0.4 * width + 0.55)
        left, right = figure.subplots(1, 2, sharey=True)
        for ax, x in ((left, growth.trials), (right, growth.hours)):
            if np.isfinite(x).any():
                ax.step(x, growth.volume, where="post", color="#0072B2", linewidth=1)
                ax.set(xlim=(0, None), ylim=_late(growth))
            else:
                say_nothing_is_there(ax, "no trial yet" if not len(x) else "durations unknown")
            ax.grid(visible=True)
        left.set_xlabel("trials ended")
        right.set_xlabel(lines(f"{unit} of all trials", 16))
        left.set_ylabel(lines(_volume_label(growth), 20), fontsize=6)  # the small print has the attack
        reference = ", ".join(f"{value:g}" for value in growth.reference)
        add_small_print(figure, f"{provenance(table)} · {measured_by(table)} · reference point ({reference})")
    columns = zip(growth.trials.tolist(), growth.hours.tolist(), growth.volume.tolist(), strict=True)
    rows = tuple((trial, hours if np.isfinite(hours) else None, volume) for trial, hours, volume in columns)
    headings = ("trials", unit.replace("-", "_"), "hypervolume")
    return PaperFigure(name="hypervolume", figure=figure, headings=headings, rows=rows)


def growth_chart(growth: Growth, table: Table, /, *, unit: str = "worker-hours") -> go.Figure:
    """Return the same for the screen."""
    figure = empty_chart(340, columns=2, shared_yaxes=True, horizontal_spacing=0.04)
    # a step line needs only the trials at which it moves, and the last
    moved = np.flatnonzero(np.diff(growth.volume, prepend=np.nan) != 0)
    moved = np.union1d(moved, [len(growth.trials) - 1]) if len(moved) else moved
    for column, x in enumerate((growth.trials, growth.hours), start=1):
        if np.isfinite(x).any():
            line = {"shape": "hv", "color": "#0072B2"}
            hover = "%{x}: %{y}<extra></extra>"
            trace = go.Scatter(
                x=numbers(x[moved]), y=numbers(growth.volume[moved]), mode="lines", line=line, hovertemplate=hover
            )
            figure.add_trace(trace, 1, column)
        else:
            say(figure, "durations unknown" if len(x) else "no trial yet", column=column)
    figure.update_xaxes(rangemode="tozero")
    figure.update_xaxes(title_text="trials ended", col=1)
    figure.update_xaxes(title_text=f"{unit} of all trials", col=2)
    figure.update_yaxes(range=_late(growth))
    figure.update_yaxes(title_text=set_text(f"{_volume_label(growth)}\n{attack_phrase(table)}"), col=1)
    return figure


def _volume_label(growth: Growth) -> str:
    names = "clean, robust accuracy; val" if len(growth.objectives) == 2 else f"{', '.join(growth.objectives)}"
    return f"hypervolume ({names})"


KINDS = ("robust", "clean")


def last_is_best(table: Table, /) -> bool:
    """Say whether every trial with a best checkpoint has it at its last epoch, as where only that one is measured."""
    epochs = zip(table["best_epoch"].to_pylist(), table["epochs"].to_pylist(), strict=True)
    known = [best == last for best, last in epochs if best is not None]
    return bool(known) and all(known)


def _last_and_best(trials: Trials, kind: str) -> tuple[np.ndarray, np.ndarray]:
    return measure(trials.table, f"val_{kind}_accuracy"), measure(trials.table, f"best_val_{kind}_accuracy")


def _both(last: np.ndarray, best: np.ndarray) -> tuple[float, float] | None:
    """Return ends of both axes with a margin, None where no trial has both values."""
    known = np.isfinite(last) & np.isfinite(best)
    if not known.any():
        return None
    ends = np.concatenate([last[known], best[known]])
    margin = max(0.06 * float(np.ptp(ends)), 0.01)
    return float(ends.min()) - margin, float(ends.max()) + margin


def _gain(last: np.ndarray, best: np.ndarray) -> str:
    """Return what the best checkpoint gained, in words."""
    gain = (best - last)[np.isfinite(last) & np.isfinite(best)]
    # not the minus sign of a negative zero
    return f"best minus last:\nmedian {np.median(gain) + 0.0:+.3f}, largest {gain.max() + 0.0:+.3f}"


def checkpoints_sheet(trials: Trials, /, *, width: float = COLUMN_WIDTH) -> PaperFigure:
    """Return the figure of each trial's best checkpoint over its last one, which are the same on the line.

    Robust accuracy, whose highest value chose the best checkpoint, is on the left, clean accuracy on the right.
    """
    with paper_style():
        figure = blank(width, 0.5 * width + 0.8, legend=handles_of(trials))
        for ax, kind in zip(figure.subplots(1, 2), KINDS, strict=True):
            last, best = _last_and_best(trials, kind)
            if scatter(ax, last, best, trials):
                ends = _both(last, best)
                ax.plot(ends, ends, color="0.6", linewidth=0.7, zorder=1)
                ax.set(xlim=ends, ylim=ends, aspect="equal")
                ax.set_title(_gain(last, best), fontsize=5, color="0.25", pad=2)
                ax.locator_params(nbins=5)
            across, up = _checkpoint_labels(trials, kind)
            ax.set_xlabel(lines(across, 34), fontsize=6.5)
            ax.set_ylabel(lines(up, 34), fontsize=6.5)
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


def checkpoints_chart(trials: Trials, /) -> go.Figure:
    """Return the same for the screen."""
    pairs = {kind: _last_and_best(trials, kind) for kind in KINDS}
    ends = {kind: _both(*pair) for kind, pair in pairs.items()}
    titles = [_gain(*pairs[kind]).replace("\n", " ") if ends[kind] else " " for kind in KINDS]
    figure = empty_chart(420, columns=2, titles=titles, horizontal_spacing=0.1)
    for column, (kind, (last, best)) in enumerate(pairs.items(), start=1):
        add_trials(figure, last, best, trials, panel=(1, column))
        if limits := ends[kind]:
            corners = dict(zip(("x0", "x1"), limits, strict=True)) | dict(zip(("y0", "y1"), limits, strict=True))
            line = {"color": "#999", "width": 1}
            figure.add_shape(type="line", layer="below", line=line, row=1, col=column, **corners)
        across, up = _checkpoint_labels(trials, kind)
        figure.update_xaxes(range=limits, title_text=set_text(across), col=column)
        figure.update_yaxes(range=limits, title_text=set_text(up), col=column)
    return figure


def _checkpoint_labels(trials: Trials, kind: str) -> tuple[str, str]:
    attack = f"\n{attack_phrase(trials.table)}" if kind == "robust" else ""
    return f"last checkpoint's\n{kind} accuracy (val){attack}", f"best checkpoint's\n{kind} accuracy (val)"
