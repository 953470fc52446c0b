"""Figures: what is drawn where, the same bytes each time, and sense on poor data."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from helpers.studies.synthetic_results import METHODS, as_table, result_row, study_rows
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from analysis.fronts.front import MixedStudiesError, on_front, with_mixed_allowed
from analysis.method_styles import PAPER_METHODS, STYLES, styles_for
from analysis.plots.figure import paper_style
from analysis.plots.trials.front_view import ColourScale, pareto_view
from analysis.plots.trials.interactive import pareto_plotly
from analysis.plots.trials.pareto import FORMATS, draw_pareto, pareto_figure, write_pareto
from analysis.statistics.intervals import wilson_interval
from trainables.methods import METHODS as REGISTERED
from trainables.methods import PAPER_METHODS as PAPERS

POOR = {
    "empty": [],
    "one trial": [result_row(0)],
    "all failed": [
        result_row(number, status="failed", val_clean_accuracy=None, val_robust_accuracy=None, val_lipschitz_mean=None)
        for number in range(3)
    ],
    "constant networks": [
        result_row(number, val_clean_accuracy=0.1, val_robust_accuracy=0.1, val_lipschitz_mean=0.0)
        for number in range(3)
    ],
    "no Lipschitz": [{**row, "val_lipschitz_mean": None} for row in study_rows(12)],
    "some zero Lipschitz": [*study_rows(12, decades=2), result_row(99, val_lipschitz_mean=0.0)],
    "three decades": study_rows(30, methods=METHODS, decades=3),
    "all flagged": [result_row(number, flags=["noisy"]) for number in range(3)],
    "infinite Lipschitz": [result_row(0), result_row(1, val_lipschitz_mean=float("inf"))],
    "names with markup": [result_row(0, study="$x_1$ <b>&", method="pkg.mod:My_$Loss", **{"param.<i>": 1.0})],
}


@pytest.mark.long
@pytest.mark.parametrize("case", POOR)
def test_poor_data_still_makes_figures(case: str, tmp_path: Path) -> None:
    table = as_table(POOR[case])
    paths = write_pareto(table, tmp_path / "figures", formats=("svg",))
    assert [path.name for path in paths] == ["pareto.svg", "pareto.csv"]
    assert all(path.stat().st_size > 0 for path in paths)
    pareto_plotly(table).to_json()


def test_collapsed_trials_do_not_press_the_front_into_a_corner_and_are_counted() -> None:
    near = [result_row(n, val_clean_accuracy=0.9 + 0.01 * n, val_robust_accuracy=0.8 - 0.01 * n) for n in range(6)]
    near = [row | {"val_lipschitz_mean": 50.0 + row["number"]} for row in near]
    lost = [result_row(n, val_clean_accuracy=0.1, val_robust_accuracy=0.1, val_lipschitz_mean=0.01) for n in (7, 8)]
    with_lost, alone = pareto_view(as_table(near + lost)), pareto_view(as_table(near))
    for axis in (0, 1):
        low, high = with_lost.limits(axis)
        assert low > 0.45
        assert low <= alone.ends[:, axis].min()
        assert high >= alone.ends[:, axis].max()
    assert with_lost.outside == 2
    assert with_lost.colour_scale() == alone.colour_scale() == ColourScale(low=50.0, high=55.0, log=True)
    assert with_lost.small_print.endswith("2 trials far behind the front outside the axes")
    assert (alone.outside, "outside" in alone.small_print) == (0, False)
    np.testing.assert_allclose(alone.ends[0, 0], np.ravel(wilson_interval(900, 1000)))


def test_an_axis_does_not_reach_for_trials_that_the_other_axis_leaves_out() -> None:
    front = [(0.94 + 0.01 * n, 0.9 - 0.01 * n) for n in range(3)]
    places = [*front, *((0.94, 0.7 + 0.005 * n) for n in range(10)), (0.3, 0.45)]
    rows = [result_row(n, val_clean_accuracy=x, val_robust_accuracy=y) for n, (x, y) in enumerate(places)]
    view = pareto_view(as_table(rows))
    assert (view.limits(0)[0] > 0.3, view.limits(1)[0] > 0.6, view.outside) == (True, True, 1)


def test_all_formats_are_written_at_paper_size(tmp_path: Path) -> None:
    paths = write_pareto(as_table(study_rows(24)), tmp_path)
    assert [path.name for path in paths] == [f"pareto.{entry}" for entry in (*FORMATS, "csv")]
    png = (tmp_path / "pareto.png").read_bytes()
    assert int.from_bytes(png[16:20], "big") == 3.3 * 300
    pdf = (tmp_path / "pareto.pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf


@pytest.mark.long
def test_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write_pareto(as_table(study_rows(24)), tmp_path / name) for name in "ab")
    for left, right in zip(first, second, strict=True):
        assert left.read_bytes() == right.read_bytes(), left.name


def test_own_settings_of_the_user_neither_enter_nor_change(tmp_path: Path) -> None:
    table = as_table(study_rows(12))
    (plain, _) = write_pareto(table, tmp_path / "plain", formats=("svg",))
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        (other, _) = write_pareto(table, tmp_path / "other", formats=("svg",))
        assert matplotlib.rcParams["font.size"] == 30
    assert plain.read_bytes() == other.read_bytes()


def test_bad_format_and_mixed_studies_leave_no_file(tmp_path: Path) -> None:
    mixed = as_table([result_row(0), result_row(1, norm="l2")])
    with pytest.raises(MixedStudiesError, match=r"norm \(l2, linf\)"):
        write_pareto(mixed, tmp_path / "figures")
    with pytest.raises(ValueError, match="unknown figure format 'jpg'; valid: png, pdf, svg, html"):
        write_pareto(mixed, tmp_path / "figures", formats=("jpg",))
    assert not (tmp_path / "figures").exists()
    assert write_pareto(with_mixed_allowed(mixed), tmp_path / "figures", formats=("svg",))


def drawn_offsets(ax: Any) -> np.ndarray:
    return np.concatenate([np.asarray(collection.get_offsets()) for collection in ax.collections])


def test_every_measured_trial_is_drawn_once_inside_the_axes() -> None:
    rows = study_rows(200, methods=METHODS, seed=2)
    with paper_style():
        ax = draw_pareto(pareto_view(as_table(rows)), Figure().add_subplot())
    offsets = drawn_offsets(ax)
    measured = [(r["val_clean_accuracy"], r["val_robust_accuracy"]) for r in rows if r["status"] == "completed"]
    assert sorted(map(tuple, offsets.tolist())) == sorted(measured)
    assert (offsets[:, 0] > ax.get_xlim()[0]).all()
    assert (offsets[:, 0] < ax.get_xlim()[1]).all()
    assert (offsets[:, 1] > ax.get_ylim()[0]).all()
    assert (offsets[:, 1] < ax.get_ylim()[1]).all()


def test_axes_say_metric_split_attack_effort_norm_and_radius() -> None:
    view = pareto_view(as_table([result_row(0, eval_epsilon=8 / 255, steps=20, restarts=5)]))
    assert view.x_label == "clean accuracy (val)"
    assert view.y_label == "robust accuracy (val)\nPGD, 20 steps, 5 restarts, \u2113∞, ε = 8/255"
    assert view.colour_label == "empirical local Lipschitz, lower bound\n(val mean, radius ε = 8/255)"
    assert view.small_print == "study toy · digits · n = 1 trial (0 failed, 0 flagged) · ≤ 1000 examples per split"


def test_text_stays_inside_the_figure() -> None:
    wide = [
        {**row, "study": "a-study-with-a-rather-long-name-2026", "attack": "multi_targeted"}
        for row in study_rows(60, methods=METHODS)
    ]
    with paper_style():
        figure = pareto_figure(as_table(wide))
        figure.draw_without_rendering()
        box, page = figure.get_tightbbox(), figure.bbox_inches
        (legend,) = figure.legends
        axes_box = figure.axes[0].get_window_extent()
        assert not legend.get_window_extent().overlaps(axes_box)
    assert box.x0 >= -0.01
    assert box.x1 <= page.x1 + 0.01
    assert box.y0 >= -0.01
    assert box.y1 <= page.y1 + 0.01


@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10)), min_size=1, max_size=12), st.data())
def test_line_bounds_exactly_what_the_front_attains(pairs: list[tuple[int, int]], data: st.DataObject) -> None:
    """A point lies in the region under the line if and only if some trial is at least as good in both."""
    rows = [result_row(n, val_clean_accuracy=x / 10, val_robust_accuracy=y / 10) for n, (x, y) in enumerate(pairs)]
    view = pareto_view(as_table(rows))
    stairs = view.staircase((-1.0, -1.0), (2.0, 2.0))
    assert stairs[0, 0] == -1.0
    assert stairs[-1, 1] == -1.0
    steps = np.diff(stairs, axis=0)
    assert ((steps == 0).sum(axis=1) >= 1).all()
    x, y = (data.draw(st.floats(-0.5, 1.5)) for _ in "xy")
    attained = any(x <= a / 10 and y <= b / 10 for a, b in pairs)
    # Height of the region at x: the highest corner at or right of it.
    height = max((corner[1] for corner in stairs[1:] if corner[0] >= x), default=-1.0)
    assert (y <= height) == attained


def test_line_turns_with_the_objectives() -> None:
    rows = [
        result_row(0, val_clean_accuracy=0.9, val_lipschitz_mean=100.0),
        result_row(1, val_clean_accuracy=0.8, val_lipschitz_mean=10.0),
    ]
    view = pareto_view(as_table(rows), objectives=["val_clean_accuracy", "val_lipschitz_log10"])
    np.testing.assert_allclose(view.staircase((0, 0), (1, 3)), [[0, 1], [0.8, 1], [0.8, 2], [0.9, 2], [0.9, 3]])


def test_line_runs_from_the_worst_side_when_x_is_minimised() -> None:
    rows = [
        result_row(0, val_lipschitz_mean=100.0, val_robust_accuracy=0.6),
        result_row(1, val_lipschitz_mean=10.0, val_robust_accuracy=0.2),
    ]
    view = pareto_view(as_table(rows), objectives=["val_lipschitz_log10", "val_robust_accuracy"])
    np.testing.assert_allclose(view.staircase((0, 0), (3, 1)), [[3, 0.6], [2, 0.6], [2, 0.2], [1, 0.2], [1, 0]])


def test_flagged_and_stopped_trials_are_hollow_and_named_in_the_legend() -> None:
    rows = [
        result_row(0),
        result_row(1, flags=["noisy"], val_clean_accuracy=0.99),
        result_row(2, status="stopped_early", val_clean_accuracy=0.98),
    ]
    view = pareto_view(as_table(rows))
    assert view.front.tolist() == [True, False, False]
    assert view.doubtful.tolist() == [False, True, True]
    with paper_style():
        figure = pareto_figure(as_table(rows))
    hollow = [c for c in figure.axes[0].collections if not len(c.get_facecolors())]
    assert sorted(x for c in hollow for x, _ in np.asarray(c.get_offsets()).tolist()) == [0.98, 0.99]
    assert "flagged or stopped" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_trial_that_lacks_the_third_objective_or_breaks_a_constraint_is_hollow() -> None:
    names = ["val_clean_accuracy", "val_robust_accuracy", "val_lipschitz_scale_free_log10"]
    rows = [
        result_row(0),
        result_row(1, val_lipschitz_scale_free_mean=None, val_clean_accuracy=0.99),
        result_row(2, constraints='["val_clean_accuracy >= 0.95"]'),
    ]
    view = pareto_view(as_table(rows), objectives=names)
    assert view.front.tolist() == [True, False, False]
    assert view.doubtful.tolist() == [False, True, True]
    assert view.hollow == "infeasible or lacking an objective"
    assert pareto_view(as_table(rows[:2])).hollow == ""


def test_front_over_three_objectives_has_no_line() -> None:
    table = as_table(study_rows(30))
    names = ["val_clean_accuracy", "val_robust_accuracy", "val_lipschitz_log10"]
    view = pareto_view(table, objectives=names)
    assert view.front.sum() == on_front(table, objectives=names).sum()
    assert view.staircase((0, 0), (1, 1)).shape == (0, 2)
    with pytest.raises(ValueError, match="at least two objectives"):
        pareto_view(table, objectives=names[:1])


def test_colour_is_logarithmic_with_round_ticks_within_the_data() -> None:
    def scale(*lipschitz: float | None) -> Any:
        rows = [result_row(n, val_lipschitz_mean=value) for n, value in enumerate(lipschitz)]
        return pareto_view(as_table(rows)).colour_scale()

    for low, high in ((2.0, 19.0), (50.0, 55.0), (20.5, 210.0), (0.3, 0.9), (1.0, 1e6)):
        narrow = scale(low, high)
        assert narrow.log
        assert 3 <= len(narrow.ticks()) <= 8
        assert all(low <= tick <= high for tick in narrow.ticks())
    decade = scale(2.0, 21.0, None)
    assert (decade.low, decade.high, decade.log, decade.below) == (2.0, 21.0, True, False)
    assert decade.ticks() == [2.0, 5.0, 10.0, 20.0]
    assert scale(0.5, 3000.0).ticks() == [1.0, 10.0, 100.0, 1000.0]
    assert scale(4.3, 900.0).ticks() == [5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0]  # two powers are not enough
    collapsed = scale(0.0, 2.0, 50.0)
    assert (collapsed.low, collapsed.log, collapsed.below) == (2.0, True, True)
    assert scale(None) is None
    assert scale(7.0).low < 7.0 < scale(7.0).high


def test_zero_estimate_gets_the_lowest_colour_of_a_log_scale() -> None:
    rows = [result_row(n, val_clean_accuracy=0.1 * n, val_lipschitz_mean=v) for n, v in enumerate((0.0, 1.0, 100.0))]
    with paper_style():
        ax = draw_pareto(pareto_view(as_table(rows)), Figure().add_subplot())
    colours = {
        x: colour
        for c in ax.collections
        if len(c.get_offsets())
        for (x, _), colour in zip(c.get_offsets().tolist(), np.asarray(c.get_facecolors())[:, :3].tolist(), strict=True)
    }
    assert colours[0.0] == colours[0.1] != colours[0.2]


def test_known_methods_have_distinct_fixed_styles() -> None:
    for attribute in ("label", "marker", "symbol", "colour"):
        assert len({getattr(style, attribute) for style in STYLES.values()}) == len(STYLES)
    assert set(STYLES) == set(REGISTERED)
    assert PAPER_METHODS == PAPERS


def test_unknown_methods_get_free_styles_whatever_the_order() -> None:
    methods = ["b.x:Two", "natural", "a.x:One"]
    styles = styles_for(methods)
    assert styles == styles_for(reversed(methods))
    assert list(styles) == ["natural", "a.x:One", "b.x:Two"]
    assert styles["a.x:One"].label == "One"
    assert len({style.marker for style in [*STYLES.values(), *styles.values()]}) == len(STYLES) + 2


def test_hover_tells_trial_and_hyperparameters() -> None:
    table = as_table(
        [
            result_row(
                7,
                method="trades",
                train_epsilon=0.1,
                flags=["noisy"],
                options='{"variant": "a"}',
                **{"param.beta": 6.0},
            )
        ]
    )
    (trace,) = [trace for trace in pareto_plotly(table).data if trace.text]
    for part in (
        "t00007",
        "beta = 6",
        "variant = a",
        "dropout = 0.1",
        "train ε = 0.1",
        "robust accuracy (val) = 0.5",
        "flags: noisy",
    ):
        assert part in trace.text[0]


def test_page_loads_no_script_and_offers_no_upload(tmp_path: Path) -> None:
    write_pareto(as_table([result_row(0, study="<script>alert(1)</script>")]), tmp_path, formats=("html",))
    page = (tmp_path / "pareto.html").read_text()
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)
    assert '"showSendToCloud": false' in page
    assert "<script>alert" not in page


@pytest.mark.browser
def test_page_draws_without_network_and_console_messages(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium here")
    rows = study_rows(40, methods=METHODS)
    write_pareto(as_table(rows), tmp_path, formats=("html",))
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-sync",
        "--disable-background-networking",
        "--disable-component-update",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--enable-logging=stderr",
        "--virtual-time-budget=8000",
        "--dump-dom",
        (tmp_path / "pareto.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    measured = sum(row["status"] == "completed" for row in rows)
    drawn = done.stdout.count('class="point"')
    assert drawn == measured, json.dumps({"drawn": drawn, "measured": measured})
