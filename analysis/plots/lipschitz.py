"""Robust accuracy and the gaps against measured local Lipschitzness, raw and scale-free."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from analysis.association import LIPSCHITZ, OUTCOMES, measure, spearman
from analysis.objectives import LIPSCHITZ_FLOOR
from analysis.plots.sheet import Sheet, add_small_print, blank, lines, log_axis, say_nothing_is_there
from analysis.plots.style import COLUMN_WIDTH, paper_style
from analysis.plots.trials import HEADINGS, Trials, handles_of, scatter
from analysis.wording import attack_phrase, measured_by, radius_phrase

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
        of: A key of `analysis.association.LIPSCHITZ`.
        outcome: A key of `analysis.association.OUTCOMES`.

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


def lipschitz_sheet(trials: Trials, /, *, width: float = COLUMN_WIDTH) -> Sheet:
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
    return Sheet(name="lipschitz", figure=figure, headings=(*HEADINGS, *columns), rows=trials.rows(columns))
