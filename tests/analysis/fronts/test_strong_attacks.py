"""What strong attacks leave of front members: combined image by image, and marked wherever the front is shown."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from helpers.studies.synthetic_results import as_table, evaluation_row, result_row

from analysis.data.results import example_columns, examples_file, trial_file, write_columns, write_rows
from analysis.data.schema import EVALUATION, EXAMPLE
from analysis.fronts.strong_attacks import StrongResult, read_strong, strong_notes
from analysis.plots.figure import paper_style
from analysis.plots.trials.interactive import pareto_plotly
from analysis.plots.trials.pareto import pareto_figure
from analysis.report.parts.evaluation_card import card
from analysis.tables.front_table import front_table, pareto_csv

FALLEN = StrongResult(images=100, searched=0.5, robust=0.4, attacks=("square",), flags=())
SOUND = StrongResult(images=100, searched=0.7, robust=0.69, attacks=("square",), flags=())


@pytest.fixture
def table():
    return as_table(
        [
            result_row(0, val_clean_accuracy=0.95, val_robust_accuracy=0.5),
            result_row(1, val_clean_accuracy=0.9, val_robust_accuracy=0.7),
        ]
    )


@pytest.fixture
def write(tmp_path):
    """Return a function that writes one measurement on validation, given which images stay correct."""

    def write(attack, robust, **changes):
        name = f"t00000-last-{attack}-{len(robust)}-{changes.get('epsilon', 0.1)}"
        robust = np.array(robust, dtype=bool)
        row = evaluation_row(
            evaluation=name, split="val", attack=attack, examples=len(robust), robust_accuracy=float(robust.mean())
        )
        write_rows(trial_file(tmp_path, name, schema=EVALUATION), [row | changes], EVALUATION)
        outcomes = {"index": np.arange(len(robust)) + 7, "clean_correct": robust, "robust_correct": robust}
        own = {"study": "toy", "trial_id": "t00000", "checkpoint": "last", "attack": attack, "epsilon": 0.1}
        write_columns(examples_file(tmp_path, name), example_columns({"val": outcomes}, **own), EXAMPLE)

    return write


def test_an_image_counts_as_its_worst_attack_leaves_it(write, table, tmp_path):
    write("pgd", [1, 1, 1, 1, 1, 0, 1, 1])
    write("square", [1, 1, 0, 1, 1, 1, 1, 1], checks="cheap")
    write("multi_targeted", [1, 1, 0, 1, 1, 0, 1, 0], checks="cheap")
    write("autoattack", [0, 1, 1, 1], checks="cheap")
    write("autoattack", [0] * 4, checks="cheap", epsilon=0.2)  # another radius
    (found,) = read_strong(tmp_path, table).values()
    assert (found.images, found.searched, found.robust) == (8, 7 / 8, 4 / 8)
    assert found.attacks == ("autoattack (first 4)", "multi_targeted", "square")


def test_without_a_strong_attack_or_without_the_searchs_own_nothing_is_known(write, table, tmp_path):
    assert read_strong(tmp_path / "export.parquet", table) == {}
    write("square", [1, 0], checks="cheap")
    assert read_strong(tmp_path, table) == {}
    write("pgd", [1, 1], steps=20)  # not the search's effort
    assert read_strong(tmp_path, table) == {}


@pytest.mark.parametrize(("robust", "doubts"), [(0.48, ()), (0.47, ("falls by 0.030",)), (0.5, ())])
def test_a_fall_of_more_than_two_points_is_a_doubt(robust, doubts):
    result = StrongResult(images=100, searched=0.5, robust=robust, attacks=(), flags=())
    assert result.doubts == doubts


def test_a_flag_of_the_full_checks_is_a_doubt():
    result = StrongResult(images=100, searched=0.5, robust=0.5, attacks=(), flags=("steps_not_converged",))
    assert result.doubts == ("steps_not_converged",)
    assert str(result) == "0.500 (+0.000) !"


def test_the_table_shows_both_values_and_names_the_doubtful(table):
    text = front_table(table, strong={"t00000": FALLEN, "t00001": SOUND}).markdown()
    assert "0.400 (-0.100) !" in text
    assert "0.690 (-0.010)" in text
    assert "doubtful (!), robust accuracy may be too high: t00000 (falls by 0.100)" in text
    assert "0.5000" in text, "the search's value stays"
    assert "robust (strong)" not in front_table(table).markdown()


def test_no_doubts_no_line():
    assert len(strong_notes({"t00001": SOUND}, ["t00001"])) == 1
    assert strong_notes({"t00001": SOUND}, ["t00000"]) == []


def test_the_csv_has_the_values_beside_the_searchs(table):
    rows = list(csv.DictReader(io.StringIO(pareto_csv(table, strong={"t00000": FALLEN}))))
    by_trial = {row["trial_id"]: row for row in rows}
    assert float(by_trial["t00000"]["strong_robust_accuracy"]) == 0.4
    assert by_trial["t00000"]["strong_doubts"] == "falls by 0.100"
    assert by_trial["t00001"]["strong_robust_accuracy"] == ""


def test_the_printed_figure_draws_a_line_down_to_what_is_left_and_marks_the_doubtful(table):
    strong = {"t00000": FALLEN, "t00001": SOUND}
    with paper_style():
        figure = pareto_figure(table, strong=strong)
        plain = pareto_figure(table)
    red = [line for line in figure.axes[0].lines if line.get_color() == "#b2182b"]
    drawn = sorted(tuple(line.get_ydata()) for line in red if len(line.get_ydata()) == 2)
    assert np.allclose(drawn, [(0.5, 0.4), (0.7, 0.69)])
    labels = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert {"under strong attacks", "doubtful under them"} <= set(labels)
    assert not [line for line in plain.axes[0].lines if line.get_color() == "#b2182b"]


def test_the_figure_for_the_screen_marks_them_too(table):
    figure = pareto_plotly(table, strong={"t00000": FALLEN, "t00001": SOUND})
    (falls,) = [trace for trace in figure.data if trace.line.color == "#b2182b"]
    assert list(falls.y) == [0.5, 0.4, None, 0.7, 0.69, None]
    (crosses,) = [trace for trace in figure.data if trace.marker.symbol == "x-thin"]
    assert list(crosses.y) == [0.5]
    assert any("doubtful: falls by 0.100" in text for trace in figure.data for text in trace.text or ())


def test_the_card_answers_whether_it_holds():
    row = as_table([result_row(0)]).to_pylist()[0]
    answers = {answer.question: answer for answer in card(row, strong=FALLEN)}
    answer = answers["Does its robust accuracy hold under strong attacks?"]
    assert (answer.state, "falls by 0.100" in answer.text) == ("doubt", True)
    assert "40 of 100 survive, 50 of 100 under the search's attack; 0.400 [0.31, 0.50]" in answer.text
    assert {answer.state for answer in card(row, strong=SOUND) if "hold" in answer.question} == {"answered"}
