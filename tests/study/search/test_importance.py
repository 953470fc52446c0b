"""Importance of hyperparameters: the trials it is computed from, and its text in the report."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.studies.pages import page_of, text_of
from helpers.studies.synthetic_results import as_table, result_row

from analysis.fronts.front import front_of
from analysis.statistics.importance import LEAST, NEAR_FRONT
from analysis.tables.importance import within_table
from study.search.importance import (
    importance_near_front,
    importance_of,
    importance_within,
    importances,
    objectives_shown,
)


def test_importance_finds_what_matters() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(80):
        dropout, lr = float(rng.random()), float(rng.random())
        changes = {"param.dropout": dropout, "param.lr": lr, "val_clean_accuracy": 0.9 - 0.3 * dropout}
        rows.append(result_row(number, **changes))
    shares = importances(rows, ["val_clean_accuracy"])["val_clean_accuracy"]
    assert next(iter(shares)) == "param.dropout"
    assert shares["param.dropout"] > 0.9
    assert importances(rows[: LEAST - 1], ["val_clean_accuracy"]) == {}
    assert importances(rows, ["val_robust_accuracy"]) == {}


def test_importance_leaves_out_interactions_and_describes_its_trials() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(120):
        dropout, lr = float(rng.random()), float(rng.random())
        together = 0.5 + 0.3 * (1 if (dropout > 0.5) == (lr > 0.5) else -1)
        changes = {"param.dropout": dropout, "param.lr": lr, "val_clean_accuracy": together}
        rows.append(result_row(number, proposal="random" if number < LEAST - 1 else "sampler", **changes))
    shares, words = importance_of(as_table(rows))
    assert sum(shares["val_clean_accuracy"].values()) < 0.6
    assert words.startswith("n = 120 completed, unflagged trials, including the sampler's own (only 19 were proposed")
    words = importance_of(as_table([{**row, "proposal": "random"} for row in rows[:40]]))[1]
    assert words == "n = 40 trials proposed independently of results"
    text = text_of(page_of(rows, importance=shares, importance_sample=words))
    assert "From n = 40 trials proposed independently of results." in text
    assert f"feasible and measured in both accuracies; this study has {LEAST - 1}." in " ".join(text.split())


@pytest.mark.long
def test_importance_near_the_front_finds_what_moves_trials_along_with_it_and_what_behind_it() -> None:
    """The radius trades one accuracy for the other, along the front; the learning rate costs both."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(80):
        radius, lr = float(rng.random()), float(rng.random())
        clean, robust = 0.9 - 0.3 * radius - 0.2 * lr, 0.4 * radius + 0.5 - 0.2 * lr
        accuracies = {"val_clean_accuracy": clean, "val_robust_accuracy": robust}
        rows.append(result_row(number, train_epsilon=radius, **{"param.lr": lr}, **accuracies, proposal="random"))
    of_one = importances(rows, ["val_clean_accuracy"])["val_clean_accuracy"]
    assert next(iter(of_one)) == "train_epsilon"
    near = importance_near_front(as_table(rows))
    assert ["fANOVA" in name for name in near] == [True, False]
    on_front = front_of(as_table(rows)).num_rows
    assert on_front > 8  # the whole front is at the same distance
    assert f"among the {on_front} nearest to the front of 80 trials (PED-ANOVA)" in list(near)[1]
    for shares in near.values():
        assert next(iter(shares)) == "param.lr"
        assert shares["param.lr"] > 0.7
    assert sum(list(near.values())[1].values()) == pytest.approx(1)
    assert importance_near_front(as_table([row | {"proposal": "sampler"} for row in rows])) == {}
    assert importance_near_front(as_table(rows[: LEAST - 1])) == {}
    constrained = [row | {"constraints": '["val_clean_accuracy >= 0.85"]'} for row in rows]
    fitting = sum(row["val_clean_accuracy"] >= 0.85 for row in rows)
    assert 0 < fitting < LEAST
    needs = f"needs {LEAST} sound trials proposed independently of results, feasible and measured in both accuracies"
    page = " ".join(text_of(page_of(constrained, importance={"val_clean_accuracy": {"param.lr": 1.0}})).split())
    assert f"{needs}; this study has {fitting}." in page
    text = text_of(page_of(rows, near_front=near))
    assert "Importance for being near the front" in text


