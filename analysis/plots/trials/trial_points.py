"""Trials as points: who they are, which count, which were drawn at random, and one way to draw them in any figure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.data.results import Table
from analysis.fronts.front import feasible, on_front
from analysis.method_styles import MethodStyle, styles_for
from analysis.plots.trials.front_view import why_hollow
from analysis.statistics.association import INDEPENDENT
from analysis.tables.text_table import Cell
from analysis.wording import provenance

HEADINGS = ("study", "trial_id", "method", "proposal", "on_front", "hollow")
"""What each row of a figure's data begins with."""

_RINGS = "rings"


@dataclass(frozen=True, kw_only=True)
class Trials:
    """Result rows as the figures of single trials take them; all arrays have shape (n,).

    Args:
        table: The rows.
        methods: Their methods.
        front: Members of the front.
        sound: Those that may be on a front; the others are hollow.
        independent: Those whose proposals did not depend on results.
        styles: A style for each method present.
        hollow: Why some are not, "flagged or stopped".
        small_print: Study, data set, counts.
    """

    table: Table
    methods: np.ndarray
    front: np.ndarray
    sound: np.ndarray
    independent: np.ndarray
    styles: Mapping[str, MethodStyle]
    hollow: str
    small_print: str

    def rows(self, columns: Mapping[str, np.ndarray], /) -> tuple[tuple[Cell, ...], ...]:
        """Return a row for each trial that has any of the columns: who it is, then the columns, None where unknown."""
        named = zip(
            self.table["study"].to_pylist(),
            self.table["trial_id"].to_pylist(),
            self.methods,
            self.table["proposal"].to_pylist(),
            self.front.tolist(),
            (~self.sound).tolist(),
            strict=True,
        )
        measured = np.stack(list(columns.values()), axis=1)
        return tuple(
            (*names, *(None if np.isnan(value) else float(value) for value in row))
            for names, row in zip(named, measured, strict=True)
            if not np.isnan(row).all()
        )


def trials_of(table: Table, /, *, allow_mixed: bool = False) -> Trials:
    """Work out what the figures of single trials need.

    Raises:
        MixedStudiesError: The rows differ in what they measure, and `allow_mixed` is not set.
    """
    methods, sound = table["method"].to_pylist(), feasible(table)
    statuses = np.asarray(table["status"].to_pylist(), dtype=object)
    return Trials(
        table=table,
        methods=np.asarray(methods, dtype=object),
        front=on_front(table, allow_mixed=allow_mixed),
        sound=sound,
        independent=np.asarray([kind in INDEPENDENT for kind in table["proposal"].to_pylist()], dtype=bool),
        styles=styles_for(methods),
        hollow=why_hollow(table, ~sound & (statuses != "failed")) or "failed",
        small_print=provenance(table),
    )


def scatter(ax: Axes, x: np.ndarray, y: np.ndarray, trials: Trials, /) -> Axes:
    """Draw the trials whose x and y are finite, each once, and a ring around each front member.

    Shape and colour say the method. Proposals that did not depend on results are full, the sampler's own pale, those
    that may not be on a front hollow.

    Returns:
        `ax`.
    """
    drawn = np.isfinite(x) & np.isfinite(y)
    for method, style in trials.styles.items():
        mine = drawn & (trials.methods == method)
        size = 12 * min(1.0, (150 / max(int(mine.sum()), 1)) ** 0.25)
        looks: tuple[tuple[np.ndarray, dict[str, Any]], ...] = (
            (mine & ~trials.sound, {"facecolors": "none", "edgecolors": "0.45", "linewidths": 0.5, "zorder": 2}),
            (mine & trials.sound & ~trials.independent, {"color": style.pale, "linewidths": 0, "zorder": 2.2}),
            (mine & trials.sound & trials.independent, {"color": style.colour, "linewidths": 0, "zorder": 2.4}),
        )
        for chosen, look in looks:
            if chosen.any():
                ax.scatter(x[chosen], y[chosen], s=size, marker=style.marker, **look)
    ringed = drawn & trials.front
    if ringed.any():
        ring: dict[str, Any] = {"facecolors": "none", "edgecolors": "black", "linewidths": 0.7, "zorder": 3}
        ax.scatter(x[ringed], y[ringed], s=34, marker="o", gid=_RINGS, **ring)
    return ax


def handles_of(trials: Trials, /) -> list[Line2D]:
    """Return legend entries: the methods with their trials, and what rings, paleness and hollowness mean."""
    counts = Counter(trials.methods.tolist())
    handles = [
        _sample(style.marker, f"{style.label} ({counts[method]})", color=style.colour)
        for method, style in trials.styles.items()
    ]
    if trials.front.any():
        handles.append(_sample("o", "front", size=6, markerfacecolor="none", markeredgecolor="black"))
    if (trials.sound & ~trials.independent).any() and trials.independent.any():
        handles.append(_sample("o", "pale: sampler's own", color="0.75"))
    if not trials.sound.all():
        handles.append(_sample("o", f"hollow: {trials.hollow}", markerfacecolor="none", markeredgecolor="0.45"))
    return handles


def _sample(marker: str, label: str, *, size: float = 4, **look: Any) -> Line2D:
    return Line2D([], [], linestyle="none", marker=marker, markersize=size, markeredgewidth=0.6, label=label, **look)
