"""How much each hyperparameter matters for each objective, as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from analysis.data.results import Table
from analysis.method_styles import styles_for
from analysis.plots.figure import COLUMN_WIDTH, PaperFigure, add_small_print, blank, lines, paper_style
from analysis.statistics.importance import (
    MethodImportance,
    sample_words,
    setting_name,
    settings_within,
    target_label,
    too_few,
)
from analysis.tables.importance import objectives_within
from analysis.wording import measured_by, provenance


def draw_importance(shares: Mapping[str, float], /, ax: Axes) -> Axes:
    """Draw shares in [0, 1] as bars, the first above, each with its number.

    Returns:
        `ax`.
    """
    places = range(len(shares))
    ax.barh(places, list(shares.values()), color="#0072B2", height=0.7)
    for place, share in zip(places, shares.values(), strict=True):
        ax.text(share + 0.01, place, f"{share:.2f}", va="center", fontsize=6)
    ax.set_yticks(places, [setting_name(name) for name in shares])
    ax.invert_yaxis()
    ax.set_xlim(0, 1.12)
    return ax


def importance_sheet(
    shares_of: Mapping[str, Mapping[str, float]],
    table: Table,
    /,
    *,
    near_front: Mapping[str, Mapping[str, float]] | None = None,
    sample: str = "",
    width: float = COLUMN_WIDTH,
) -> PaperFigure | None:
    """Return the figure, a panel for each objective and for nearness to the front; None where no importance is known.

    Args:
        shares_of: Shares of variance by objective and hyperparameter.
        table: The result rows they are of.
        near_front: Importances for being near the front, by what was computed, in words.
        sample: Which of them the shares rest on, in words.
        width: Inches.
    """
    panels = {_label(name): shares for name, shares in shares_of.items()} | dict(near_front or {})
    if not panels:
        return None
    with paper_style():
        longest = max(len(shares) for shares in panels.values())
        figure = blank(width, len(panels) * (0.17 * longest + 0.45) + 0.3)
        axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for ax, (label, shares) in zip(axes, panels.items(), strict=True):
            draw_importance(shares, ax)
            ax.set_xlabel(lines(label, 48), fontsize=6)
        measured = f"{provenance(table)} · {measured_by(table)} · fANOVA unless said"
        add_small_print(figure, measured + (f" · {sample}" if sample else ""))
    every = {**shares_of, **(near_front or {})}
    rows = tuple((name, parameter, share) for name, shares in every.items() for parameter, share in shares.items())
    return PaperFigure(name="importance", figure=figure, headings=("objective", "hyperparameter", "share"), rows=rows)


def _label(name: str) -> str:
    return f"main effect, share of a forest's variance of {target_label(name)}"


def within_sheet(
    importances: Sequence[MethodImportance], table: Table, /, *, width: float = COLUMN_WIDTH
) -> PaperFigure | None:
    """Return the figure of what matters within each method: methods below one another, objectives side by side.

    Args:
        importances: Importances within methods; None is returned where no method has any.
        table: The result rows they are of.
        width: Inches.
    """
    shown, names = [one for one in importances if one.shares], objectives_within(importances)
    if not shown:
        return None
    styles = styles_for(one.method for one in shown)
    with paper_style():
        settings = {one.method: settings_within(one) for one in shown}
        heights = [0.16 * len(settings[one.method]) + 0.25 for one in shown]
        figure = blank(width, sum(heights) + 0.75)
        grid = figure.subplots(
            len(shown), len(names), squeeze=False, sharex=True, gridspec_kw={"height_ratios": heights}
        )
        for line, one in zip(grid, shown, strict=True):
            for ax, name in zip(line, names, strict=True):
                shares = one.shares.get(name, {})
                draw_importance({setting: shares.get(setting, 0.0) for setting in settings[one.method]}, ax)
                ax.set_xlim(0, 1.3)
                ax.tick_params(labelsize=5.5)
                if ax is not line[0]:
                    ax.set_yticklabels([])
            line[0].set_title(f"{styles[one.method].label}, {sample_words(one)}", fontsize=6, loc="left")
        for ax, name in zip(grid[-1], names, strict=True):
            ax.set_xlabel(lines(target_label(name), round(64 / len(names))), fontsize=6)
        few = too_few(importances)
        figure_print = f"{provenance(table)} · {measured_by(table)} · fANOVA: main effect, share of a forest's variance"
        add_small_print(figure, figure_print + (f" · {few}" if few else ""))
    rows = tuple(
        (one.method, one.trials, one.independent, name, setting, share)
        for one in shown
        for name, shares in one.shares.items()
        for setting, share in shares.items()
    )
    headings = ("method", "trials", "independent", "objective", "hyperparameter", "share")
    return PaperFigure(name="importance_within", figure=figure, headings=headings, rows=rows)
