"""Each method's own front in robust accuracy and local Lipschitzness, small panels beside each other."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.fronts.front import non_dominated
from analysis.fronts.objectives import LIPSCHITZ_FLOOR
from analysis.method_styles import MethodStyle
from analysis.plots.figure import (
    COLUMN_WIDTH,
    PaperFigure,
    add_small_print,
    blank,
    lines,
    log_axis,
    paper_style,
    sample,
    say_nothing_is_there,
)
from analysis.plots.screen import GREY, HOVER, empty_chart, numbers, say, set_text
from analysis.plots.trials.front_view import pareto_view
from analysis.plots.trials.trial_points import HEADINGS, MOST_POINTS, Trials, log_ticks, thinned
from analysis.statistics.association import measure
from analysis.wording import attack_phrase, radius_phrase

X, Y = "val_robust_accuracy", "val_lipschitz_mean"

_ALL = "0.75"


def smooth_front(x: np.ndarray, y: np.ndarray, /) -> np.ndarray:
    """Mark the points that no other one beats in both, more x and less y, shape (n,); never those with NaN."""
    front = np.zeros(len(x), dtype=bool)
    known = np.isfinite(x) & np.isfinite(y)
    if known.any():
        front[known] = non_dominated(np.stack([x[known], y[known]], axis=1), maximise=[True, False])
    return front


def _staircase(x: np.ndarray, y: np.ndarray, left: float, top: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners that bound what points with x to gain and y to lose attain, from `left` up to `top`."""
    order = np.lexsort((y, x))
    x, y = x[order], y[order]
    return np.concatenate([[left], np.repeat(x, 2)]), np.concatenate([np.repeat(y, 2), [top]])


