"""`pareto --anchors`: published results behind the front, or one line."""

from __future__ import annotations

import json

import pytest
from helpers.studies.synthetic_results import as_table, result_row

from analysis.data.anchors import Anchor
from analysis.data.results import trial_file, write_rows
from analysis.data.schema import RESULT
from analysis.plots.trials.front_view import pareto_view
from analysis.plots.trials.pareto import pareto_figure

ENTRY = {
    "dataset": "digits",
    "threat_model": "Linf",
    "eps": "0.1",
    "clean_acc": "97",
    "autoattack_acc": "61",
    "name": "N",
}


@pytest.fixture
def study(tmp_path):
    for number in range(3):
        row = result_row(number, val_clean_accuracy=0.9 - 0.1 * number, val_robust_accuracy=0.4 + 0.1 * number)
        write_rows(trial_file(tmp_path / "toy", row["trial_id"]), [row], RESULT)
    return tmp_path / "toy"


def test_anchors_are_drawn_and_their_data_kept(command, study, tmp_path) -> None:
    (tmp_path / "anchors.json").write_text(json.dumps([ENTRY]))
    code, _, err = command("pareto", "toy", "--anchors", "anchors.json", "--format", "html,svg")
    assert code == 0, err
    figures = study / "figures"
    assert (figures / "pareto_anchors.csv").read_text().splitlines()[1:] == ["N,0.97,0.61"]
    assert "published, on test (1)" in (figures / "pareto.html").read_text()
    assert 'id="anchors"' in (figures / "pareto.svg").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--anchors", "other.json"], "other.json: `eps` is 0.2, but 0.1 in the study"),
        (["--anchors", "none.json"], "none.json cannot be read"),
        (["--anchors", "other.json", "--split", "test"], "--anchors"),
        (["--anchors", "other.json", "--objectives", "val_robust_accuracy"], "leave --objectives out"),
    ],
)
def test_others_are_refused_before_anything_is_written(command, study, tmp_path, words, message) -> None:
    (tmp_path / "other.json").write_text(json.dumps(ENTRY | {"eps": "0.2"}))
    code, _, err = command("pareto", "toy", *words)
    assert code == 2
    assert message in " ".join(err.split())
    assert not (study / "figures").exists()


def test_published_networks_beyond_the_axes_are_counted_and_the_others_are_where_they_belong() -> None:
    rows = [
        result_row(number, val_clean_accuracy=0.89 + 0.001 * number, val_robust_accuracy=0.56 - 0.001 * number)
        for number in range(10)
    ]
    anchors = [Anchor(name="near", clean=0.91, robust=0.58), Anchor(name="natural", clean=0.95, robust=0.0)]
    view = pareto_view(as_table(rows), anchors=anchors)
    assert view.anchors_label == "published, on test (2, 1 outside the axes)"
    ax = pareto_figure(as_table(rows), anchors=anchors).axes[0]
    (drawn,) = [line for line in ax.lines if line.get_gid() == "anchors"]
    assert drawn.get_xydata().tolist() == [[0.91, 0.58], [0.95, 0.0]]
    assert ax.get_ylim()[0] > 0.0
    swapped = pareto_view(as_table(rows), anchors=anchors, objectives=("val_robust_accuracy", "val_clean_accuracy"))
    assert swapped.anchors.tolist() == [[0.58, 0.91], [0.0, 0.95]]
