"""Accuracies and Lipschitzness over one hyperparameter: a figure for each one that varies."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from analysis.association import measure
from analysis.objectives import LIPSCHITZ_FLOOR
from analysis.plots.sheet import Sheet, add_small_print, blank, lines, log_axis, say_nothing_is_there
from analysis.plots.style import COLUMN_WIDTH, paper_style
from analysis.plots.trials import HEADINGS, Trials, handles_of, scatter
from analysis.reach import Reach
from analysis.settings import Setting
from analysis.wording import attack_phrase, measured_by, radius, radius_phrase

OUTCOMES = {
    "val_clean_accuracy": "clean accuracy\n(val)",
    "val_robust_accuracy": "robust accuracy (val)\n{attack}",
    "val_lipschitz_scale_free_mean": "scale-free Lipschitz\n(lower bound, val)\n{radius}",
}
"""What is drawn over a setting, and what its axis says."""


def draw_slice(trials: Trials, /, ax: Axes, *, setting: Setting, outcome: str) -> Axes:
    """Draw one outcome over one setting.

    Returns:
        `ax`.
    """
    y = measure(trials.table, outcome)
    if "lipschitz" in outcome:
        y = np.maximum(y, LIPSCHITZ_FLOOR)
        ax.set_yscale("log")
    if setting.log:
        ax.set_xscale("log")
    scatter(ax, setting.values, y, trials)
    if not (np.isfinite(setting.values) & np.isfinite(y)).any():
        say_nothing_is_there(ax, "not measured")
    ax.grid(visible=True, linewidth=0.3, color="0.9")
    ax.set_axisbelow(True)
    return ax


def slice_sheet(
    trials: Trials, setting: Setting, /, *, reach: Reach | None = None, width: float = COLUMN_WIDTH
) -> Sheet:
    """Return the figure of one setting, `slice_<name>`: a panel for each outcome.

    Over the training radius the study's own radius is marked, and the theorem's reach where it ends within the axis.
    """
    with paper_style():
        figure = blank(width, 1.1 * len(OUTCOMES) + 0.6, legend=handles_of(trials))
        axes = figure.subplots(len(OUTCOMES), 1, sharex=True)
        phrases = {"attack": attack_phrase(trials.table), "radius": radius_phrase(trials.table)}
        for ax, (outcome, label) in zip(axes, OUTCOMES.items(), strict=True):
            draw_slice(trials, ax, setting=setting, outcome=outcome)
            ax.set_ylabel(lines(label.format(**phrases), 25), fontsize=6)
            ax.tick_params(labelsize=6)
            if "lipschitz" in outcome:
                log_axis(ax.yaxis)
        if setting.log:
            log_axis(axes[-1].xaxis)
        if setting.name == "train_epsilon":
            _mark_radii(list(axes), sorted(set(trials.table["eval_epsilon"].to_pylist())), setting, reach)
        without = int((~np.isfinite(setting.values)).sum())
        more = f" · {without} without this setting are not drawn" if without else ""
        axes[-1].set_xlabel(lines(setting.label, 64 if width == COLUMN_WIDTH else 130))
        add_small_print(figure, f"{trials.small_print}{more} · {measured_by(trials.table)}")
    columns = {setting.name: setting.values, **{name: measure(trials.table, name) for name in OUTCOMES}}
    rows = tuple(row for row in trials.rows(columns) if row[len(HEADINGS)] is not None)
    return Sheet(name=f"slice_{setting.name}", figure=figure, headings=(*HEADINGS, *columns), rows=rows)


def _mark_radii(axes: list[Axes], measured: list[float], setting: Setting, reach: Reach | None) -> None:
    top = float(np.nanmax(setting.values))
    for ax in axes:
        for value in measured:
            ax.axvline(value, color="0.35", linewidth=0.7, linestyle="--", zorder=1)
        if reach is not None and reach.radius < top:
            ax.axvline(reach.radius, color="0.35", linewidth=0.7, linestyle=":", zorder=1)
    above = axes[0].get_xaxis_transform()
    for value in measured:
        axes[0].text(value, 1.01, f"attack, ε = {radius(value)}", fontsize=5.5, ha="center", transform=above)
    if reach is not None and reach.radius < top:
        axes[0].text(reach.radius, 1.01, f"r = {reach.radius:.4g}", fontsize=5.5, ha="center", transform=above)
