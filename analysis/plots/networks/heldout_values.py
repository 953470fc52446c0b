"""Chosen members at their test values, each joined to where validation saw it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.heldout.confirmation import KINDS, ConfirmedMember
from analysis.heldout.measurements import settings_phrase
from analysis.heldout.members import HeldoutResults
from analysis.method_styles import styles_for
from analysis.plots.figure import COLUMN_WIDTH, add_small_print, blank, lines, sample, write_files
from analysis.plots.screen import offline_page
from analysis.statistics.intervals import accuracy_of
from analysis.tables.text_table import csv_text

FORMATS = ("png", "pdf", "svg", "html")


def _draw(members: Sequence[ConfirmedMember], ax: Axes) -> None:
    """Draw members measured on test: hollow where validation saw them, filled with intervals on test.

    Each is named by its trial. New seeds are a cross of one standard deviation each way around their mean, in their
    member's colour, with a dotted line to it.
    """
    styles = styles_for(one.result["method"] for one in members)
    tested = {one.result["trial_id"]: one.test["robust_accuracy"] for one in members if one.test is not None}
    sides = _sides(tested)
    seeds = _sides({one.result["trial_id"]: one.spread["robust"].mean for one in members if one.spread})
    for one in members:
        if one.test is None:
            continue
        style, test = styles[one.result["method"]], one.test
        val = [one.result[f"val_{kind}_accuracy"] for kind in KINDS]
        there = [accuracy_of(test, kind) for kind in KINDS]
        ax.annotate(
            "",
            xy=(there[0].value, there[1].value),
            xytext=(val[0], val[1]),
            arrowprops={"arrowstyle": "->", "linewidth": 0.6, "color": "0.5", "shrinkA": 2, "shrinkB": 2},
        )
        ax.plot(
            *val, marker=style.marker, markersize=4, markerfacecolor="white", markeredgecolor=style.colour, zorder=3
        )
        errors = [[[at.value - at.low], [at.high - at.value]] for at in there]
        ax.errorbar(
            there[0].value, there[1].value, xerr=errors[0], yerr=errors[1], marker=style.marker, markersize=5,
            color=style.colour, elinewidth=0.5, zorder=4,
        )  # fmt: skip
        name = one.result["trial_id"]
        ax.annotate(name, (there[0].value, there[1].value), **_aside(*sides[name]))
        if one.spread:
            clean, robust = (one.spread[kind] for kind in KINDS)
            ax.errorbar(
                clean.mean, robust.mean, xerr=clean.sd or 0.0, yerr=robust.sd or 0.0, color=style.colour,
                elinewidth=1.2, marker="", alpha=0.6, zorder=2,
            )  # fmt: skip
            ax.plot([clean.mean, there[0].value], [robust.mean, there[1].value], ":", color=style.colour, linewidth=0.8)
            ax.annotate(name, (clean.mean, robust.mean), color=style.colour, **_aside(*seeds[name]))
    ax.set_xlabel("clean accuracy (test; hollow: val)")
    ax.set_ylabel(lines(_robust_label(members), 60))
    ax.grid(visible=True)


def _sides(heights: Mapping[str, float]) -> dict[str, tuple[int, int]]:
    """Return on which side of its marker each trial's name is drawn, so that neighbours take different ones.

    Args:
        heights: The trials' robust accuracies.

    Returns:
        -1 or 1 across and up: the lowest below, the next above to the left, and so on.
    """
    ways = ((1, -1), (-1, 1), (1, 1), (-1, -1))
    ranked = sorted(heights, key=lambda trial: (heights[trial], trial))
    return {trial: ways[rank % len(ways)] for rank, trial in enumerate(ranked)}


def _aside(across: int, up: int) -> dict[str, Any]:
    """Return how a name is set beside a marker."""
    aligned = {"ha": "left" if across > 0 else "right", "va": "bottom" if up > 0 else "top"}
    return {"xytext": (3 * across, 3 * up), "textcoords": "offset points", "fontsize": 5, **aligned}


def write_on_test(on_test: HeldoutResults, out_dir: str | Path, /, *, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write `pareto_test.<format>` for each format, and the data beside it as `pareto_test.csv`.

    Args:
        on_test: What is known on test.
        out_dir: Made if missing.
        formats: Some of png (300 dpi), pdf, svg and html.

    Returns:
        The files written.
    """
    return write_files(
        Path(out_dir) / "pareto_test",
        formats,
        lambda: _figure(on_test),
        data=_csv(on_test),
        page=lambda: offline_page(_interactive(on_test), title=f"On test: {_study(on_test)}"),
    )


