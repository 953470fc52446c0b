"""Figures for the screen: the points of the printed figures, the rows behind them, thinning and escaping."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from helpers.studies.synthetic_results import METHODS, as_table, result_row, study_rows

from analysis.fronts.front import on_front
from analysis.fronts.growth import hypervolume_growth
from analysis.method_styles import STYLES, styles_for
from analysis.plots.networks.radii import radii_chart
from analysis.plots.screen import MOST_SVG, inside_script
from analysis.plots.studies.progress import checkpoints_chart, checkpoints_sheet, growth_chart
from analysis.plots.trials.front_view import pareto_view
from analysis.plots.trials.interactive import front_chart, space_chart
from analysis.plots.trials.parallel import MOST_LINES, parallel_chart, scales_of
from analysis.plots.trials.scatter import SLICED, lipschitz_chart, lipschitz_sheet, slice_chart, slice_sheet
from analysis.plots.trials.trial_points import handles_of, thinned, trials_of
from analysis.statistics.association import LIPSCHITZ, OUTCOMES, lipschitz_associations, random_share
from analysis.statistics.hyperparameters import varying_settings
from analysis.statistics.networks.radius_curves import Curve, curve_of
from analysis.statistics.networks.theorem_radius import TheoremRadius

ROWS = [
    row
    if row["val_robust_accuracy"] is None
    else {
        **row,
        "best_val_robust_accuracy": row["val_robust_accuracy"] + 0.01,
        "best_val_clean_accuracy": row["val_clean_accuracy"] - 0.005,
        "clean_gap": 0.02 * row["val_clean_accuracy"],
        "robust_gap": 0.1 * row["val_robust_accuracy"],
    }
    for row in study_rows(80, methods=METHODS, seed=4)
]
TABLE = as_table(ROWS)
TRIALS = trials_of(TABLE)
REACH = TheoremRadius(dataset="digits", norm="linf", two_r=0.3, contradicting=0, consistent_two_r=0.3, examples=9)
CURVES = [
    Curve(trial_id="t00003", method="trades", split="val", attack="PGD-10", norm="linf", examples=200,
          radii=(0.0, 0.1, 0.2), accuracies=(0.9, 0.5, 0.1)),
    curve_of(result_row(5)),
]  # fmt: skip


def panels(figure: go.Figure) -> list[list[Any]]:
    """The traces of trials, panel by panel."""
    found: dict[str, list[Any]] = {}
    for trace in figure.data:
        if trace.customdata is not None:
            found.setdefault(f"{int((trace.xaxis or 'x')[1:] or 1):02d}", []).append(trace)
    return [found[name] for name in sorted(found)]


def points(traces: list[Any]) -> list[tuple[float, float]]:
    return sorted((x, y) for trace in traces for x, y in zip(trace.x, trace.y, strict=True))


SETTINGS = {setting.name: setting for setting in varying_settings(TABLE)}


PRINTED = {
    "lipschitz": lambda: (lipschitz_chart(TRIALS), lipschitz_sheet(TRIALS)),
    "best_against_last": lambda: (checkpoints_chart(TRIALS), checkpoints_sheet(TRIALS)),
    "slice": lambda: (slice_chart(TRIALS, SETTINGS["strength"]), slice_sheet(TRIALS, SETTINGS["strength"])),
}
COLUMNS = {
    "lipschitz": [(of, outcome) for outcome in OUTCOMES for of in LIPSCHITZ],
    "best_against_last": [(f"val_{kind}_accuracy", f"best_val_{kind}_accuracy") for kind in ("robust", "clean")],
    "slice": [("strength", outcome) for outcome in SLICED],
}


@pytest.mark.parametrize("name", PRINTED)
def test_each_panel_has_the_points_and_the_title_of_the_printed_figure(name: str) -> None:
    chart, sheet = PRINTED[name]()
    for traces, columns in zip(panels(chart), COLUMNS[name], strict=True):
        x, y = (sheet.headings.index(column) for column in columns)
        expected = sorted((row[x], row[y]) for row in sheet.rows if row[x] is not None and row[y] is not None)
        np.testing.assert_allclose(points(traces), expected, rtol=1e-4)
    words = " ".join(str(note.text) for note in chart.layout.annotations)
    assert all(ax.get_title().replace("\n", " ") in words for ax in sheet.figure.axes)


def test_points_have_their_rows_and_the_look_of_their_kind() -> None:
    (traces, _) = panels(checkpoints_chart(TRIALS))
    last, best = (TABLE[f"{of}val_robust_accuracy"].to_numpy(zero_copy_only=False) for of in ("", "best_"))
    seen = np.zeros(len(ROWS), dtype=int)
    for trace in traces:
        rows = list(trace.customdata)
        seen[rows] += 1
        np.testing.assert_allclose(trace.x, last[rows], rtol=1e-4)
        np.testing.assert_allclose(trace.y, best[rows], rtol=1e-4)
        assert {ROWS[row]["method"] for row in rows} == {trace.meta}
        style = styles_for([trace.meta])[trace.meta]
        for row in rows:
            hollow, random = bool(ROWS[row]["flags"]), ROWS[row]["proposal"] == "random"
            assert trace.marker.symbol == (f"{style.symbol}-open" if hollow else style.symbol)
            assert hollow or trace.marker.color == (style.colour if random else style.pale)
    assert seen.tolist() == [int(row["status"] == "completed") for row in ROWS]
    rings = [trace for trace in checkpoints_chart(TRIALS).data if trace.marker.symbol == "circle-open"]
    ringed = [trace for trace in rings if trace.customdata is None and trace.xaxis == "x"]
    assert sum(len(trace.x) for trace in ringed) == on_front(TABLE).sum()


def test_slices_mark_the_radii_over_the_training_radius_alone() -> None:
    marked = slice_chart(TRIALS, SETTINGS["train_epsilon"], reach=REACH)
    assert {(shape.x0, shape.line.dash) for shape in marked.layout.shapes} == {(0.1, "dash"), (0.15, "dot")}
    assert not slice_chart(TRIALS, SETTINGS["dropout"], reach=REACH).layout.shapes


def test_growth_has_a_point_wherever_the_volume_moves() -> None:
    grown = hypervolume_growth(TABLE, devices=0.5)
    for trace, x in zip(growth_chart(grown, TABLE).data, (grown.trials, grown.hours), strict=True):
        place = np.searchsorted(trace.x, x.astype(np.float64) * (1 + 1e-4), side="right") - 1
        np.testing.assert_allclose(np.asarray(trace.y)[place], grown.volume, rtol=1e-4)
        assert len(trace.x) < len(x)
        assert trace.x[-1] == pytest.approx(x[-1], rel=1e-4)
    assert "GPU-hours" in growth_chart(grown, TABLE, unit="GPU-hours").layout.xaxis2.title.text


def test_curves_over_the_radius_and_the_reach() -> None:
    figure = radii_chart(CURVES, TABLE, reach=REACH)
    assert [trace.x for trace in figure.data] == [(0.0, 0.1, 0.2), (0.0, 0.1)]
    assert [trace.y for trace in figure.data] == [(0.9, 0.5, 0.1), (0.9, 0.5)]
    assert [trace.meta for trace in figure.data] == ["trades", "natural"]
    assert [trace.line.dash for trace in figure.data] == [styles_for(["trades"])["trades"].plotly_line, "dot"]
    assert "PGD-10 on 200 val images" in figure.data[0].hovertemplate
    assert "PGD-10 on at most 1000 val images" in figure.data[1].hovertemplate
    region, own = figure.layout.shapes
    assert (region.x0, region.x1, own.x0) == (0, 0.15, 0.1)
    assert "ε &lt; r = 0.15: an accurate" in figure.layout.annotations[0].text


def test_parallel_axes_have_the_printed_places_and_the_methods_first() -> None:
    (trace,) = parallel_chart(TRIALS).data
    method, *axes = trace.dimensions
    rows = np.flatnonzero(thinned(TRIALS.front, TRIALS.sound, most=MOST_LINES))
    assert [list(TRIALS.styles)[at] for at in method["values"]] == TRIALS.methods[rows].tolist()
    for axis, scale in zip(axes, scales_of(TRIALS), strict=True):
        np.testing.assert_allclose(axis["values"], scale.places()[rows], atol=1e-4)
        assert ("none" in axis.ticktext) == bool(np.isnan(scale.values[rows]).any())
    assert "none" in axes[[scale.name for scale in scales_of(TRIALS)].index("strength")].ticktext


@pytest.mark.parametrize("colour", ["method", "lipschitz"])
def test_the_front_has_each_measured_trial_once_and_an_empty_ring_on_top(colour) -> None:
    view = pareto_view(TABLE)
    *traces, ring = [trace for trace in front_chart(view, colour=colour).data if trace.mode == "markers"]
    assert (len(ring.x), ring.meta) == (0, None)
    np.testing.assert_allclose(points(traces), sorted(map(tuple, view.points[view.drawn].tolist())), rtol=1e-4)
    for trace in traces:
        rows = list(trace.customdata)
        np.testing.assert_allclose(trace.x, view.points[rows, 0], rtol=1e-4)
        assert {view.methods[row] for row in rows} == {trace.meta}
        assert trace.marker.symbol.endswith("-open") == bool(view.doubtful[rows].any())
        own = styles_for([trace.meta])[trace.meta].colour
        assert view.doubtful[rows].any() or (trace.marker.color == own) == (colour == "method")
    members = [bool(view.front[list(trace.customdata)].any()) for trace in traces]
    assert members == sorted(members)


def test_many_trials_are_drawn_by_webgl() -> None:
    few, many = (front_chart(pareto_view(as_table(study_rows(count, failed=0)))) for count in (50, MOST_SVG + 100))
    assert {trace.type for trace in few.data} == {"scatter"}
    assert {trace.type for trace in many.data if trace.customdata} == {"scattergl"}


def test_axes_start_near_the_front() -> None:
    near = [result_row(n, val_clean_accuracy=0.9 + 0.01 * n, val_robust_accuracy=0.6 - 0.01 * n) for n in range(5)]
    far = [result_row(n, val_clean_accuracy=0.1, val_robust_accuracy=0.1) for n in range(5, 8)]
    view = pareto_view(as_table([*near, *far]))
    for axes in (front_chart(view).layout, space_chart(view, np.ones(8), "z").layout.scene):
        (left, right), (bottom, top) = axes.xaxis.range, axes.yaxis.range
        assert [left <= x <= right and bottom <= y <= top for x, y in view.points] == [True] * 5 + [False] * 3


def test_failed_trials_are_no_hollow_points_of_a_legend() -> None:
    lost = {"val_clean_accuracy": None, "val_robust_accuracy": None, "status": "failed"}
    trials = trials_of(as_table([result_row(0), result_row(1), result_row(2, **lost)]))
    assert not any("hollow" in str(handle.get_label()) for handle in handles_of(trials))
    flagged = trials_of(as_table([result_row(0), result_row(1, flags=["noisy"]), result_row(2, **lost)]))
    assert "hollow: flagged" in [handle.get_label() for handle in handles_of(flagged)]


def test_in_space_a_method_keeps_its_shape_and_only_doubtful_trials_are_hollow() -> None:
    methods = [*STYLES, *(f"mine:other{number}" for number in range(6))]
    rows = [
        result_row(number, method=method, flags=flags)
        for number, (method, flags) in enumerate((method, flags) for method in methods for flags in ([], ["noisy"]))
    ]
    view = pareto_view(as_table(rows))
    traces = [trace for trace in space_chart(view, np.arange(len(rows)), "z").data if trace.customdata]
    assert sum(len(trace.x) for trace in traces) == len(rows)
    for trace in traces:
        style, hollow = styles_for(methods)[trace.meta], bool(view.doubtful[list(trace.customdata)].any())
        assert trace.marker.symbol.endswith("-open") == hollow
        assert hollow or trace.marker.symbol in {"circle", "square", "diamond", "cross"}
        if trace.meta in ("natural", "gradient_regularization", "locally_linear", "trades") and not hollow:
            assert trace.marker.symbol == style.symbol


def test_what_is_too_much_is_thinned_evenly_but_the_front_is_whole() -> None:
    front = np.arange(1000) % 100 == 7
    drawn = thinned(front, np.arange(1000) >= 100, most=90)
    assert (drawn & front).sum() == 9
    beside = np.flatnonzero(drawn & ~front)
    assert 45 <= len(beside) <= 90
    assert beside.min() >= 100
    assert np.diff(beside).max() <= 2 * np.diff(beside).min()
    assert thinned(front, front, most=5).sum() == 10


def test_names_are_text_and_cannot_end_the_script_that_holds_them() -> None:
    text = inside_script(json.dumps("</script><!--<script><b>"))
    assert not {"</", "<!", "<s"} & {text[at : at + 2] for at in range(len(text))}
    assert json.loads(text) == "</script><!--<script><b>"
    rows = [result_row(n, method="</script><!--<script><b>:M<i>", train_epsilon=0.1 * n) for n in range(3)]
    trials, view = trials_of(as_table(rows)), pareto_view(as_table(rows))
    radii = radii_chart([curve_of(rows[0])], as_table(rows))
    for figure in (front_chart(view), parallel_chart(trials), radii, lipschitz_chart(trials)):
        text = inside_script(figure.to_json())
        assert "</" not in text
        assert "<!--" not in text
        assert "<script" not in text
        assert "M<i>" not in text.replace('"meta":"\\u003c/script>\\u003c!--\\u003cscript><b>:M<i>"', "")


def test_a_trial_without_robust_accuracy_has_no_line_on_the_screen() -> None:
    rows = study_rows(12, seed=1, failed=0.0)
    rows[4] = rows[4] | {"val_robust_accuracy": None}
    (lines,) = parallel_chart(trials_of(as_table(rows))).data
    assert len(lines.line.color) == len(lines.dimensions[0]["values"]) == 11


def test_correlations_are_those_of_the_tables_whatever_the_constraints() -> None:
    bound = json.dumps(["val_robust_accuracy >= 0.5"])
    rows = [{**row, "proposal": "random", "constraints": bound} for row in ROWS]
    rows = [{**row, "study": f"s{n % 2}"} for n, row in enumerate(rows)]
    table = as_table(rows)
    trials = trials_of(table)
    assert trials.sound.sum() < random_share(table).num_rows
    titles = [ax.get_title() for ax in lipschitz_sheet(trials).figure.axes]
    found = {
        (row.of, row.outcome): f"{row.found.signed(digits=2)}, n = {row.n}"
        for row in lipschitz_associations(random_share(table))
        if row.among == "all methods" and row.found is not None
    }
    expected = [found[form, label] for label in OUTCOMES.values() for form in LIPSCHITZ.values()]
    assert titles == expected
