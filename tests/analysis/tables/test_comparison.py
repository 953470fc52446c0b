"""Two studies beside each other: what differs, which numbers are compared, and what is refused."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from helpers.studies.synthetic_results import as_table, result_row, study_rows

from analysis.fronts.front import MixedStudiesError
from analysis.plots.figure import paper_style
from analysis.plots.trials.two_fronts import fronts_figure
from analysis.report.comparison_page import build_comparison
from analysis.statistics.intervals import Outcomes, accuracy_estimate, difference, paired_difference_interval
from analysis.tables.comparison import (
    Side,
    best_of_methods,
    difference_table,
    differences,
    paired_lines,
    unlike_columns,
)


def side(label: str = "a", count: int = 12, *, seed: int = 0, config: dict | None = None, **changes) -> Side:
    rows = [row | {"study": label} | changes for row in study_rows(count, seed=seed)]
    return Side(label=label, table=as_table(rows), config=config or {})


def test_what_differs_names_measurement_first_then_rows_versions_and_config() -> None:
    first = side(
        "a", versions=json.dumps({"torch": "1", "ray": "2"}), config={"name": "a", "training": {"lr": 0.1, "epochs": 3}}
    )
    second = side(
        "b", model="cnn1", eval_epsilon=0.2, versions=json.dumps({"torch": "2", "ray": "2"}),
        config={"name": "b", "training": {"lr": 0.2, "epochs": 3}, "search": {"fixed": {}}},
    )  # fmt: skip
    assert unlike_columns(first, second) == ["eval_epsilon"]
    assert differences(first, second).rows == (
        ("measurement", "eval_epsilon", "0.1", "0.2"),
        ("rows", "model", "mlp", "cnn1"),
        ("versions", "torch", "1", "2"),
        ("config", "training.lr", "0.1", "0.2"),
    )


def test_equal_studies_differ_in_nothing() -> None:
    table = differences(side("a"), side("b"))
    assert table.rows == ()
    assert "No recorded setting differs." in table.notes


def test_the_best_of_a_method_is_its_most_robust_sound_trial() -> None:
    rows = [
        result_row(0, method="trades", val_robust_accuracy=0.5),
        result_row(1, method="trades", val_robust_accuracy=0.6, **{"param.dropout": 0.5}),
        result_row(2, method="trades", val_robust_accuracy=0.9, flags=["noisy"]),
        result_row(3, method="natural", status="failed", val_robust_accuracy=None),
    ]
    assert {method: row["number"] for method, row in best_of_methods(as_table(rows)).items()} == {"trades": 1}


def test_differences_without_outcomes_are_newcombes() -> None:
    first = Side(label="a", table=as_table([result_row(0, method="trades", val_clean_accuracy=0.9)]))
    second = Side(label="b", table=as_table([result_row(0, method="trades", val_clean_accuracy=0.8)]))
    wanted = difference(accuracy_estimate(0.8, 1000), accuracy_estimate(0.9, 1000))
    same = difference(accuracy_estimate(0.5, 1000), accuracy_estimate(0.5, 1000))
    rows = difference_table(first, second).rows
    assert rows == (("trades", "t00000", "t00000", wanted.signed(), same.signed(), "shares"),)


def outcomes_of(trial: str, correct: list[bool], *, start: int = 0) -> Outcomes:
    array = np.asarray([correct])
    return Outcomes(trials=(trial,), index=np.arange(start, start + len(correct)), clean=array, robust=array)


@pytest.mark.parametrize("start", [0, 1])
def test_differences_go_by_pairs_where_the_examples_are_the_same(start) -> None:
    before, after = [True] * 40 + [False] * 10, [True] * 35 + [False] * 5 + [True] * 8 + [False] * 2
    first = Side(label="a", table=as_table([result_row(0)]), outcomes=outcomes_of("t00000", before))
    second = Side(label="b", table=as_table([result_row(0)]), outcomes=outcomes_of("t00000", after, start=start))
    (row,) = difference_table(first, second).rows
    assert row[-1] == ("shares" if start else "pairs")
    if start == 0:
        low, high = paired_difference_interval(8, 5, 50)
        assert row[3] == f"{3 / 50:+.3f} [{low:+.3f}, {high:+.3f}]"


def test_lines_of_one_method_stand_below_each_other_with_common_bands() -> None:
    rates = [0.0, 0.05, 0.12, 0.3, 0.45]
    rows = [result_row(number, **{"param.dropout": rate}) for number, rate in enumerate(rates)]
    few = [result_row(0, study="b", **{"param.dropout": 0.06})]
    table = paired_lines(Side(label="a", table=as_table(rows)), Side(label="b", table=as_table(few)))
    assert [row[1:3] for row in table.rows] == [
        ("0", "a"), ("0-0.1", "a"), ("0-0.1", "b"), ("0.1-0.2", "a"), ("0.2-0.3", "a"), ("0.3-0.5", "a"),
    ]  # fmt: skip


def test_like_studies_share_a_plane_and_others_never_do() -> None:
    tables = [("a", side("a").table), ("b", side("b").table)]
    with paper_style():
        assert len(fronts_figure(tables, together=True).axes) == 1
        apart = fronts_figure(tables, together=False)
    assert sum(axes.get_xlabel() == "clean accuracy (val)" for axes in apart.axes) == 2


def test_the_page_stands_alone_and_says_when_nothing_is_compared() -> None:
    like = build_comparison(side("a"), side("b", seed=1))
    assert "These studies measured the same thing" in like
    assert "b minus a, per method" in like
    unlike = build_comparison(side("a"), side("b", seed=1, dataset="mnist"))
    assert "never on one front" in unlike
    assert "Not computed: the studies differ in dataset" in unlike
    assert "b minus a" not in unlike
    for page in (like, unlike):
        assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", page.replace('xlink:href="#', 'href="#'))
        assert page.index("What differs") < page.index("Hypervolumes")


def test_thin_and_empty_handed_studies() -> None:
    failed = {"status": "failed", "val_clean_accuracy": None, "val_robust_accuracy": None, "val_lipschitz_mean": None}
    one, none = as_table([result_row(0)]), as_table([result_row(0, **failed), result_row(1, **failed)])
    page = build_comparison(Side(label="one", table=one), Side(label="none", table=none))
    assert "none: no trial completed without flags" in page
    assert "No method has a sound trial in both studies." in page
    assert difference_table(Side(label="one", table=one), Side(label="none", table=none)).rows == ()


def test_a_side_that_is_itself_mixed_is_refused() -> None:
    mixed = as_table([result_row(0), result_row(1, eval_epsilon=0.2)])
    with pytest.raises(MixedStudiesError, match="eval_epsilon"):
        build_comparison(side("a"), Side(label="b", table=mixed))
