"""Robust accuracy under the search's attack against that under strong attacks, trial by trial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.data.results import Table
from analysis.fronts.strong_attacks import FALL, StrongResult
from analysis.heldout.measurements import alike, attack_name, like_for_like, strongest
from analysis.heldout.members import HeldoutResults
from analysis.method_styles import styles_for
from analysis.plots.figure import COLUMN_WIDTH, PaperFigure, add_small_print, blank, lines, paper_style, sample
from analysis.statistics.intervals import wilson_interval
from analysis.wording import measured_by, provenance

HEADINGS = ("trial_id", "method", "split", "examples", "strong_attacks", "searched", "strong")

Point = tuple[str, str, str, int, str, float, float]


def strong_points(strong: Mapping[str, StrongResult], table: Table, on_test: HeldoutResults | None, /) -> list[Point]:
    """Return a row of `HEADINGS` for each trial and split on which both were measured, on the same images.

    Args:
        strong: Trials under strong attacks on validation, by id.
        table: Result rows.
        on_test: What is known on test.
    """
    methods = dict(zip(table["trial_id"].to_pylist(), table["method"].to_pylist(), strict=True))
    points: list[Point] = [
        (trial, methods[trial], "val", one.images, ", ".join(one.attacks), one.searched, one.robust)
        for trial, one in strong.items()
        if trial in methods
    ]
    return points + ([] if on_test is None else _on_test(on_test))


def _on_test(results: HeldoutResults) -> list[Point]:
    points: list[Point] = []
    for member in results.members:
        row = member.result
        searched, hardest = (choose(row, results.evaluations) for choose in (like_for_like, strongest))
        if searched is None or hardest is None or hardest in alike(row, results.evaluations):
            continue
        same: float | None = searched["robust_accuracy"]
        if searched["examples"] != hardest["examples"]:
            same = results.same_images.get(row["trial_id"])
        if same is not None:
            name, images = attack_name(hardest), hardest["examples"]
            points.append(
                (row["trial_id"], row["method"], "test", images, name, float(same), float(hardest["robust_accuracy"]))
            )
    return points


def strong_sheet(
    strong: Mapping[str, StrongResult],
    table: Table,
    /,
    *,
    on_test: HeldoutResults | None = None,
    width: float = COLUMN_WIDTH,
) -> PaperFigure | None:
    """Return the figure, with 95 % intervals of the images; None where no trial was attacked strongly.

    On the diagonal the search's attack was as strong; a trial below the dotted line is doubtful. On validation the
    strong value is what neither the search's attack nor any strong one fools, on test what the strongest attack leaves.

    Args:
        strong: Trials under strong attacks on validation, by id.
        table: Result rows.
        on_test: What is known on test; its points are hollow.
        width: Inches.
    """
    points = strong_points(strong, table, on_test)
    if not points:
        return None
    with paper_style():
        figure = blank(width, 0.75 * width + 0.45, legend=_legend(points))
        ax = figure.add_subplot()
        _draw(ax, points)
        ax.set_xlabel(lines(f"robust accuracy under the search's attack\n{measured_by(table)}", 60), fontsize=6.5)
        ax.set_ylabel(lines(f"robust accuracy under strong attacks\n{_attacks(points)}", 46), fontsize=6.5)
        images = " and ".join(
            f"{_each(points, split)} {split} images" for split in dict.fromkeys(point[2] for point in points)
        )
        alone = " · test: the strongest attack alone" if any(point[2] == "test" for point in points) else ""
        add_small_print(figure, f"{provenance(table)} · both on the same {images}{alone}")
    return PaperFigure(name="search_against_strong", figure=figure, headings=HEADINGS, rows=tuple(points))


def _attacks(points: list[Point]) -> str:
    by_split = {split: dict.fromkeys(point[4] for point in points if point[2] == split) for split in ("val", "test")}
    named = [f"{split}: {', '.join(attacks)}" for split, attacks in by_split.items() if attacks]
    return "; ".join(named)


def _each(points: list[Point], split: str) -> str:
    return " or ".join(map(str, sorted({point[3] for point in points if point[2] == split})))


def _draw(ax: Axes, points: list[Point]) -> None:
    ax.grid(visible=True)
    styles = styles_for(point[1] for point in points)
    for _, method, split, images, _, searched, robust in points:
        style, full = styles[method], split == "val"
        across, up = (_interval(share, images) for share in (searched, robust))
        bar: dict[str, Any] = {"color": style.pale, "linewidth": 0.6, "zorder": 2}
        ax.plot(across, [robust, robust], **bar)
        ax.plot([searched, searched], up, **bar)
        face = style.colour if full else "white"
        look: dict[str, Any] = {
            "facecolors": face,
            "edgecolors": style.colour,
            "linewidths": 0.8,
            "zorder": 3 if full else 4,
        }
        ax.scatter([searched], [robust], s=16, marker=style.marker, gid="trial", **look)
    ends = np.array([_interval(share, point[3]) for point in points for share in point[5:]])
    margin = 0.04 * float(np.ptp(ends))
    low, high = max(float(ends.min()) - margin, -0.03), min(float(ends.max()) + margin, 1.03)
    ax.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    ax.plot([low, high], [low, high], color="0.4", linewidth=0.8, zorder=1, gid="diagonal")
    ax.plot([low, high], [low - FALL, high - FALL], color="0.4", linewidth=0.6, linestyle=":", zorder=1)


def _interval(share: float, images: int) -> np.ndarray:
    return np.stack(wilson_interval(round(share * images), images))


def _legend(points: list[Point]) -> list[Line2D]:
    styles = styles_for(point[1] for point in points)
    handles = [sample(style.marker, style.label, color=style.colour) for style in styles.values()]
    if {point[2] for point in points} == {"val", "test"}:
        handles.append(sample("o", "hollow: test", markerfacecolor="none", markeredgecolor="0.45"))
    line: dict[str, Any] = {"color": "0.4", "linewidth": 0.8}
    return [
        *handles,
        Line2D([], [], label="equally strong", **line),
        Line2D([], [], label=f"falls by {FALL:g}", **line | {"linestyle": ":"}),
    ]
