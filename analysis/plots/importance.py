"""How much each hyperparameter matters for each objective, as bars."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes

from analysis.objectives import objective
from analysis.plots.sheet import Sheet, add_small_print, blank, lines
from analysis.plots.style import COLUMN_WIDTH, paper_style
from analysis.results import Table
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
    ax.set_yticks(places, [named(name) for name in shares])
    ax.invert_yaxis()
    ax.set_xlim(0, 1.12)
    return ax


def importance_sheet(
    found: Mapping[str, Mapping[str, float]], table: Table, /, *, sample: str = "", width: float = COLUMN_WIDTH
) -> Sheet | None:
    """Return the figure, a panel for each objective; None where no importance is known.

    Args:
        found: Shares of variance by objective and hyperparameter.
        table: The result rows they are of.
        sample: Which of them the shares rest on, in words.
        width: Inches.
    """
    if not found:
        return None
    with paper_style():
        longest = max(len(shares) for shares in found.values())
        figure = blank(width, len(found) * (0.17 * longest + 0.45) + 0.3)
        for ax, (name, shares) in zip(figure.subplots(len(found), 1, squeeze=False)[:, 0], found.items(), strict=True):
            draw_importance(shares, ax)
            entry = objective(name)
            ax.set_xlabel(
                lines(f"main effect, share of a forest's variance of {entry.label} ({entry.split})", 64), fontsize=6.5
            )
        add_small_print(
            figure, f"{provenance(table)} · {measured_by(table)} · fANOVA" + (f" · {sample}" if sample else "")
        )
    rows = tuple((name, parameter, share) for name, shares in found.items() for parameter, share in shares.items())
    return Sheet(name="importance", figure=figure, headings=("objective", "hyperparameter", "share"), rows=rows)


def named(column: str, /) -> str:
    """Return a setting's column as texts name it."""
    return "training radius ε" if column == "train_epsilon" else column.removeprefix("param.").replace("_", " ")
