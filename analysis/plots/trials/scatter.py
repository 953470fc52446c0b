"""Robust accuracy and the gaps against measured local Lipschitzness, raw and scale-free."""

from __future__ import annotations

import itertools

import numpy as np
import plotly.graph_objects as go

from analysis.data.results import Table
from analysis.fronts.objectives import LIPSCHITZ_FLOOR
from analysis.plots.figure import (
    COLUMN_WIDTH,
    PaperFigure,
    add_small_print,
    blank,
    lines,
    log_axis,
    paper_style,
)
from analysis.plots.screen import LOG, add_ring, empty_chart, numbers, set_text
from analysis.plots.trials.front_view import ParetoView
from analysis.plots.trials.trial_points import HEADINGS, MOST_POINTS, Trials, add_trials, handles_of, log_ticks, scatter
from analysis.statistics.association import LIPSCHITZ, OUTCOMES, measure, random_share, spearman
from analysis.statistics.hyperparameters import Setting
from analysis.statistics.networks.theorem_radius import TheoremRadius
from analysis.wording import attack_phrase, measured_by, radius, radius_phrase

_SPLITS = {
    "val_robust_accuracy": "(val)\n{attack}",
    "clean_minus_robust": "(val)\n{attack}",
    "clean_gap": "(train minus val, clean)",
    "robust_gap": "(train minus val)\n{attack}",
}


_LINES = {"dash": "--", "dot": ":"}
"""Matplotlib's names of plotly's lines."""

_ABOVE = "above: Spearman, 95 %, independent proposals"