def test_a_few_collapsed_trials_do_not_decide_what_matters_near_the_front() -> None:
    """Two of 60 are at chance, by their method; among the others the learning rate alone costs accuracy."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(60):
        lr, collapsed = float(rng.random()), number in (7, 40)
        clean = 0.1 if collapsed else 0.9 - 0.1 * lr
        changes = {"param.lr": lr, "val_clean_accuracy": clean, "val_robust_accuracy": clean - 0.1}
        rows.append(result_row(number, method="natural" if collapsed else "trades", proposal="random", **changes))
    shares = next(iter(importance_near_front(as_table(rows)).values()))
    assert shares["param.lr"] > 0.8 > 0.2 > shares["method"]


def test_equally_near_trials_have_no_importance_for_being_near_and_the_report_says_why() -> None:
    rows = [result_row(n, method=("natural", "trades")[n % 2], proposal="random") for n in range(LEAST)]
    assert importance_near_front(as_table(rows)) == {}
    page = text_of(page_of(rows, importance={"val_lipschitz_log10": {"method": 1.0}}))
    assert f"The {LEAST} trials that were proposed independently of results are equally near" in " ".join(page.split())


def test_where_all_trials_are_as_near_none_is_told_from_the_others() -> None:
    rows = [
        result_row(n, method=("natural", "trades")[n % 2], proposal="grid", val_clean_accuracy=0.9,
                   val_robust_accuracy=0.5 + 0.4 * (n < 3), **{"param.dropout": 0.5 * (n % 3 == 0)})
        for n in range(48)
    ]  # fmt: skip
    assert ["fANOVA" in name for name in importance_near_front(as_table(rows))] == [True]


def test_a_settings_few_values_are_choices_whose_chance_differences_are_no_importance() -> None:
    rows = []
    for number in range(60):
        method = ("natural", "trades")[number % 2]
        robust = 0.3 + 0.3 * (method == "trades") + 0.01 * (number % 7)
        changes = {"param.dropout": 0.5 * (number % 3 == 0), "val_clean_accuracy": 0.9 + 0.001 * (number % 5)}
        rows.append(result_row(number, method=method, val_robust_accuracy=robust, proposal="grid", **changes))
    for shares in importance_near_front(as_table(rows)).values():
        assert next(iter(shares)) == "method"


SMOOTH = """
name: smooth
dataset: {name: digits}
search: {space: core, objectives: [val_clean_accuracy, val_lipschitz_log10]}
"""


def test_importance_within_a_method_covers_its_own_settings_and_names_methods_with_too_few_trials(tmp_path) -> None:
    rng = np.random.default_rng(1)
    rows = []
    for number in range(2 * LEAST + 5):
        method = "natural" if number < 5 else "trades"
        beta, epsilon, dropout = (float(rng.random()) for _ in range(3))
        settings = {"param.beta": beta, "train_epsilon": epsilon} if method == "trades" else {"train_epsilon": None}
        changes = {"param.dropout": dropout, "val_clean_accuracy": 0.9 - 0.3 * epsilon}
        rows.append(result_row(number, method=method, proposal="random", **changes, **settings))
    assert "train_epsilon" not in importance_of(as_table(rows))[0]["val_clean_accuracy"]
    few, many = importance_within(as_table(rows))
    assert (few.method, few.trials, few.shares) == ("natural", 5, {})
    assert (many.method, many.trials, many.independent) == ("trades", 2 * LEAST, True)
    # clean accuracy is a function of the radius alone, robust accuracy is a constant, so the most accurate is the front
    assert list(many.shares) == ["val_clean_accuracy", NEAR_FRONT]
    assert many.shares[NEAR_FRONT]["train_epsilon"] > 0.8
    assert many.shares["val_clean_accuracy"]["train_epsilon"] > 0.8
    assert set(many.shares["val_clean_accuracy"]) == {"train_epsilon", "param.beta", "param.dropout"}
    table, methods = within_table([few, many])
    assert table.rows[0][:3] == ("trades", f"n = {2 * LEAST}", "training radius ε")
    assert methods == ["trades"] * 3
    assert table.headings[3:] == ("clean accuracy (val)", "rank by distance to the front (val)")
    text = text_of(page_of(rows, importance_within=[few, many]))
    assert "fewer than 20 sound trials or no setting that varies: natural (5)" in text
    sampled = as_table([row | {"proposal": "sampler"} for row in rows])
    assert [(method.trials, method.independent) for method in importance_within(sampled)] == [
        (5, False),
        (2 * LEAST, False),
    ]
    assert objectives_shown([tmp_path]) == (
        "val_clean_accuracy",
        "val_robust_accuracy",
        "val_lipschitz_scale_free_log10",
    )
