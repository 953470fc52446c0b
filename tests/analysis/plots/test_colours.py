"""Colours as numbers: the steps of Lipschitzness in grey and to colour-blind readers, on paper and on the screen."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from helpers.structure.colour_vision import DICHROMATS, lab, neighbours, seen_by
from helpers.studies.synthetic_results import METHODS, as_table, result_row, study_rows
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from analysis.method_styles import STYLES, trial_colours
from analysis.plots.figure import paper_style
from analysis.plots.shades import UNMEASURED, lipschitz_shades, plotly_scale
from analysis.plots.trials.front_view import pareto_view
from analysis.plots.trials.interactive import front_chart
from analysis.plots.trials.pareto import draw_pareto

SEEN = ["all", "grey", *DICHROMATS]
STEPS = lipschitz_shades()[np.linspace(0, 255, 10).round().astype(int), :3]
"""Ten steps of Lipschitzness, of which neighbours must look different."""


def test_the_simulation_keeps_greys_and_confuses_what_dichromats_confuse() -> None:
    greys = np.repeat(np.linspace(0, 1, 5)[:, None], 3, axis=1)
    red, green = np.array([0.8, 0.25, 0.1]), np.array([0.45, 0.5, 0.1])
    for kind, matrix in DICHROMATS.items():
        np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(seen_by(kind, greys), greys, atol=1e-4)
        apart = [
            np.linalg.norm(np.subtract(*lab(seen_by(view, np.stack([red, green])))[:, 1:])) for view in ("all", kind)
        ]
        assert apart[1] < apart[0] / 3
    assert lab(np.ones(3)) == pytest.approx([100, 0, 0], abs=0.01)
    assert lab(np.array([1.0, 0, 0])) == pytest.approx([53.24, 80.09, 67.20], abs=0.02)


@pytest.mark.parametrize("kind", SEEN)
def test_neighbouring_steps_of_lipschitzness_look_different_and_about_equally_so(kind: str) -> None:
    apart = neighbours(STEPS, kind)
    assert apart.min() > 6.0  # 2.3 is just noticeable between large patches, and symbols are small
    assert apart.max() < 4 * apart.min()


@pytest.mark.parametrize("kind", SEEN)
def test_lightness_falls_all_along_and_ends_visible_on_paper_and_apart_from_unmeasured(kind: str) -> None:
    lightness = lab(seen_by(kind, lipschitz_shades()[:, :3]))[:, 0]
    assert (np.diff(lightness) < 0.01).all()
    assert lightness[0] - lightness[-1] > 60
    assert lightness[0] < 85
    assert lab(seen_by(kind, np.array(to_rgb(UNMEASURED))))[0] - lightness[0] > 8


@pytest.mark.parametrize("kind", ["all", *DICHROMATS])
def test_methods_differ_in_colour_or_lightness_to_every_reader(kind: str) -> None:
    """In grey their shapes and dashes distinguish them; `test_methods_are_told_apart_in_grey` compares those."""
    seen = {name: lab(seen_by(kind, np.array(to_rgb(style.colour)))) for name, style in STYLES.items()}
    apart = {pair: np.linalg.norm(seen[pair[0]] - seen[pair[1]]) for pair in itertools.combinations(seen, 2)}
    assert min(apart.values()) > 9, min(apart, key=lambda pair: apart[pair])


def test_every_point_has_the_full_colour_of_its_estimate_on_paper_and_on_the_screen() -> None:
    rows = study_rows(60, methods=METHODS, seed=3, decades=2)
    view = pareto_view(as_table(rows))
    scale = view.colour_scale()
    assert scale is not None
    place = np.log(np.clip(view.lipschitz, scale.low, scale.high) / scale.low) / np.log(scale.high / scale.low)
    with paper_style():
        ax = draw_pareto(view, Figure().add_subplot())
    seen = 0
    for collection in ax.collections:
        assert collection.get_alpha() is None
        for offset, face in zip(np.asarray(collection.get_offsets()), collection.get_facecolors(), strict=False):
            row = int(np.flatnonzero((view.points == offset).all(axis=1))[0])
            np.testing.assert_allclose(face, lipschitz_shades()[min(int(place[row] * 256), 255)], atol=0.02)
            seen += 1
    assert seen == (view.front | view.dominated).sum()
    traces = [trace for trace in front_chart(view).data if trace.customdata]
    assert {trace.marker.opacity for trace in traces} == {None}
    axis = front_chart(view).layout.coloraxis
    assert [(at, to_rgb(colour)) for at, colour in axis.colorscale] == [(at, to_rgb(c)) for at, c in plotly_scale()]
    for trace in traces:
        if trace.marker.coloraxis:
            between = (np.asarray(trace.marker.color) - axis.cmin) / (axis.cmax - axis.cmin)
            np.testing.assert_allclose(between, place[list(trace.customdata)], atol=1e-3)


def test_a_trial_without_an_estimate_is_lighter_than_any_with_one_and_has_an_edge() -> None:
    rows = [
        result_row(n, val_clean_accuracy=0.8 + 0.01 * n, val_lipschitz_mean=None if n == 0 else 1.0 * n)
        for n in range(4)
    ]
    view = pareto_view(as_table(rows))
    with paper_style():
        ax = draw_pareto(view, Figure().add_subplot())
    (plain,) = [each for each in ax.collections if [0.8, 0.5] in np.asarray(each.get_offsets()).tolist()]
    at = np.asarray(plain.get_offsets()).tolist().index([0.8, 0.5])
    assert tuple(plain.get_facecolors()[at][:3]) == to_rgb(UNMEASURED)
    assert plain.get_edgecolors()[at][:3].max() < 0.6
    (trace,) = [trace for trace in front_chart(view).data if 0 in (trace.customdata or ())]
    assert (trace.marker.color, trace.marker.line.width) == (UNMEASURED, 1)


def test_lines_of_one_method_have_tones_of_its_colour() -> None:
    colours = trial_colours({"1": "natural", "2": "trades", "3": "natural", "4": "natural"})
    assert list(colours) == ["1", "3", "4", "2"]
    assert colours["2"] == STYLES["trades"].colour
    assert [colours[trial] for trial in "134"] == ["#000000", "#404040", "#808080"]
