"""Accuracies over the epochs, by method: where robust overfitting shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D

from analysis.data.results import Table
from analysis.method_styles import MethodStyle, styles_for
from analysis.plots.figure import COLUMN_WIDTH, PaperFigure, add_small_print, blank, lines, paper_style
from analysis.wording import attack_phrase, provenance

SPLITS = {"train": "--", "val": "-"}
"""The splits, and their lines."""

_KINDS = ("clean", "robust")

CURVES = tuple(f"{split}_{kind}_accuracy" for kind in _KINDS for split in SPLITS)

HEADINGS = ("study", "trial_id", "method", "epoch", "lr", *CURVES)

MOST_CURVES = 200
"""Most trials of a method that are drawn as thin lines; the median is of all."""

DROP = 5.0
"""A learning rate that falls by this factor or more from one epoch to the next has dropped: smooth schedules fall by
less than 4."""

_TRAIN = "0.4"
_PANEL = 0.235
"""Height of a line of panels, as a share of the figure's width."""


def learning_sheet(epochs: Table | None, table: Table, /, *, width: float = COLUMN_WIDTH) -> PaperFigure | None:
    """Return the figure: a line of panels for each method, clean accuracy on the left, robust accuracy on the right.

    Where robust accuracy was measured once in a trial there is no curve of it, and no panel.

    Each thin line is a trial, a thick one the median of the method's trials that got so far. Robust accuracies, and
    those on training images, are drawn at the epochs at which they were measured.

    Args:
        epochs: Epoch rows; None is returned where no trial has two epochs.
        table: The result rows of their trials.
        width: Inches.
    """
    rows = _rows(epochs, table)
    if not any(row["epoch"] > 1 and row["val_clean_accuracy"] is not None for row in rows):
        return None
    styles = styles_for(row["method"] for row in rows)
    with paper_style():
        kinds = [kind for kind in _KINDS if kind == "clean" or _is_curve(rows, kind)]
        cells = [(method, kind) for method in styles for kind in kinds]
        figure = blank(width, _PANEL * width * -(-len(cells) // 2) + 0.7, legend=_legend(rows))
        grid = figure.subplots(-(-len(cells) // 2), 2, squeeze=False, sharex=True, sharey=True).flat
        for ax in grid[len(cells) :]:
            ax.set_axis_off()
        for place, (method, kind) in enumerate(cells):
            trials, style = _by_trial([row for row in rows if row["method"] == method]), styles[method]
            _draw(grid[place], trials, kind, style)
            if kind == kinds[0]:
                title = f"{style.label} ({len(trials)})"
                grid[place].set_title(title, fontsize=6.5, loc="left", color=style.colour, pad=2)
            if place < 2:
                grid[place].set_title(f"{kind} accuracy", fontsize=6.5, loc="right", pad=2)
            if place + 2 >= len(cells):
                grid[place].tick_params(labelbottom=True)
                grid[place].set_xlabel(_below(kind, table), fontsize=6.5)
        most = f", {MOST_CURVES} of a method at most" if table.num_rows > MOST_CURVES else ""
        thick = "thick: median of those that got so far, flagged ones included"
        add_small_print(figure, f"{provenance(table)} · thin: trials{most} · {thick}")
    data = tuple(tuple(row[name] for name in HEADINGS) for row in rows)
    return PaperFigure(name="learning_curves", figure=figure, headings=HEADINGS, rows=data)


def _rows(epochs: Table | None, table: Table) -> list[dict[str, Any]]:
    """Return the epochs of the trials of `table` as rows of `HEADINGS`, without values carried over."""
    if epochs is None or not epochs.num_rows:
        return []
    methods = dict(zip(table["trial_id"].to_pylist(), table["method"].to_pylist(), strict=True))
    names = [name for name in HEADINGS if name != "method"]
    rows = []
    for row in epochs.select([*names, "stale"]).to_pylist():
        if row["trial_id"] in methods:
            robust = None if row["stale"] else row["val_robust_accuracy"]
            rows.append({**row, "method": methods[row["trial_id"]], "val_robust_accuracy": robust})
    return rows


def _by_trial(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    trials: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        trials.setdefault(row["trial_id"], []).append(row)
    return list(trials.values())


def _below(kind: str, table: Table) -> str:
    attack = f"\n{attack_phrase(table)}".replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")
    return lines(f"epoch{attack if kind == 'robust' else ''}", 32)


def _is_curve(rows: Sequence[Mapping[str, Any]], kind: str) -> bool:
    return any(len(_curve(trial, f"{split}_{kind}_accuracy")) > 1 for trial in _by_trial(rows) for split in SPLITS)


def drops(trial: Sequence[Mapping[str, Any]], /) -> list[int]:
    """Return the epochs of one trial, in order, after which its learning rate dropped."""
    steps = pairwise(trial)
    return [row["epoch"] for row, after in steps if row["lr"] and after["lr"] and row["lr"] >= DROP * after["lr"]]


def _draw(ax: Axes, trials: Sequence[Sequence[Mapping[str, Any]]], kind: str, style: MethodStyle) -> None:
    ax.grid(visible=True)
    ax.tick_params(labelsize=6)
    ax.xaxis.get_major_locator().set_params(integer=True, nbins=6)  # type: ignore[call-arg]
    for epoch in sorted({epoch for trial in trials for epoch in drops(trial)}):
        ax.axvline(epoch, color="0.35", linewidth=0.7, linestyle=":", zorder=1, gid="drop")
    for split, pattern in SPLITS.items():
        colour = style.colour if split == "val" else _TRAIN
        curves = [_curve(trial, f"{split}_{kind}_accuracy") for trial in trials]
        curves = [curve for curve in curves if len(curve)]
        if not curves:
            continue
        thin = curves[:: -(-len(curves) // MOST_CURVES)]
        ax.add_collection(LineCollection(thin, colors=colour, linestyles=pattern, linewidths=0.35, alpha=0.35))
        median = medians(curves)
        look: dict[str, Any] = {
            "color": colour,
            "linestyle": pattern,
            "linewidth": 1.2,
            "marker": ".",
            "markersize": 2.5,
        }
        ax.plot(*median.T, zorder=4, gid=f"{split}_{kind}", **look)
    ax.autoscale_view()


def _curve(trial: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    points = [(row["epoch"], row[name]) for row in trial if row[name] is not None]
    return np.array(points, dtype=np.float64).reshape(-1, 2)


def medians(curves: Sequence[np.ndarray], /) -> np.ndarray:
    """Return the median at each epoch of those curves, each (m, 2), that have a value there, shape (e, 2)."""
    points = np.concatenate(list(curves))
    epochs = np.unique(points[:, 0])
    return np.array([(epoch, np.median(points[points[:, 0] == epoch, 1])) for epoch in epochs])


def _legend(rows: Sequence[Mapping[str, Any]]) -> list[Line2D]:
    handles = [Line2D([], [], color="0.1", linewidth=1.2, label="validation")]
    if any(row[name] is not None for row in rows for name in CURVES if name.startswith("train")):
        handles.append(Line2D([], [], color=_TRAIN, linewidth=1.2, linestyle="--", label="training, ≤ 100 images"))
    if any(drops(trial) for trial in _by_trial(rows)):
        handles.append(Line2D([], [], color="0.35", linewidth=0.7, linestyle=":", label="learning rate drops"))
    return handles