def _interactive(on_test: HeldoutResults) -> go.Figure:
    """Return the figure for the screen: hover tells a member's values; hollow on validation, filled on test."""
    figure = go.Figure()
    members = [(one, one.test) for one in on_test.members if one.test is not None]
    for method, style in styles_for(one.result["method"] for one, _ in members).items():
        of_method = [(one, test) for one, test in members if one.result["method"] == method]
        val = [[one.result[f"val_{kind}_accuracy"] for one, _ in of_method] for kind in KINDS]
        there = [[accuracy_of(test, kind) for _, test in of_method] for kind in KINDS]
        names = [f"trial {one.result['trial_id']} ({method})" for one, _ in of_method]
        look = {"symbol": style.symbol, "size": 10, "color": style.colour, "line": {"width": 1.5}}
        figure.add_scatter(
            x=val[0], y=val[1], mode="markers", marker=look | {"symbol": f"{style.symbol}-open"}, text=names,
            hovertemplate="%{text}<br>val: clean %{x:.4f}, robust %{y:.4f}<extra></extra>", showlegend=False,
            legendgroup=method,
        )  # fmt: skip
        errors = [
            {"array": [at.high - at.value for at in axis], "arrayminus": [at.value - at.low for at in axis], "width": 0}
            for axis in there
        ]
        figure.add_scatter(
            x=[at.value for at in there[0]], y=[at.value for at in there[1]], mode="markers", marker=look, text=names,
            error_x=errors[0], error_y=errors[1], name=style.label, legendgroup=method,
            hovertemplate="%{text}<br>test: clean %{x:.4f}, robust %{y:.4f}<extra></extra>",
        )  # fmt: skip
        for x, y, to_x, to_y in zip(*val, *there, strict=True):
            figure.add_scatter(
                x=[x, to_x.value], y=[y, to_y.value], mode="lines", line={"color": "grey", "width": 1},
                hoverinfo="skip", showlegend=False, legendgroup=method,
            )  # fmt: skip
        for one, point in zip((one for one, _ in of_method), zip(*there, strict=True), strict=True):
            if one.spread:
                _add_seeds(figure, one, at=(point[0].value, point[1].value), colour=style.colour)
    figure.update_xaxes(title="clean accuracy (test; hollow: val)")
    figure.update_yaxes(title=_robust_label(on_test.members).replace("\n", "<br>"))
    small = f"{_small_print(on_test)}<br>{_effort(on_test)}"
    figure.update_layout(template="plotly_white", title=f"On test: {_study(on_test)}<br><sub>{small}</sub>")
    return figure


def _add_seeds(figure: go.Figure, one: ConfirmedMember, *, at: tuple[float, float], colour: str) -> None:
    """Add a member's new seeds as a cross of one standard deviation each way, dotted to the member."""
    clean, robust = (one.spread[kind] for kind in KINDS)
    name = one.result["trial_id"]
    group: dict[str, Any] = {"legendgroup": one.result["method"], "showlegend": False}
    figure.add_scatter(
        x=[clean.mean, at[0]], y=[robust.mean, at[1]], mode="lines", hoverinfo="skip",
        line={"color": colour, "width": 1, "dash": "dot"}, **group,
    )  # fmt: skip
    figure.add_scatter(
        x=[clean.mean], y=[robust.mean], mode="markers", text=[f"trial {name}, {clean.seeds} new seeds, mean ± sd"],
        marker={"symbol": "cross-thin", "size": 10, "color": colour, "line": {"width": 1.5, "color": colour}},
        error_x={"array": [clean.sd or 0.0]}, error_y={"array": [robust.sd or 0.0]},
        hovertemplate="%{text}<br>test: clean %{x:.4f}, robust %{y:.4f}<extra></extra>", **group,
    )  # fmt: skip


def _robust_label(members: Sequence[ConfirmedMember]) -> str:
    """Return the label of the robust axis with attack, norm and radius."""
    tests = [one.test for one in members if one.test is not None]
    phrases = dict.fromkeys(settings_phrase(test).rpartition(", ")[0] for test in tests)
    return "\n".join(["robust accuracy (test; hollow: val)", " | ".join(phrases)]).strip()


def _small_print(on_test: HeldoutResults) -> str:
    sets = ", ".join(dict.fromkeys(str(one.result["dataset"]) for one in on_test.members))
    measured = sum(one.test is not None for one in on_test.members)
    plural = "s" * (measured != 1)
    count = f"n = {measured} trial{plural} on test, {len(on_test.chosen)} chosen on validation"
    return f"study {_study(on_test)} · {sets} · {count}"


def _figure(on_test: HeldoutResults) -> Figure:
    handles = [
        sample(style.marker, style.label, color=style.colour)
        for style in styles_for(one.result["method"] for one in on_test.members).values()
    ]
    if any(one.spread for one in on_test.members):
        handles.append(sample("+", "new seeds, mean ± sd", color="0.35", markersize=6))
    figure = blank(COLUMN_WIDTH, 1.05 * COLUMN_WIDTH, legend=handles)
    _draw(on_test.members, figure.add_subplot())
    add_small_print(figure, f"{_small_print(on_test)} · {_effort(on_test)} · 95 % intervals of the examples")
    return figure


def _effort(on_test: HeldoutResults) -> str:
    """Return how the members were measured as on validation, in words."""
    tests = [one.test for one in on_test.members if one.test is not None]
    return " | ".join(dict.fromkeys(map(settings_phrase, tests))) or "nothing was measured as on validation"


def _study(on_test: HeldoutResults) -> str:
    return ", ".join(dict.fromkeys(str(one.result["study"]) for one in on_test.members))


def _csv(on_test: HeldoutResults) -> str:
    headings = ["trial_id", "method", "chosen", "examples"]
    columns = ("val", "test", "low", "high", "seeds", "seeds_mean", "seeds_sd", "sd_of_examples")
    headings += [f"{kind}_{name}" for kind in KINDS for name in columns]
    rows = []
    for one in on_test.members:
        row = one.result
        cells = [row["trial_id"], row["method"], "front" if row["trial_id"] in on_test.chosen else "by name"]
        cells.append(None if one.test is None else one.test["examples"])
        for kind in KINDS:
            spread = one.spread.get(kind)
            at = None if one.test is None else accuracy_of(one.test, kind)
            cells.append(row[f"val_{kind}_accuracy"])
            cells += [None] * 3 if at is None else [at.value, at.low, at.high]
            cells += [None] * 4 if spread is None else [spread.seeds, spread.mean, spread.sd, spread.sd_of_examples]
        rows.append(cells)
    return csv_text(headings, rows)