def _against_lipschitz(trials: Trials, share: Table, *, of: str, outcome: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Return the estimates, not below the floor, the outcomes, and how they correlate, in words.

    Args:
        trials: What is drawn.
        share: The rows that correlations are of, as in the tables: those that miss a constraint belong to it.
        of: Column of the estimate.
        outcome: Column of the outcome.
    """
    x, y = np.maximum(measure(trials.table, of), LIPSCHITZ_FLOOR), measure(trials.table, outcome)
    studies = np.asarray(share["study"].to_pylist(), dtype=object)
    found = spearman(measure(share, of), measure(share, outcome), groups=studies)
    if found is None:
        return x, y, f"n = {share.num_rows} random: too few"
    return x, y, f"{found.signed(digits=2)}, n = {found.n}"


def lipschitz_sheet(trials: Trials, /, *, width: float = COLUMN_WIDTH) -> PaperFigure:
    """Return the figure: a row for each outcome, a column for each form of the estimate, rank correlations above.

    Estimates below the floor (a constant network has 0) are drawn at it. Correlations are those of
    `lipschitz_associations` among all methods; without enough trials the title says so.
    """
    share = random_share(trials.table)
    with paper_style():
        figure = blank(width, 1.25 * len(OUTCOMES) + 0.75, legend=handles_of(trials))
        axes = figure.subplots(len(OUTCOMES), len(LIPSCHITZ), sharex="col", sharey="row", squeeze=False)
        for row, (outcome, label) in enumerate(OUTCOMES.items()):
            for column, of in enumerate(LIPSCHITZ):
                x, y, correlation = _against_lipschitz(trials, share, of=of, outcome=outcome)
                axes[row, column].set_xscale("log")
                if scatter(axes[row, column], x, y, trials):
                    axes[row, column].set_title(correlation, fontsize=5.5, color="0.25", pad=2)
            axes[row, 0].set_ylabel(lines(_outcome_label(trials, outcome, label), 22), fontsize=6)
        for ax, form in zip(axes[-1], LIPSCHITZ.values(), strict=True):
            ax.set_xlabel(lines(_estimate_label(trials, form), 40), fontsize=6)
            log_axis(ax.xaxis)
        for ax in axes.flat:
            ax.tick_params(labelsize=6)
        add_small_print(figure, f"{trials.small_print} · {measured_by(trials.table)} · {_ABOVE}")
    columns = {name: measure(trials.table, name) for name in (*LIPSCHITZ, *OUTCOMES)}
    return PaperFigure(name="lipschitz", figure=figure, headings=(*HEADINGS, *columns), rows=trials.rows(columns))


def robust_chart(trials: Trials, view: ParetoView, /) -> go.Figure:
    """Return the first panel alone for the screen, with a ring for the trial that a reader chooses.

    Beside the front at most `MOST_POINTS` trials are drawn, evenly thinned: a second chart through WebGL would double
    the time to open a page. The layout's `meta` has the places of all trials by row, so that each can be ringed.

    Args:
        trials: The trials.
        view: The front beside it, which has the same axis of robust accuracy.
    """
    outcome, of = next(iter(OUTCOMES)), next(iter(LIPSCHITZ))
    x, y, correlation = _against_lipschitz(trials, random_share(trials.table), of=of, outcome=outcome)
    figure = empty_chart(520, titles=[correlation])
    add_trials(figure, x, y, trials, most=MOST_POINTS)
    figure.update_layout(meta={"x": numbers(x), "y": numbers(y)})
    add_ring(figure)
    figure.update_xaxes(
        **log_ticks(x), title_text=set_text(_estimate_label(trials, LIPSCHITZ[of]).replace(",\n", ", "))
    )
    figure.update_yaxes(range=view.limits(1), title_text=set_text(view.y_label))
    return figure


def lipschitz_chart(trials: Trials, /) -> go.Figure:
    """Return the same for the screen, a row for each outcome that was measured."""
    outcomes = {name: label for name, label in OUTCOMES.items() if np.isfinite(measure(trials.table, name)).any()}
    panels = list(itertools.product(outcomes, LIPSCHITZ))
    share = random_share(trials.table)
    drawn = [_against_lipschitz(trials, share, of=of, outcome=outcome) for outcome, of in panels]
    figure = empty_chart(
        220 * len(outcomes) + 100,
        rows=max(len(outcomes), 1),
        columns=len(LIPSCHITZ),
        titles=[correlation for _, _, correlation in drawn],
        shared_xaxes="columns",
        shared_yaxes="rows",
        horizontal_spacing=0.03,
        vertical_spacing=0.04,
    )
    places = itertools.product(range(1, len(outcomes) + 1), range(1, len(LIPSCHITZ) + 1))
    for (x, y, _), panel in zip(drawn, places, strict=True):
        add_trials(figure, x, y, trials, panel=panel)
    for row, (outcome, label) in enumerate(outcomes.items(), start=1):
        figure.update_yaxes(title_text=set_text(_outcome_label(trials, outcome, label)), row=row, col=1)
    for column, (of, form) in enumerate(LIPSCHITZ.items(), start=1):
        figure.update_xaxes(**log_ticks(np.maximum(measure(trials.table, of), LIPSCHITZ_FLOOR)), col=column)
        figure.update_xaxes(title_text=set_text(_estimate_label(trials, form)), row=max(len(outcomes), 1), col=column)
    return figure


def _outcome_label(trials: Trials, outcome: str, label: str) -> str:
    return f"{label}\n{_SPLITS[outcome].format(attack=attack_phrase(trials.table))}"


def _estimate_label(trials: Trials, form: str) -> str:
    return f"{form} local Lipschitz\n(lower bound, val mean,\n{radius_phrase(trials.table)})"


SLICED = {
    "val_clean_accuracy": "clean accuracy\n(val)",
    "val_robust_accuracy": "robust accuracy (val)\n{attack}",
    "val_lipschitz_scale_free_mean": "scale-free Lipschitz\n(lower bound, val)\n{radius}",
}
"""What is drawn over a setting, and what its axis says."""


def _sliced(trials: Trials, outcome: str) -> np.ndarray:
    y = measure(trials.table, outcome)
    return np.maximum(y, LIPSCHITZ_FLOOR) if "lipschitz" in outcome else y


def slice_sheet(
    trials: Trials, setting: Setting, /, *, reach: TheoremRadius | None = None, width: float = COLUMN_WIDTH
) -> PaperFigure:
    """Return the figure of one setting, `slice_<name>`: a panel for each outcome.

    Over the training radius the study's own radius is marked, and the theorem's reach where it ends within the axis.
    """
    with paper_style():
        figure = blank(width, 1.25 * len(SLICED) + 0.6, legend=handles_of(trials))
        axes = figure.subplots(len(SLICED), 1, sharex=True)
        for ax, outcome in zip(axes, SLICED, strict=True):
            ax.set_xscale("log" if setting.log else "linear")
            ax.set_yscale("log" if "lipschitz" in outcome else "linear")
            scatter(ax, setting.values, _sliced(trials, outcome), trials)
            ax.set_ylabel(lines(_sliced_label(trials, outcome), 22), fontsize=6)
            ax.tick_params(labelsize=6)
            if "lipschitz" in outcome:
                log_axis(ax.yaxis)
        if setting.log:
            log_axis(axes[-1].xaxis)
        for at, style, text in _radii(trials, setting, reach):
            for ax in axes:
                ax.axvline(at, color="0.35", linewidth=0.7, linestyle=_LINES[style], zorder=1)
            above = axes[0].get_xaxis_transform()
            axes[0].text(at, 1.01, text, fontsize=5.5, ha="center", transform=above)
        without = int((~np.isfinite(setting.values)).sum())
        more = f" · {without} without this setting are not drawn" if without else ""
        axes[-1].set_xlabel(lines(setting.label, 64 if width == COLUMN_WIDTH else 130))
        add_small_print(figure, f"{trials.small_print}{more} · {measured_by(trials.table)}")
    columns = {setting.name: setting.values, **{name: measure(trials.table, name) for name in SLICED}}
    rows = tuple(row for row in trials.rows(columns) if row[len(HEADINGS)] is not None)
    return PaperFigure(name=f"slice_{setting.name}", figure=figure, headings=(*HEADINGS, *columns), rows=rows)


def slice_chart(trials: Trials, setting: Setting, /, *, reach: TheoremRadius | None = None) -> go.Figure:
    """Return the same for the screen."""
    figure = empty_chart(660, rows=len(SLICED), shared_xaxes=True, vertical_spacing=0.04)
    figure.update_layout(margin={"t": 30})
    for row, outcome in enumerate(SLICED, start=1):
        add_trials(figure, setting.values, _sliced(trials, outcome), trials, panel=(row, 1))
        figure.update_yaxes(title_text=set_text(_sliced_label(trials, outcome)), row=row)
        if "lipschitz" in outcome:
            figure.update_yaxes(**log_ticks(_sliced(trials, outcome)), row=row)
    if setting.log:
        figure.update_xaxes(**LOG)
    figure.update_xaxes(title_text=set_text(setting.label), row=len(SLICED))
    for at, style, text in _radii(trials, setting, reach):
        figure.add_vline(at, line={"color": "#555", "width": 1, "dash": style}, layer="below")
        words = {"text": set_text(text), "x": at, "y": 1, "xref": "x", "yref": "paper", "yanchor": "bottom"}
        figure.add_annotation(words, showarrow=False, font={"size": 11})
    return figure


def _sliced_label(trials: Trials, outcome: str) -> str:
    return SLICED[outcome].format(attack=attack_phrase(trials.table), radius=radius_phrase(trials.table))


def _radii(trials: Trials, setting: Setting, reach: TheoremRadius | None) -> list[tuple[float, str, str]]:
    """Return the radii to mark over the training radius, each with its line and what it is; none over another."""
    if setting.name != "train_epsilon":
        return []
    measured = sorted(set(trials.table["eval_epsilon"].to_pylist()))
    marked = [(value, "dash", f"attack, ε = {radius(value)}") for value in measured]
    if reach is not None and reach.radius < float(np.nanmax(setting.values)):
        marked.append((reach.radius, "dot", f"r = {reach.radius:.4g}"))
    return marked
