"""The separation figure for papers: distances between classes, and what the separated-data classifier certifies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.data.files import unlinked
from analysis.data.results import Table
from analysis.plots.figure import COLUMN_WIDTH, lines, write_files
from analysis.statistics.association import measure
from analysis.tables.text_table import csv_text
from analysis.wording import NORMS, radius

_COLOURS = {"train-train": "#0072B2", "test-train": "#D55E00", "test-test": "#009E73"}
_BINS = 60


def histogram(table: Table, /) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return bin edges from 0 to the largest distance, and for each kind of pairs the examples in each bin.

    linf distances are whole levels: their bins hold equally many levels each, edges between two levels.

    Args:
        table: Rows of the separation schema; those without a distance are left out.

    Returns:
        Edges (b + 1,) in pixel range and counts (b,) by kind, for the kinds the table has.
    """
    kinds = np.array(table["pairs"].to_pylist(), dtype=str)
    values = measure(table, "distance")
    largest = max(values[~np.isnan(values)], default=0.0)
    if set(table["norm"].to_pylist()) == {"linf"}:
        scale = table["scale"][0].as_py()
        levels = round(largest * scale) + 1
        width = -(-levels // _BINS)
        edges = (np.arange(-(-levels // width) + 1) * width - 0.5) / scale
    else:
        edges = np.linspace(0.0, np.nextafter(largest or 1.0, np.inf), _BINS + 1)
    known = ~np.isnan(values)
    return edges, {kind: np.histogram(values[known & (kinds == kind)], edges)[0] for kind in _COLOURS if kind in kinds}


def certified_accuracy(table: Table, /) -> tuple[np.ndarray, np.ndarray]:
    """Return radii, 0 first, and the share of test examples certified at each: right at every point that far away.

    Between two radii the share is that of the larger one. Without test rows both are empty.
    """
    certified = np.sort(measure(table, "certified_radius"))
    certified = certified[~np.isnan(certified)]
    if not certified.size:
        return certified, certified
    at = np.unique(np.append(certified[np.isfinite(certified)], 0.0))
    return at, 1 - np.searchsorted(certified, at, side="right") / certified.size


def draw_distances(table: Table, /, ax: Axes, *, epsilon: float) -> Axes:
    """Draw how many examples have their nearest example of another label how far away; mark 2 epsilon and 2r.

    Returns:
        `ax`.
    """
    edges, counts = histogram(table)
    for kind, heights in counts.items():
        ax.stairs(heights, edges, color=_COLOURS[kind], linewidth=0.9, label=f"{kind} (n = {heights.sum():,})")
    ax.set_yscale("symlog", linthresh=1)
    ax.set_ylim(0, None)
    ax.set_xlim(0, None)
    ax.axvline(2 * epsilon, color="black", linewidth=0.9, linestyle="--", label=f"2ε, ε = {radius(epsilon)}")
    values = measure(table, "distance")
    if not np.isnan(values).all():
        least = float(np.nanmin(values))
        ax.axvline(least, color="0.5", linewidth=0.9, linestyle=":", label=f"2r = {least:.4g}")
    ax.set_xlabel(f"{_norm(table)} distance to the nearest example of another label")
    ax.set_ylabel("examples")
    return ax


def draw_certified(table: Table, /, ax: Axes, *, epsilon: float) -> Axes:
    """Draw the accuracy that is certain for the separated-data classifier against the radius; mark epsilon.

    Returns:
        `ax`.
    """
    at, accuracy = certified_accuracy(table)
    if at.size:
        ax.step([*at, at[-1] * 1.05], [*accuracy, accuracy[-1]], where="post", color="0.15", linewidth=0.9)
    ax.axvline(epsilon, color="black", linewidth=0.9, linestyle="--", label=f"ε = {radius(epsilon)}")
    ax.set_ylim(0, 1.03)
    ax.set_xlim(0, None)
    ax.set_xlabel(f"radius ε ({_norm(table)})")
    ax.set_ylabel("certified test accuracy")
    ax.legend(frameon=False, loc="best")
    return ax


def separation_figure(table: Table, /, *, epsilon: float, width: float = COLUMN_WIDTH) -> Figure:
    """Return the figure of separation rows, so many inches wide; draw and save it inside `paper_style`."""
    figure = Figure(figsize=(width, 0.5 * width + 0.75 * COLUMN_WIDTH), layout="constrained")
    above, below = figure.subplots(2, 1)
    draw_distances(table, above, epsilon=epsilon)
    draw_certified(table, below, epsilon=epsilon)
    figure.legend(*above.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    names = ", ".join(sorted(set(table["dataset"].to_pylist())))
    figure.supxlabel(f"data set {names.replace('$', chr(92) + '$')} · distances are exact", fontsize=5, color="0.35")
    return figure


def write_separation(
    table: Table,
    out_dir: str | Path,
    /,
    *,
    epsilon: float,
    formats: Sequence[str] = ("png", "pdf"),
    width: float = COLUMN_WIDTH,
) -> list[Path]:
    """Write `separation.<format>`, and the data beside it as `separation.csv` and `certified_accuracy.csv`.

    Args:
        table: Rows of the separation schema, of one data set and norm.
        out_dir: Made if missing.
        epsilon: Radius of the threat model, in pixel range.
        formats: Some of png (300 dpi), pdf and svg.
        width: Inches.

    Returns:
        The files written. The same table gives the same bytes, no file holds a time.

    Raises:
        ValueError: Unknown format.
    """
    edges, counts = histogram(table)
    bins = [
        (kind, float(low), float(high), int(count))
        for kind, heights in counts.items()
        for low, high, count in zip(edges[:-1], edges[1:], heights, strict=True)
    ]
    curve = [(float(at), float(share)) for at, share in zip(*certified_accuracy(table), strict=True)]
    written = write_files(
        Path(out_dir) / "separation",
        formats,
        lambda: separation_figure(table, epsilon=epsilon, width=width),
        data=csv_text(("pairs", "distance_from", "distance_to", "examples"), bins),
    )
    written.append(Path(out_dir) / "certified_accuracy.csv")
    unlinked(written[-1]).write_text(csv_text(("epsilon", "certified_test_accuracy"), curve), encoding="utf-8")
    return written


def _norm(table: Table) -> str:
    return lines(" | ".join(NORMS.get(norm, norm) for norm in sorted(set(table["norm"].to_pylist()))), 60)
