"""Certified <= robust <= clean: what is proved of front members, in the table, the data and both figures."""

from __future__ import annotations

import csv
import io
import warnings

import numpy as np
import pytest
from helpers.studies.pages import page_of, text_of
from helpers.studies.synthetic_results import as_table, result_row

from analysis.fronts.strong_attacks import StrongResult, certified_of
from analysis.plots.figure import WIDTHS, paper_style
from analysis.plots.networks.bracket import bracket_sheet
from analysis.plots.trials.front_view import pareto_view
from analysis.plots.trials.interactive import pareto_plotly
from analysis.plots.trials.pareto import pareto_figure
from analysis.tables.front_table import front_table, pareto_csv

BLUE = "#2166ac"
STRONG = {"t00000": StrongResult(images=50, searched=0.52, robust=0.5, attacks=("square",), flags=(), certified=0.42)}


@pytest.fixture
def table():
    """Three members: certified at the end alone, in search, and not at all."""
    return as_table(
        [
            result_row(0, val_clean_accuracy=0.95, val_robust_accuracy=0.5),
            result_row(1, val_clean_accuracy=0.9, val_robust_accuracy=0.7, val_certified_accuracy=0.6),
            result_row(2, val_clean_accuracy=0.8, val_robust_accuracy=0.75),
        ]
    )


def test_the_lower_end_is_that_of_the_search_or_the_same_distance_below_it(table):
    rows = table.to_pylist()
    assert [certified_of(row, STRONG.get(row["trial_id"])) for row in rows] == [pytest.approx(0.4), 0.6, None]
    far = StrongResult(images=50, searched=0.9, robust=0.9, attacks=(), flags=(), certified=0.1)
    assert certified_of(rows[0], far) == 0.0
    assert certified_of(rows[1], STRONG["t00000"]) == 0.6


def test_the_table_has_it_only_where_something_is_proved(table):
    text = front_table(table, strong=STRONG).markdown()
    assert "certified (val)" in text
    assert "0.4000" in text
    assert "certified <= robust <= clean" in text
    assert "certified" not in front_table(table.slice(2)).markdown()


def test_the_data_have_the_share_of_the_images_that_were_attacked(table):
    first, second, _ = csv.DictReader(io.StringIO(pareto_csv(table, strong=STRONG)))
    assert (first["strong_certified"], first["val_certified_accuracy"]) == ("0.42", "")
    assert (second["strong_certified"], second["val_certified_accuracy"]) == ("", "0.6")


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("width", WIDTHS.values())
def test_the_figure_of_few_members_has_room_for_its_axes(members, width, tmp_path):
    rows = [
        result_row(n, val_clean_accuracy=0.9 - n / 10, val_robust_accuracy=0.7 + n / 20, val_certified_accuracy=0.6)
        for n in range(members)
    ]
    strong = {row["trial_id"]: STRONG["t00000"] for row in rows}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns where nothing is left for the axes
        bracket_sheet(as_table(rows), strong=strong, width=width).write(tmp_path, formats=["png"])


def test_a_member_that_was_not_attacked_is_left_out(table):
    rows = [*table.to_pylist(), result_row(3, val_clean_accuracy=0.7, val_certified_accuracy=0.65)]
    rows[-1]["val_robust_accuracy"] = None
    sheet = bracket_sheet(as_table(rows), strong=STRONG)
    assert [row[0] for row in sheet.rows] == ["t00000", "t00001", "t00002"]


def test_the_printed_figure_draws_the_bracket(table):
    with paper_style():
        figure = pareto_figure(table, strong=STRONG)
        turned = pareto_figure(table, objectives=("val_robust_accuracy", "val_clean_accuracy"), strong=STRONG)
        without = pareto_figure(table.slice(2))
    lines = [line for line in figure.axes[0].lines if line.get_color() == BLUE and len(line.get_ydata()) == 2]
    assert np.allclose(sorted(tuple(line.get_ydata()) for line in lines), [(0.5, 0.4), (0.7, 0.6)])
    assert figure.axes[0].get_ylim()[0] < 0.4
    across = [line for line in turned.axes[0].lines if line.get_color() == BLUE and len(line.get_ydata()) == 2]
    assert np.allclose(sorted(tuple(line.get_xdata()) for line in across), [(0.5, 0.4), (0.7, 0.6)])
    labels = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert "certified" in labels
    assert not [line for line in without.axes[0].lines if line.get_color() == BLUE]


def test_the_figure_for_the_screen_draws_it_too(table):
    figure = pareto_plotly(table, strong=STRONG)
    (bracket,) = [trace for trace in figure.data if trace.line.color == BLUE]
    assert np.allclose([value or 0 for value in bracket.y], [0.5, 0.4, 0, 0.7, 0.6, 0])
    texts = [text for trace in figure.data for text in trace.text or ()]
    for line in ("certified accuracy (val) = 0.6000", "certified 0.4200 on these 50 images"):
        assert any(line in text for text in texts)


def test_a_figure_of_other_axes_has_no_bracket(table):
    view = pareto_view(table, objectives=("val_clean_accuracy", "val_certified_accuracy"), strong=STRONG)
    assert np.isnan(view.certified).all()
    assert view.points[:, 1].tolist() == [0.0, 0.6, 0.0]


def test_the_reports_tables_have_it_too(table):
    with_it, without = page_of(table.to_pylist(), strong=STRONG), page_of(table.slice(2).to_pylist())
    members = text_of(with_it).partition("Members of the front")[2]
    heading, cells = members.partition("t00000")[::2]
    assert "certified (val)" in heading
    assert "0.4000" in cells.partition("t00001")[0]
    assert "certified &lt;= robust &lt;= clean" in members
    assert "certified (val)" not in text_of(without)