class _Panels:
    """What the panels share: coordinates, which trials count, the ends of the axes."""

    def __init__(self, trials: Trials) -> None:
        view = pareto_view(trials.table)
        self.trials = trials
        self.x, self.y = measure(trials.table, X), np.maximum(measure(trials.table, Y), LIPSCHITZ_FLOOR)
        self.drawn = view.inside & np.isfinite(self.x) & np.isfinite(self.y)
        self.beyond = int((np.isfinite(self.x) & np.isfinite(self.y) & ~self.drawn).sum())
        shown = self.y[self.drawn] if self.drawn.any() else np.array([1.0])
        self.low, self.high = float(shown.min()) / 1.25, float(shown.max()) * 1.25
        self.left, self.right = view.limits(1)

    def front(self, of_method: np.ndarray) -> np.ndarray:
        counted = of_method & self.drawn & self.trials.sound
        return smooth_front(np.where(counted, self.x, np.nan), np.where(counted, self.y, np.nan))

    def line(self, of_method: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        members = self.front(of_method)
        if not members.any():
            return np.empty(0), np.empty(0)
        return _staircase(self.x[members], self.y[members], self.left, self.high)

    @property
    def small_print(self) -> str:
        more = f" · {self.beyond} far behind the clean-robust front not drawn" if self.beyond else ""
        return f"{self.trials.small_print}{more}"

    @property
    def labels(self) -> tuple[str, str]:
        table = self.trials.table
        attack = attack_phrase(table).replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")
        return (
            f"robust accuracy (val)\n{attack}",
            f"local Lipschitz\n(lower bound, val mean, {radius_phrase(table)})",
        )


def robust_lipschitz_sheet(trials: Trials, /, *, width: float = COLUMN_WIDTH) -> PaperFigure:
    """Return the figure: a panel for each method, with the front of all methods in grey for comparison.

    A front's members have no trial of the method at once more robust and smoother. Ringed trials are on the front of
    clean and robust accuracy; trials far behind that one are left out, as in the figure of that front.
    """
    panels, methods = _Panels(trials), list(trials.styles.items())
    columns = min(max(len(methods), 1), 2 if width < 1.5 * COLUMN_WIDTH else 3)
    rows = -(-max(len(methods), 1) // columns)
    with paper_style():
        figure = blank(width, 1.25 * rows + 0.75, legend=_legend(trials))
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for ax in grid.flat[len(methods) :]:
            ax.set_axis_off()
        for ax, (method, style) in zip(grid.flat, methods, strict=False):
            ax.set_yscale("log")
            ax.set(xlim=(panels.left, panels.right), ylim=(panels.low, panels.high))
            _draw(ax, panels, trials.methods == method, style)
            ax.tick_params(labelsize=6, labelbottom=True)
            log_axis(ax.yaxis)
        if not methods:
            say_nothing_is_there(grid[0, 0], "no trial")
        across, up = panels.labels
        figure.supylabel(lines(up, 60), fontsize=7)
        add_small_print(figure, panels.small_print)
        for ax in grid.flat[max(len(methods) - columns, 0) : max(len(methods), 1)]:  # the lowest of each column
            ax.set_xlabel(lines(across, int(17 * width / columns)), fontsize=6)
    columns_of = {X: panels.x, Y: measure(trials.table, Y), "on_method_front": _members(panels)}
    return PaperFigure(
        name="robust_lipschitz", figure=figure, headings=(*HEADINGS, *columns_of), rows=trials.rows(columns_of)
    )


def _members(panels: _Panels) -> np.ndarray:
    """Return 1 for members of their method's front, else 0; NaN for trials that are not drawn."""
    fronts = [panels.front(panels.trials.methods == method) for method in panels.trials.styles]
    members = np.any(fronts, axis=0) if fronts else np.zeros(len(panels.x), dtype=bool)
    return np.where(panels.drawn, members.astype(np.float64), np.nan)


def _draw(ax: Axes, panels: _Panels, of_method: np.ndarray, style: MethodStyle) -> None:
    ax.grid(visible=True)
    ax.set_title(style.label, fontsize=6.5, pad=2, color=style.colour)
    every = np.ones(len(of_method), dtype=bool)
    ax.plot(*panels.line(every), color=_ALL, linewidth=2.0, zorder=1)
    ax.plot(*panels.line(of_method), color=style.colour, linewidth=0.9, zorder=3)
    kinds = panels.trials.kinds(of_method & panels.drawn)
    hollow, full = kinds["hollow"], kinds["pale"] | kinds["full"]
    ax.scatter(
        panels.x[hollow], panels.y[hollow], s=12, marker=style.marker, facecolors="none", edgecolors="0.45",
        linewidths=0.5, zorder=2,
    )  # fmt: skip
    ax.scatter(
        panels.x[full], panels.y[full], s=12, marker=style.marker, c=style.colour, edgecolors="white", linewidths=0.25,
        zorder=4,
    )  # fmt: skip
    ringed = panels.trials.front & of_method & panels.drawn
    ax.scatter(
        panels.x[ringed], panels.y[ringed], s=36, marker="o", facecolors="none", edgecolors="black", linewidths=0.7,
        zorder=5, gid="rings",
    )  # fmt: skip


def _legend(trials: Trials) -> list[Line2D]:
    handles = [
        Line2D([], [], color="0.25", linewidth=0.9, label="front of the method"),
        Line2D([], [], color=_ALL, linewidth=2.0, label="of all methods"),
    ]
    if trials.front.any():
        ring = {"markerfacecolor": "none", "markeredgecolor": "black", "markersize": 6}
        handles.append(sample("o", "on the clean-robust front", **ring))
    return handles


def robust_lipschitz_chart(trials: Trials, /) -> go.Figure:
    """Return the same for the screen."""
    panels, methods = _Panels(trials), list(trials.styles.items())
    columns = min(max(len(methods), 1), 3)
    rows = -(-max(len(methods), 1) // columns)
    titles = [style.label for _, style in methods]
    figure = empty_chart(
        230 * rows + 80, rows=rows, columns=columns, titles=titles, shared_xaxes="all", shared_yaxes="all",
        horizontal_spacing=0.04, vertical_spacing=0.16 / rows,
    )  # fmt: skip
    across, up = panels.labels
    figure.update_xaxes(range=[panels.left, panels.right], showticklabels=True)
    figure.update_yaxes(range=np.log10([panels.low, panels.high]).tolist(), **log_ticks(panels.y[panels.drawn]))
    figure.update_yaxes(title_text=set_text(up), col=1)
    figure.update_xaxes(title_text=set_text(across), row=rows)
    if not methods:
        say(figure, "no trial")
    every = np.ones(len(panels.x), dtype=bool)
    for place, (method, style) in enumerate(methods):
        panel = (place // columns + 1, place % columns + 1)
        of_method = trials.methods == method
        for members, line in ((every, {"color": "#bfbfbf", "width": 4}), (of_method, {"color": style.colour})):
            x, y = map(numbers, panels.line(members))
            figure.add_trace(go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip"), *panel)
        _add(figure, panels, of_method, method, style, panel)
    return figure


def _add(
    figure: go.Figure, panels: _Panels, of_method: np.ndarray, method: str, style: MethodStyle, panel: tuple[int, int]
) -> None:
    trials = panels.trials
    kinds = trials.kinds(thinned(trials.front, of_method & panels.drawn, most=MOST_POINTS))
    looks = {
        "hollow": {"symbol": f"{style.symbol}-open", "color": GREY, "size": 7},
        "full": {"symbol": style.symbol, "color": style.colour, "size": 8, "line": {"color": "white", "width": 0.5}},
    }
    kinds["full"] = kinds["full"] | kinds.pop("pale")
    for kind, chosen in kinds.items():
        if chosen.any():
            x, y = numbers(panels.x[chosen]), numbers(panels.y[chosen])
            look = {"customdata": np.flatnonzero(chosen).tolist(), "hovertemplate": HOVER, "marker": looks[kind]}
            figure.add_trace(go.Scatter(x=x, y=y, mode="markers", meta=method, **look), *panel)
    ringed = trials.front & of_method & panels.drawn
    if ringed.any():
        ring = {"symbol": "circle-open", "color": "black", "size": 14, "line": {"width": 1.5}}
        x, y = numbers(panels.x[ringed]), numbers(panels.y[ringed])
        figure.add_trace(go.Scatter(x=x, y=y, mode="markers", meta=method, marker=ring, hoverinfo="skip"), *panel)
