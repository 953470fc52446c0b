"""The field's figures: what is drawn equals the data beside it, and nothing is drawn without data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.studies.synthetic_results import as_table, evaluation_row, result_row
from matplotlib.axes import Axes

from analysis.data.results import Table, to_table
from analysis.data.schema import EPOCH
from analysis.fronts.strong_attacks import StrongResult
from analysis.heldout.confirmation import confirmed
from analysis.heldout.members import HeldoutResults
from analysis.material import StudyMaterial
from analysis.plots.figure import WIDTHS, PaperFigure, paper_style
from analysis.plots.networks.bracket import bracket_sheet
from analysis.plots.networks.lipschitz_by_image import smoothness_sheet
from analysis.plots.networks.strong import strong_sheet
from analysis.plots.studies.contours import contours_sheet
from analysis.plots.studies.fixed_methods import fixed_methods_sheet
from analysis.plots.studies.learning import drops, learning_sheet
from analysis.plots.studies.study_figures import paper_sheets
from analysis.statistics.importance import MethodImportance
from analysis.statistics.sweeps import sweeps_of

FRONT = [(0.95, 0.2), (0.9, 0.5), (0.8, 0.6)]


def rows(**changes: Any) -> list[dict[str, Any]]:
    """Three members of a front, of two methods."""
    methods = ("natural", "trades", "trades")
    return [
        result_row(number, method=methods[number], val_clean_accuracy=clean, val_robust_accuracy=robust, **changes)
        for number, (clean, robust) in enumerate(FRONT)
    ]


def epochs(*, every: int = 2, last: int = 6, lr: list[float] | None = None, train: bool = True) -> Table:
    """Epochs of those trials: robust accuracy on training images rises while that on validation images falls."""
    found = []
    for number in range(3):
        for epoch in range(1, last + 1):
            stale = epoch % every > 0
            row = {
                "study": "toy", "trial_id": f"t{number:05d}", "number": number, "epoch": epoch, "stale": stale,
                "lr": (lr or [0.1] * last)[epoch - 1], "val_clean_accuracy": 0.8 + 0.01 * (epoch + number),
                "val_robust_accuracy": 0.6 - 0.02 * (epoch - epoch % every) if epoch >= every else None,
                "train_clean_accuracy": 0.85 if train and not stale else None,
                "train_robust_accuracy": 0.6 + 0.02 * epoch + 0.01 * number if train and not stale else None,
            }  # fmt: skip
            found.append(row)
    return to_table({name: [row.get(name) for row in found] for name in found[0]}, EPOCH)


def labelled(sheet: PaperFigure) -> set[str]:
    return {text.get_text() for legend in sheet.figure.legends for text in legend.get_texts()}


def test_learning_curves_have_the_median_of_each_method_at_its_measured_epochs() -> None:
    sheet = learning_sheet(epochs(lr=[0.1, 0.1, 0.1, 0.01, 0.01, 0.001]), as_table(rows()))
    assert sheet is not None
    assert len(sheet.figure.axes) == 4
    natural, trades = sheet.figure.axes[1], sheet.figure.axes[3]
    lines = {line.get_gid(): line.get_xydata() for line in trades.lines if line.get_gid() != "drop"}
    np.testing.assert_allclose(lines["val_robust"], [(2, 0.56), (4, 0.52), (6, 0.48)])
    np.testing.assert_allclose(lines["train_robust"], [(2, 0.655), (4, 0.695), (6, 0.735)])
    assert {line.get_xdata()[0] for line in natural.lines if line.get_gid() == "drop"} == {3, 5}
    assert {"validation", "training, ≤ 100 images", "learning rate drops"} <= labelled(sheet)
    measured = [row for row in sheet.rows if row[sheet.headings.index("val_robust_accuracy")] is not None]
    assert {row[sheet.headings.index("epoch")] for row in measured} == {2, 4, 6}
    assert len(sheet.rows) == 18


def test_smooth_schedules_have_no_drops_and_robust_accuracy_measured_once_no_panel() -> None:
    cosine = (0.05 * (1 + np.cos(np.pi * np.arange(6) / 6))).tolist()
    sheet = learning_sheet(epochs(every=6, lr=cosine, train=False), as_table(rows()))
    assert sheet is not None
    assert len(sheet.figure.axes) == 2
    assert labelled(sheet) == {"validation"}
    assert drops([{"epoch": n, "lr": lr} for n, lr in enumerate([0.1, 0.01, None, 0.001])]) == [0]
    assert learning_sheet(epochs(last=1), as_table(rows())) is None
    assert learning_sheet(None, as_table(rows())) is None


STRONG = {
    "t00001": StrongResult(images=100, searched=0.5, robust=0.4, attacks=("square",), flags=(), certified=0.3),
    "t00002": StrongResult(images=100, searched=0.6, robust=0.6, attacks=("square",), flags=()),
}


def test_search_against_strong_takes_both_on_the_same_images_of_each_split() -> None:
    members = rows(split_hash="0123abcd")
    evaluations = [
        evaluation_row("t00001", method="trades", robust_accuracy=0.45),
        evaluation_row("t00001", method="trades", attack="autoattack", robust_accuracy=0.42, examples=200),
        evaluation_row("t00002", method="trades", robust_accuracy=0.5),
    ]
    # the search's attack with more steps is a stronger one too
    evaluations.append(evaluation_row("t00002", method="trades", robust_accuracy=0.35, steps=100, restarts=5))
    shown = confirmed(members[1:], evaluations, replicas=[], outcomes={})
    on_test = HeldoutResults(
        members=tuple(shown), chosen=("t00001", "t00002"), evaluations=tuple(evaluations), curse={},
        same_images={"t00001": 0.46},
    )  # fmt: skip
    sheet = strong_sheet(STRONG, as_table(members), on_test=on_test)
    assert sheet is not None
    assert [row[:4] + row[5:] for row in sheet.rows] == [
        ("t00001", "trades", "val", 100, 0.5, 0.4),
        ("t00002", "trades", "val", 100, 0.6, 0.6),
        ("t00001", "trades", "test", 200, 0.46, 0.42),
        ("t00002", "trades", "test", 1000, 0.5, 0.35),
    ]
    (ax,) = sheet.figure.axes
    drawn = [tuple(each.get_offsets()[0]) for each in ax.collections if each.get_gid() == "trial"]
    assert drawn == [row[5:] for row in sheet.rows]
    (diagonal,) = [line for line in ax.lines if line.get_gid() == "diagonal"]
    assert (diagonal.get_xdata() == diagonal.get_ydata()).all()
    assert "hollow: test" in labelled(sheet)
    assert strong_sheet({}, as_table(members)) is None


def test_the_bracket_reaches_from_what_is_proved_to_what_no_attack_refuted() -> None:
    table = as_table([{**row, "certify": None, "val_certified_accuracy": None} for row in rows()])
    sheet = bracket_sheet(table, strong=STRONG)
    assert sheet is not None
    # of all images, what strong attacks took, and what is not proved, of their 100
    assert sheet.rows == (
        ("t00000", "natural", None, None, 0.2, 0.95, None, None),
        ("t00001", "trades", pytest.approx(0.3), pytest.approx(0.4), 0.5, 0.9, 100, "falls by 0.100"),
        ("t00002", "trades", None, 0.6, 0.6, 0.8, 100, None),
    )
    (bracket,) = [line for line in sheet.figure.axes[0].lines if line.get_gid() == "bracket"]
    np.testing.assert_allclose(bracket.get_xdata(), [0.3, 0.4])
    names = [label.get_text() for label in sheet.figure.axes[0].get_yticklabels()]
    assert names == ["t00000 natural", "t00001 TRADES !", "t00002 TRADES"]  # the second one falls by 0.1
    assert bracket_sheet(table) is None


def test_the_bracket_starts_at_zero_where_nothing_is_proved_and_is_never_inverted() -> None:
    first, second, third = rows()
    tried = [{**first, "certify": "ibp", "val_certified_accuracy": None}]
    proved = [{**second, "certify": "ibp", "val_certified_accuracy": 0.49}]
    sheet = bracket_sheet(
        as_table([*tried, *proved, {**third, "certify": None, "val_certified_accuracy": None}]), strong=STRONG
    )
    assert sheet is not None
    # 0.49 of all images is proved, so the 0.4 that strong attacks left of their 100 is too low for all
    assert [row[2:4] for row in sheet.rows] == [(0.0, None), (0.49, 0.49), (None, 0.6)]


def test_the_bracket_has_the_front_of_certified_accuracy_too() -> None:
    proved = {"val_clean_accuracy": 0.75, "val_robust_accuracy": 0.5, "val_certified_accuracy": 0.25}
    behind = result_row(9, method="mtl_ibp", **proved)
    sheet = bracket_sheet(as_table([*({**row, "val_certified_accuracy": None} for row in rows()), behind]))
    assert sheet is not None
    assert sheet.rows[-1] == ("t00009", "mtl_ibp", 0.25, None, 0.5, 0.75, None, None)
    assert len(sheet.rows) == 4


def test_lipschitzness_by_image_is_drawn_as_its_distribution() -> None:
    values = {"train": np.array([1.0, 2.0, 4.0]), "val": np.array([2.0, 4.0])}
    sheet = smoothness_sheet({"t00001": values, "t00000": {"val": np.array([3.0])}}, as_table(rows()))
    assert sheet is not None
    first, second = sheet.figure.axes
    lines = {line.get_gid(): line.get_xydata() for line in first.lines}
    np.testing.assert_allclose(lines["train"], [(1, 1 / 3), (2, 2 / 3), (4, 1)])
    np.testing.assert_allclose(lines["val"], [(2, 0.5), (4, 1)])
    assert "val/train 1.50" in first.get_title()
    assert [line.get_gid() for line in second.lines] == ["val"]
    assert len(sheet.rows) == 6
    assert smoothness_sheet({}, as_table(rows())) is None


def grid(*, seeds: int = 1, proposal: str = "grid") -> list[dict[str, Any]]:
    """A grid over beta at two dropout rates, robust accuracy rising with beta."""
    found = []
    for dropout in (0.0, 0.2):
        for beta in (1.0, 3.0, 6.0):
            for seed in range(seeds):
                robust = 0.3 + 0.05 * beta + 0.01 * seed
                accuracies = {"val_clean_accuracy": 0.95 - 0.01 * beta, "val_robust_accuracy": robust}
                settings = {"param.dropout": dropout, "param.beta": beta, "proposal": proposal}
                found.append(result_row(len(found), method="trades", **settings, **accuracies))
    return found


def test_fixed_methods_join_settings_that_differ_in_one_number() -> None:
    sheet = fixed_methods_sheet(as_table(grid(seeds=2)))
    assert sheet is not None
    (ax,) = sheet.figure.axes
    lines = [line.get_xydata() for line in ax.lines if line.get_gid() == "sweep"]
    assert len(lines) == 2
    np.testing.assert_allclose(lines[0], [(0.94, 0.355), (0.92, 0.455), (0.89, 0.605)])
    assert len([patch for patch in ax.patches if patch.get_gid() == "band"]) == 2
    assert {sweep.held for sweep in sweeps_of(as_table(grid()))} == {"dropout 0", "dropout 0.2"}
    assert len(sheet.rows) == 12
    assert {"full: dropout 0", "hollow: dropout 0.2"} <= labelled(sheet)
    faces = [line.get_markerfacecolor() for line in ax.lines if line.get_gid() == "sweep"]
    assert (faces[0], faces[1]) == (ax.lines[0].get_color(), "white")
    assert [text.get_text() for text in ax.texts] == ["1", "6", "1", "6"]
    assert [text.get_va() for text in ax.texts] == ["bottom", "bottom", "top", "top"]
    alone = [row | {"method": "natural", "number": 50 + n} for n, row in enumerate(grid(seeds=2)[:6])]
    both = fixed_methods_sheet(as_table([*grid(seeds=2), *alone]))
    assert both is not None
    assert "full: nothing else varies" in labelled(both)
    # values drawn at random, once each, are no sweep; with seeds they are
    assert fixed_methods_sheet(as_table(grid(proposal="random"))) is None
    assert len(sweeps_of(as_table(grid(seeds=2, proposal="random")))) == 2


def scattered(count: int) -> list[dict[str, Any]]:
    draws = np.random.default_rng(0).random((count, 2))
    return [
        result_row(n, proposal="random", val_clean_accuracy=0.9 - 0.2 * dropout,
                   **{"param.dropout": dropout, "param.lr": 10 ** (-3 * lr)})
        for n, (dropout, lr) in enumerate(draws.tolist())
    ]  # fmt: skip


def test_contours_need_thirty_trials_and_two_settings() -> None:
    importance = {"val_clean_accuracy": {"method": 0.5, "param.dropout": 0.4, "param.lr": 0.1}}
    sheet = contours_sheet(importance, as_table(scattered(30)))
    assert sheet is not None
    (points,) = [line for ax in sheet.figure.axes for line in ax.lines if line.get_gid() == "trials"]
    expected = [(row[4], np.log10(row[6])) for row in sheet.rows]
    np.testing.assert_allclose(points.get_xydata(), expected)
    assert contours_sheet(importance, as_table(scattered(29))) is None
    assert contours_sheet({"val_clean_accuracy": {"param.dropout": 1.0}}, as_table(scattered(30))) is None
    aligned = [row | {"param.lr": 2 * row["param.dropout"] + 1} for row in scattered(30)]
    assert contours_sheet(importance, as_table(aligned)) is None


def test_contours_show_the_mean_of_the_seeds_at_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    heights: list[float] = []
    drawn = Axes.tricontourf

    def spy(self: Axes, triangles: Any, values: Any, **look: Any) -> Any:
        heights.extend(values)
        return drawn(self, triangles, values, **look)

    monkeypatch.setattr(Axes, "tricontourf", spy)
    places = [(dropout, lr) for dropout in (0.0, 0.1, 0.2, 0.4) for lr in (0.1, 0.2, 0.4)]
    seeds = [(*place, clean) for place in places for clean in (0.4 - place[0], 0.5, 0.6 + place[0])]
    seeds += [(0.0, 0.1, 0.9)]
    rows = [
        result_row(n, proposal="grid", val_clean_accuracy=clean, **{"param.dropout": dropout, "param.lr": lr})
        for n, (dropout, lr, clean) in enumerate(seeds)
    ]
    sheet = contours_sheet({"val_clean_accuracy": {"param.dropout": 0.4, "param.lr": 0.1}}, as_table(rows))
    assert sheet is not None
    assert len(sheet.rows) == 37
    assert heights == pytest.approx([0.6] + 11 * [0.5])


def test_contours_within_a_method_have_the_settings_that_others_lack() -> None:
    trades = [row | {"method": "trades", "train_epsilon": 0.1 + row["param.dropout"] ** 2} for row in scattered(30)]
    others = [result_row(30 + n, method="natural", proposal="random") for n in range(5)]
    shares = {"val_clean_accuracy": {"param.lr": 0.6, "train_epsilon": 0.2}}
    within = [
        MethodImportance(method="trades", trials=30, independent=True, shares=shares),
        MethodImportance(method="natural", trials=5, independent=False, shares={}),
    ]
    sheet = contours_sheet({}, as_table([*trades, *others]), within=within)
    assert sheet is not None
    assert {row[0] for row in sheet.rows} == {"trades"}
    assert sheet.rows[0][3:7] == ("param.lr", trades[0]["param.lr"], "train_epsilon", trades[0]["train_epsilon"])
    assert len(sheet.rows) == 30


def test_the_fields_figures_stay_on_their_page() -> None:
    named = {"study": "a-study-with-a-rather-long-name", "val_certified_accuracy": 0.1}
    table = as_table([row | named for row in rows()])
    smooth = {trial: {"train": np.array([1.0, 2.0]), "val": np.array([1.5, 90.0])} for trial in STRONG}
    column, page = WIDTHS["column"], WIDTHS["page"]
    settings = {"param.dropout": 0.6, "param.lr": 0.4}
    shares = dict.fromkeys(("val_robust_accuracy", "val_lipschitz_scale_free_log10"), settings)
    sheets = [
        contours_sheet(shares, as_table([row | named for row in scattered(30)]), width=column),
        contours_sheet(shares, as_table([row | named for row in scattered(30)]), width=page),
        learning_sheet(epochs(), table, width=column),
        strong_sheet(STRONG, table, width=column),
        bracket_sheet(table, strong=STRONG, width=page),
        smoothness_sheet(smooth, table, width=column),
        fixed_methods_sheet(as_table(grid(seeds=2)), width=column),
    ]
    for sheet in sheets:
        assert sheet is not None
        with paper_style():
            sheet.figure.draw_without_rendering()
        box, paper = sheet.figure.get_tightbbox(), sheet.figure.bbox_inches
        assert box.x0 >= -0.02, sheet.name
        assert box.x1 <= paper.x1 + 0.02, sheet.name
        assert box.y0 >= -0.02, sheet.name
        assert box.y1 <= paper.y1 + 0.02, sheet.name


def test_a_study_shows_the_figures_it_has_data_for() -> None:
    names = {"learning_curves", "search_against_strong", "certified_bracket"}
    study = StudyMaterial(table=as_table(rows(val_certified_accuracy=0.1)), strong=STRONG, epochs=epochs())
    shown = [{sheet.name for sheet in paper_sheets(one)} for one in (study, StudyMaterial(table=as_table(rows())))]
    assert shown[0] - shown[1] == names
