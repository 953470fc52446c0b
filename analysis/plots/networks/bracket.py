"""What is proved and what is only not refuted of each front member: clean, robust, strong and certified accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from analysis.data.results import Table
from analysis.fronts.front import front_of
from analysis.fronts.strong_attacks import StrongResult, certified_of
from analysis.method_styles import short_name
from analysis.plots.figure import COLUMN_WIDTH, PaperFigure, add_small_print, blank, lines, paper_style, sample
from analysis.wording import attack_phrase, provenance

COLUMNS = ("certified", "strong", "robust", "clean")

HEADINGS = ("trial_id", "method", *COLUMNS, "strong_images", "strong_doubts")

_LEAST_HEIGHT = 1.6
"""Inches, for the legend and the small print of a figure of one or two members."""

_LOOKS: dict[str, dict[str, Any]] = {
    "clean": {"markersize": 3.5, "markerfacecolor": "white", "markeredgecolor": "0.2"},
    "robust": {"markersize": 4.5, "markerfacecolor": "0.2", "markeredgecolor": "0.2"},
    "strong": {"markersize": 2.6, "markerfacecolor": "#b2182b", "markeredgecolor": "#b2182b"},
    "certified": {"markersize": 3.5, "markerfacecolor": "#2166ac", "markeredgecolor": "#2166ac"},
}

_MARKERS = {"clean": "o", "robust": "o", "strong": "D", "certified": "s"}

_LABELS = {
    "clean": "clean",
    "robust": "robust (search's attack)",
    "strong": "left by strong attacks",
    "certified": "certified",
}


def bracket_sheet(
    table: Table, /, *, strong: Mapping[str, StrongResult] | None = None, width: float = COLUMN_WIDTH
) -> PaperFigure | None:
    """Return the figure: a line for each member, from the most accurate; None where nothing is certified of any trial.

    Members are those of the front of clean and robust accuracy, and of the front of clean and certified accuracy where
    anything is certified. The thick line is from what is proved to what no attack has refuted. What strong attacks and
    bounds found on the first images is carried over to all, so that where those are fewer the ends are estimates. A
    member of whose value strong attacks leave doubt has an exclamation mark, as in the table of the front.

    Args:
        table: Result rows.
        strong: Members' values under strong attacks, by trial.
        width: Inches.
    """
    members = _members(table)
    results = [(strong or {}).get(row["trial_id"]) for row in members]
    values = np.array([_values(row, one) for row, one in zip(members, results, strict=True)]).reshape(-1, 4)
    if not (values[:, 0] > 0).any():
        return None
    attacked = [None if one is None else one.images for one in results]
    doubts = [None if one is None else "; ".join(one.doubts) or None for one in results]
    with paper_style():
        shown = [name for place, name in enumerate(COLUMNS) if np.isfinite(values[:, place]).any()][::-1]
        legend = [sample(_MARKERS[name], _LABELS[name], **_LOOKS[name]) for name in shown]
        figure = blank(width, max(0.15 * len(members) + 0.75, _LEAST_HEIGHT), legend=legend)
        ax = figure.add_subplot()
        _draw(ax, values)
        names = [f"{row['trial_id']} {short_name(row['method'])}" for row in members]
        ax.set_yticks(
            range(len(members)), [f"{name} !" if doubt else name for name, doubt in zip(names, doubts, strict=True)]
        )
        ax.tick_params(axis="y", labelsize=5.5, length=0)
        ax.set_ylim(len(members) - 0.5, -0.5)
        ax.set_xlabel(lines(f"accuracy (val)\n{attack_phrase(table)}", 60))
        first = " or ".join(map(str, sorted(set(filter(None, attacked)))))
        carried = f"; strong attacks on the first {first} images, carried over to all" if first else ""
        carried += "; !: in doubt" if any(doubts) else ""
        add_small_print(figure, f"{provenance(table)} · thick: from what is proved to what no attack refutes{carried}")
    rows = tuple(
        (
            row["trial_id"],
            row["method"],
            *(float(value) if np.isfinite(value) else None for value in line),
            images,
            doubt,
        )
        for row, line, images, doubt in zip(members, values, attacked, doubts, strict=True)
    )
    return PaperFigure(name="certified_bracket", figure=figure, headings=HEADINGS, rows=rows)


def _members(table: Table) -> list[dict[str, Any]]:
    proved = front_of(table, objectives=("val_clean_accuracy", "val_certified_accuracy")).to_pylist()
    certified = [row for row in proved if row["val_certified_accuracy"]]
    # a row of another program may have a certified accuracy alone
    attacked = [row for row in (*front_of(table).to_pylist(), *certified) if row["val_robust_accuracy"] is not None]
    members = {row["trial_id"]: row for row in attacked}
    return sorted(members.values(), key=lambda row: row["val_clean_accuracy"], reverse=True)


def _values(row: Mapping[str, Any], strong: StrongResult | None) -> list[float]:
    """Return a member's `COLUMNS`, NaN where unknown; what strong attacks take on their images is taken from all."""
    certified, robust = certified_of(row, strong), float(row["val_robust_accuracy"])
    if certified is None:
        certified = 0.0 if row.get("certify") else np.nan
    # what is proved of all images outweighs what is carried over from some
    left = np.nan if strong is None else max(0.0, float(np.fmax(certified, robust - strong.fall)))
    return [certified, left, robust, float(row["val_clean_accuracy"])]


def _draw(ax: Axes, values: np.ndarray) -> None:
    ax.grid(visible=True, axis="x")
    for place, line in enumerate(values):
        certified, strong, robust, clean = line
        ax.plot([np.nanmin(line), clean], [place, place], color="0.75", linewidth=0.6, zorder=1)
        if np.isfinite(certified):
            upper = robust if np.isnan(strong) else strong
            ax.plot([certified, upper], [place, place], color="0.6", linewidth=2.5, zorder=2, gid="bracket")
    for place, name in enumerate(COLUMNS):
        look = {"linestyle": "none", "markeredgewidth": 0.7, **_LOOKS[name]}
        above = 4 if name == "strong" else 3  # where attacks take nothing both are at one place
        ax.plot(values[:, place], range(len(values)), marker=_MARKERS[name], gid=name, zorder=above, **look)
