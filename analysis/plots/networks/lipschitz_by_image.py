"""How local Lipschitzness is spread over images: front members on training against validation images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.data.results import Table
from analysis.fronts.front import front_of
from analysis.fronts.objectives import LIPSCHITZ_FLOOR
from analysis.method_styles import MethodStyle, styles_for
from analysis.plots.figure import COLUMN_WIDTH, PaperFigure, add_small_print, blank, log_axis, paper_style
from analysis.statistics.networks.smoothness import SPLITS
from analysis.wording import LOWER_BOUND, provenance, radius_phrase

HEADINGS = ("trial_id", "method", "split", "lipschitz", "share")

_LINES: dict[str, tuple[str | None, Any]] = {"train": ("0.4", "--"), "val": (None, "-")}


def smoothness_sheet(
    smoothness: Mapping[str, Mapping[str, np.ndarray]], table: Table, /, *, width: float = COLUMN_WIDTH
) -> PaperFigure | None:
    """Return the figure: for each member the share of images whose estimate is at most x; None without estimates.

    Args:
        smoothness: Estimates by trial and split, sorted.
        table: Result rows.
        width: Inches.
    """
    methods = dict(zip(table["trial_id"].to_pylist(), table["method"].to_pylist(), strict=True))
    shown = {trial: parts for trial, parts in smoothness.items() if trial in methods and parts}
    if not shown:
        return None
    styles = styles_for(methods[trial] for trial in shown)
    columns = min(len(shown), 2 if width < 1.5 * COLUMN_WIDTH else 3)
    rows = -(-len(shown) // columns)
    with paper_style():
        legend = _legend({split for parts in shown.values() for split in parts})
        figure = blank(width, 0.95 * rows + 0.75, legend=legend)
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for ax in grid.flat[len(shown) :]:
            ax.set_axis_off()
        grid[0, 0].set_xscale("log")
        for ax, (trial, parts) in zip(grid.flat, shown.items(), strict=False):
            _draw(ax, trial, parts, styles[methods[trial]])
        for ax in grid.flat[: len(shown)]:
            log_axis(ax.xaxis)
            ax.tick_params(which="minor", bottom=False)
        figure.supylabel("share of images", fontsize=7)
        bottom = [grid.flat[place] for place in range(len(shown)) if place + columns >= len(shown)]
        for ax in bottom:
            ax.tick_params(labelbottom=True)
            ax.set_xlabel("local Lipschitz", fontsize=6.5)
        images = " or ".join(map(str, sorted({len(values) for parts in shown.values() for values in parts.values()})))
        members = f"{len(shown)} of the {front_of(table).num_rows} members of the front, {images} images each"
        add_small_print(
            figure, f"{provenance(table)} · {members} · {LOWER_BOUND} of each image, {radius_phrase(table)}"
        )
    data = tuple(
        (trial, methods[trial], split, float(value), (place + 1) / len(values))
        for trial, parts in shown.items()
        for split, values in parts.items()
        for place, value in enumerate(values)
    )
    return PaperFigure(name="lipschitz_by_image", figure=figure, headings=HEADINGS, rows=data)


def _draw(ax: Axes, trial: str, parts: Mapping[str, np.ndarray], style: MethodStyle) -> None:
    ax.grid(visible=True)
    ax.tick_params(labelsize=6)
    for split, values in parts.items():
        colour, pattern = _LINES[split]
        shares = np.arange(1, len(values) + 1) / len(values)
        look: dict[str, Any] = {"color": colour or style.colour, "linestyle": pattern, "linewidth": 1.0}
        ax.plot(np.maximum(values, LIPSCHITZ_FLOOR), shares, drawstyle="steps-post", gid=split, **look)
    ax.set_ylim(0, 1.02)
    train, val = (float(np.median(parts[split])) if split in parts else np.nan for split in SPLITS)
    ratio = f", val/train {val / train:.2f}" if train > 0 and np.isfinite(val) else ""
    ax.set_title(f"{trial} {style.label}{ratio}", fontsize=5.5, pad=2, color=style.colour)


def _legend(splits: set[str]) -> list[Line2D]:
    names = {"val": "validation", "train": "training"}
    return [
        Line2D([], [], color=_LINES[split][0] or "0.1", linestyle=_LINES[split][1], linewidth=1.0, label=name)
        for split, name in names.items()
        if split in splits
    ]
