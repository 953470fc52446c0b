"""Labels that cover nothing, symbols that are hidden and counted, the theorem's classifier, fronts by method."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.studies.synthetic_results import METHODS, as_table, result_row, study_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from analysis.fronts.front import non_dominated, on_front
from analysis.plots.figure import paper_style
from analysis.plots.networks.radii import radii_chart, radii_sheet
from analysis.plots.trials.front_view import pareto_view
from analysis.plots.trials.interactive import front_chart, pareto_plotly
from analysis.plots.trials.label_places import place_labels, stacks
from analysis.plots.trials.names_on_front import MOST_COUNTS, MOST_NAMES, TIMES
from analysis.plots.trials.pareto import draw_pareto, pareto_figure, write_pareto
from analysis.plots.trials.robust_lipschitz import robust_lipschitz_chart, robust_lipschitz_sheet
from analysis.plots.trials.trial_points import trials_of
from analysis.statistics.networks.radius_curves import curve_of
from analysis.statistics.networks.separated_classifier import SeparatedClassifier
from analysis.tables.text_table import csv_text

ROWS = study_rows(80, methods=METHODS, seed=4)
TABLE = as_table(ROWS)
CLASSIFIER = SeparatedClassifier(
    dataset="digits", split_hash="0123abcd", norm="linf", train_images=1078, two_r=0.375, contradicting=0,
    consistent_two_r=0.375, certified_radius=[0.2] * 550 + [0.05] * 250 + [None] * 200 + [0.3] * 77,
)  # fmt: skip
BOXES = st.tuples(st.floats(0, 300), st.floats(0, 300), st.floats(5, 60), st.floats(5, 15))


def notes_of(figure: Figure) -> list[Annotation]:
    return [text for text in figure.axes[0].texts if isinstance(text, Annotation)]


@settings(max_examples=60)
@given(st.lists(BOXES, min_size=1, max_size=15), st.lists(BOXES, max_size=15))
def test_no_two_labels_overlap_and_none_leaves_the_bounds(labels: list[Any], obstacles: list[Any]) -> None:
    anchors, sizes = np.array(labels)[:, :2], np.array(labels)[:, 2:]
    blocked = np.array([(x, y, x + w, y + h) for x, y, w, h in obstacles]).reshape(-1, 4)
    offsets = place_labels(anchors, sizes, blocked, bounds=(0, 0, 300, 300), gap=4)
    centres = [
        (anchor + offset, size / 2) for anchor, size, offset in zip(anchors, sizes, offsets, strict=True) if offset
    ]
    for place, (centre, half) in enumerate(centres):
        assert (centre - half >= -1e-9).all()
        assert (centre + half <= 300 + 1e-9).all()
        for other, room in centres[:place]:
            assert (np.abs(centre - other) >= half + room - 1e-9).any()


def test_a_label_goes_where_it_covers_nothing() -> None:
    busy = np.array([(x, y, x + 1, y + 1) for x in range(100, 140) for y in range(60, 140)], dtype=float)
    ((dx, _),) = place_labels(
        np.array([[100.0, 100.0]]), np.array([[20.0, 10.0]]), busy, bounds=(0, 0, 200, 200), gap=4
    )
    assert dx < 0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12))
def test_every_hidden_symbol_is_counted_once_with_the_one_on_top(pairs: list[tuple[int, int]]) -> None:
    points, order = np.array(pairs, dtype=float), np.arange(len(pairs))
    groups = stacks(points, order, reach=0.0)
    for row, point in enumerate(pairs):
        same = [other for other, place in enumerate(pairs) if place == point]
        mine = [group for group in groups if row in group]
        assert len(mine) == (len(same) > 1)
        assert not mine or (sorted(mine[0]) == same and mine[0][0] == same[-1])


def test_members_are_named_and_labels_neither_overlap_nor_leave_the_axes() -> None:
    with paper_style():
        figure = pareto_figure(TABLE)
        figure.draw_without_rendering()
    view, notes = pareto_view(TABLE), notes_of(figure)
    members = {view.labels[row] for row in np.flatnonzero(view.front)}
    named = {note.get_text().partition(" ")[0] for note in notes} & members
    assert len(named) >= min(len(members), MOST_NAMES) - 1
    boxes, window = [note.get_window_extent() for note in notes], figure.axes[0].get_window_extent()
    for place, note in enumerate(notes):
        box = (
            Annotation.get_window_extent(note)
            if note.arrow_patch is None
            else super(Annotation, note).get_window_extent()
        )
        boxes[place] = box
        assert box.x0 >= window.x0 - 1
        assert box.x1 <= window.x1 + 1
        assert not any(box.shrunk(0.98, 0.9).overlaps(other.shrunk(0.98, 0.9)) for other in boxes[:place])


def test_what_a_symbol_hides_is_counted_in_print_and_on_the_screen() -> None:
    rows = [result_row(n) for n in range(3)] + [result_row(3, val_clean_accuracy=0.95, val_robust_accuracy=0.3)]
    rows += [result_row(n, val_clean_accuracy=0.7, val_robust_accuracy=0.2) for n in (4, 5)]
    with paper_style():
        figure = pareto_figure(as_table(rows))
    assert sorted(note.get_text() for note in notes_of(figure)) == ["0", "1", f"2 {TIMES}3", "3", f"{TIMES}2"]
    assert f"{TIMES}n: n trials at one place" in figure.get_supxlabel().replace("\xa0", " ")
    traces = [trace for trace in front_chart(pareto_view(as_table(rows))).data if trace.mode == "text"]
    assert sorted(text.strip("\xa0") for trace in traces for text in trace.texttemplate) == [
        "0",
        "1",
        f"2 {TIMES}3",
        "3",
        f"{TIMES}2",
    ]
    with paper_style():
        plain = pareto_figure(as_table(rows[2:5]))
    assert f"{TIMES}n" not in plain.get_supxlabel()


def test_more_hidden_places_than_are_counted_are_told_in_the_small_print() -> None:
    rows = [
        result_row(n, val_clean_accuracy=0.5 + 0.01 * (n // 2), val_robust_accuracy=0.9 - 0.01 * (n // 2))
        for n in range(80)
    ]
    with paper_style():
        figure = pareto_figure(as_table(rows))
    assert f"{MOST_COUNTS} of 40 such places" in figure.get_supxlabel().replace("\xa0", " ")


def test_the_theorems_classifier_is_a_hollow_star_on_the_same_images_with_both_statements(tmp_path: Path) -> None:
    view = pareto_view(TABLE, classifier=CLASSIFIER)
    assert view.theory == (0.8, 0.55)  # of the first 1,000 images, as the trials
    for part in (
        "for every ε < r = 0.1875 (ε = 0.1 is inside)",
        "some classifier is right everywhere within ε of all 1,078 training images",
        "right on 0.800 of 1,000 validation images, certified on 0.550",
    ):
        assert part in view.theory_text
    with paper_style():
        figure = pareto_figure(TABLE, classifier=CLASSIFIER)
    (star,) = [line for line in figure.axes[0].lines if line.get_marker() == "*"]
    assert (star.get_xdata()[0], star.get_ydata()[0]) == (0.8, 0.55)
    assert star.get_markerfacecolor() == "none"
    assert "theorem's classifier" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert "Theorem: some classifier" in figure.get_supxlabel().replace("\xa0", " ").replace("\n", " ")
    chart = pareto_plotly(TABLE, classifier=CLASSIFIER)
    (trace,) = [trace for trace in chart.data if trace.name == "separated-data classifier"]
    assert (trace.x, trace.y, trace.marker.symbol) == ((0.8,), (0.55,), "star-open")
    assert "Theorem: some classifier" in trace.hovertemplate
    assert "Theorem: some classifier" in chart.layout.title.text
    turned = pareto_view(TABLE, objectives=["val_robust_accuracy", "val_clean_accuracy"], classifier=CLASSIFIER)
    assert turned.theory == (0.55, 0.8)
    with_it, without = (
        write_pareto(TABLE, tmp_path / n, formats=(), classifier=c)[0] for n, c in (("a", CLASSIFIER), ("b", None))
    )
    assert with_it.read_bytes() == without.read_bytes()


@pytest.mark.parametrize("changes", [{"split_hash": "other"}, {"norm": "l2"}])
def test_a_classifier_of_other_images_or_another_norm_is_not_drawn(changes: dict[str, str]) -> None:
    other = SeparatedClassifier(**{**vars(CLASSIFIER), **changes})
    assert pareto_view(TABLE, classifier=other).theory is None
    lipschitz = ["val_clean_accuracy", "val_lipschitz_log10"]
    assert pareto_view(TABLE, objectives=lipschitz, classifier=CLASSIFIER).theory is None


def test_a_classifier_far_behind_the_front_does_not_press_it_and_is_told_to_be_outside() -> None:
    rows = [result_row(n, val_clean_accuracy=0.9 + 0.01 * n, val_robust_accuracy=0.8 - 0.01 * n) for n in range(6)]
    poor = SeparatedClassifier(**{**vars(CLASSIFIER), "certified_radius": [None] * 700 + [0.05] * 300})
    view = pareto_view(as_table(rows), classifier=poor)
    assert view.limits(0) == pareto_view(as_table(rows)).limits(0)
    assert not view.theory_inside
    with paper_style():
        figure = pareto_figure(as_table(rows), classifier=poor)
    assert not [line for line in figure.axes[0].lines if line.get_marker() == "*"]
    assert (
        figure.get_supxlabel().replace("\xa0", " ").replace("\n", " ").endswith("certified on 0.000, outside the axes")
    )
    near = pareto_view(
        as_table(rows), classifier=SeparatedClassifier(**{**vars(CLASSIFIER), "certified_radius": [0.2] * 9 + [None]})
    )
    assert near.theory_inside


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"two_r": 0.2}, "r = 0.1 (ε = 0.1 is outside)"),
        (
            {"two_r": 0.0, "contradicting": 2},
            "all 1,078 training images but 2 that contradict others for every ε < r = 0.1875",
        ),
        ({"two_r": None, "consistent_two_r": None}, "all training images have one label"),
    ],
)
def test_the_sentence_says_where_the_theorem_ends(changes: dict[str, Any], part: str) -> None:
    assert part in pareto_view(TABLE, classifier=SeparatedClassifier(**{**vars(CLASSIFIER), **changes})).theory_text


def test_over_the_radius_its_certified_accuracy_is_a_curve_with_its_rows() -> None:
    curves = [curve_of(ROWS[0])]
    sheet = radii_sheet(curves, TABLE, reach=CLASSIFIER.reach(), classifier=CLASSIFIER)
    (line,) = [line for line in sheet.figure.axes[0].lines if line.get_gid() == "certified"]
    by_radius = dict(zip(line.get_xdata(), line.get_ydata(), strict=True))
    assert by_radius[0.0] == 0.8
    for at, share in by_radius.items():
        assert share == (0.8 if at < 0.05 else 0.55 if at < 0.2 else 0.0)
    rows = list(csv.DictReader(io.StringIO(csv_text(sheet.headings, sheet.rows))))
    assert [row["attack"] for row in rows].count("certified") == len(by_radius)
    names = [trace.name for trace in radii_chart(curves, TABLE, classifier=CLASSIFIER).data]
    assert "separated-data classifier, certified" in names
    assert "separated-data classifier, certified" not in [trace.name for trace in radii_chart(curves, TABLE).data]


def test_each_method_has_its_own_front_of_robust_accuracy_and_lipschitzness() -> None:
    trials = trials_of(TABLE)
    sheet = robust_lipschitz_sheet(trials)
    x, y, member = (
        sheet.headings.index(name) for name in ("val_robust_accuracy", "val_lipschitz_mean", "on_method_front")
    )
    by_method = {}
    for row in sheet.rows:
        by_method.setdefault(row[2], []).append(row)
    panels = {ax.get_title(): ax for ax in sheet.figure.axes if ax.get_title()}
    chart = robust_lipschitz_chart(trials)
    for method, style in trials.styles.items():
        drawn = [row for row in by_method[method] if row[member] is not None]
        sound = [row for row in drawn if not row[5]]
        points = np.array([(row[x], row[y]) for row in sound])
        assert [row[member] for row in sound] == non_dominated(points, maximise=[True, False]).tolist()
        assert not any(row[member] for row in drawn if row[5])
        found = [
            tuple(p)
            for c in panels[style.label].collections
            if c.get_gid() != "rings"
            for p in np.asarray(c.get_offsets())
        ]
        assert sorted(found) == sorted((row[x], row[y]) for row in drawn)
        on_screen = [t for t in chart.data if t.meta == method and t.customdata is not None]
        assert sum(len(t.x) for t in on_screen) == len(drawn)
    rings = [c for ax in panels.values() for c in ax.collections if c.get_gid() == "rings"]
    assert sum(len(c.get_offsets()) for c in rings) == on_front(TABLE).sum()


@given(st.lists(st.tuples(st.integers(0, 10), st.integers(1, 10)), min_size=1, max_size=10), st.data())
@settings(max_examples=40)
def test_the_line_of_a_method_bounds_what_it_attains(pairs: list[tuple[int, int]], data: st.DataObject) -> None:
    rows = [
        result_row(n, val_robust_accuracy=x / 10, val_clean_accuracy=0.9, val_lipschitz_mean=float(y))
        for n, (x, y) in enumerate(pairs)
    ]
    from analysis.plots.trials.robust_lipschitz import _Panels

    panels = _Panels(trials_of(as_table(rows)))
    kept = [pair for pair, inside in zip(pairs, panels.drawn, strict=True) if inside]
    xs, ys = panels.line(np.ones(len(rows), dtype=bool))
    x, y = data.draw(st.floats(0.001, 0.999)), data.draw(st.floats(1, 10))
    attained = any(x <= a / 10 and y >= b for a, b in kept)
    depth = min((height for at, height in zip(xs[1:], ys[1:], strict=True) if at >= x), default=np.inf)
    assert (y >= depth) == attained


POOR = {
    "empty": [],
    "one trial": [result_row(0)],
    "constant networks": [result_row(n, val_lipschitz_mean=0.0) for n in range(3)],
    "infinite": [result_row(0, val_lipschitz_mean=float("inf")), result_row(1)],
    "no estimates": [result_row(0, val_lipschitz_mean=None)],
}


@pytest.mark.parametrize("case", POOR)
def test_poor_studies_have_panels_and_labels_all_the_same(case: str) -> None:
    table = as_table(POOR[case])
    robust_lipschitz_sheet(trials_of(table))
    robust_lipschitz_chart(trials_of(table)).to_json()
    with paper_style():
        pareto_figure(table, classifier=CLASSIFIER)
        draw_pareto(pareto_view(table, classifier=CLASSIFIER), Figure().add_subplot())
    pareto_plotly(table, classifier=CLASSIFIER).to_json()
