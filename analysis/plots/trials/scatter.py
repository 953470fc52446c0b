"""Robust accuracy and the gaps against measured local Lipschitzness, raw and scale-free."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from analysis.fronts.objectives import LIPSCHITZ_FLOOR
from analysis.plots.figure import (
    COLUMN_WIDTH,
    PaperFigure,
    add_small_print,
    blank,
    lines,
    log_axis,
    paper_style,
    say_nothing_is_there,
)
from analysis.plots.trials.trial_points import HEADINGS, Trials, handles_of, scatter
from analysis.statistics.association import LIPSCHITZ, OUTCOMES, measure, spearman
from analysis.statistics.hyperparameters import Setting
from analysis.statistics.theorem_radius import TheoremRadius
from analysis.wording import attack_phrase, measured_by, radius, radius_phrase

_SPLITS = {
    "val_robust_accuracy": "(val)\n{attack}",
    "clean_minus_robust": "(val)\n{attack}",
    "clean_gap": "(train minus val, clean)",
    "robust_gap": "(train minus val)\n{attack}",
}


_ABOVE = "above: Spearman, 95 %, random proposals"


def draw_against_lipschitz(trials: Trials, /, ax: Axes, *, of: str, outcome: str) -> Axes:
    """Draw one outcome against one Lipschitz estimate on a logarithmic axis, the rank correlation above it.

    Estimates below the floor (a constant network has 0) stand at it. The correlation is of the sound trials whose
    proposals did not depend on results; without enough of them the title says so.

    Args:
        trials: What to draw.
        ax: Where.
        of: A key of `analysis.statistics.association.LIPSCHITZ`.
        outcome: A key of `analysis.statistics.association.OUTCOMES`.

    Returns:
        `ax`.
    """
    x, y = np.maximum(measure(trials.table, of), LIPSCHITZ_FLOOR), measure(trials.table, outcome)
    ax.set_xscale("log")
    scatter(ax, x, y, trials)
    ax.grid(visible=True, linewidth=0.3, color="0.9")
    ax.set_axisbelow(True)
    if not (np.isfinite(x) & np.isfinite(y)).any():
        say_nothing_is_there(ax, "not measured")
        return ax
    share = trials.sound & trials.independent
    found = spearman(x[share], y[share])
    said = (
        f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}], n = {found.n}"
        if found
        else f"n = {int(share.sum())} random: too few to correlate"
    )
    ax.set_title(said, fontsize=5.5, color="0.25", pad=2)
    return ax


def lipschitz_sheet(trials: Trials, /, *, width: float = COLUMN_WIDTH) -> PaperFigure:
    """Return the figure: a row for each outcome, a column for each form of the estimate."""
    with paper_style():
        figure = blank(width, 1.1 * len(OUTCOMES) + 0.75, legend=handles_of(trials))
        axes = figure.subplots(len(OUTCOMES), len(LIPSCHITZ), sharex="col", sharey="row", squeeze=False)
        for row, (outcome, label) in enumerate(OUTCOMES.items()):
            for column, of in enumerate(LIPSCHITZ):
                draw_against_lipschitz(trials, axes[row, column], of=of, outcome=outcome)
            split = _SPLITS[outcome].format(attack=attack_phrase(trials.table))
            name = label.replace("robust generalisation", "robust generalis.")
            axes[row, 0].set_ylabel(lines(f"{name}\n{split}", 25), fontsize=6)
        for ax, form in zip(axes[-1], LIPSCHITZ.values(), strict=True):
            text = f"{form} local Lipschitz\n(lower bound, val mean,\n{radius_phrase(trials.table)})"
            ax.set_xlabel(lines(text, 40), fontsize=6)
            log_axis(ax.xaxis)
        for ax in axes.flat:
            ax.tick_params(labelsize=6)
        add_small_print(figure, f"{trials.small_print} · {measured_by(trials.table)} · {_ABOVE}")
    columns = {name: measure(trials.table, name) for name in (*LIPSCHITZ, *OUTCOMES)}
    return PaperFigure(name="lipschitz", figure=figure, headings=(*HEADINGS, *columns), rows=trials.rows(columns))


SLICED = {
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
    trials: Trials, setting: Setting, /, *, reach: TheoremRadius | None = None, width: float = COLUMN_WIDTH
) -> PaperFigure:
    """Return the figure of one setting, `slice_<name>`: a panel for each outcome.

    Over the training radius the study's own radius is marked, and the theorem's reach where it ends within the axis.
    """
    with paper_style():
        figure = blank(width, 1.1 * len(SLICED) + 0.6, legend=handles_of(trials))
        axes = figure.subplots(len(SLICED), 1, sharex=True)
        phrases = {"attack": attack_phrase(trials.table), "radius": radius_phrase(trials.table)}
        for ax, (outcome, label) in zip(axes, SLICED.items(), strict=True):
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
    columns = {setting.name: setting.values, **{name: measure(trials.table, name) for name in SLICED}}
    rows = tuple(row for row in trials.rows(columns) if row[len(HEADINGS)] is not None)
    return PaperFigure(name=f"slice_{setting.name}", figure=figure, headings=(*HEADINGS, *columns), rows=rows)


def _mark_radii(axes: list[Axes], measured: list[float], setting: Setting, reach: TheoremRadius | None) -> None:
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
