"""Dominance between members of a front: probabilities counted by hand, the cap, and missing posteriors."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from helpers.studies.synthetic_results import as_table, result_row

from analysis.plots.trials.pareto import write_pareto
from analysis.statistics.front_posterior import FrontPosterior
from analysis.tables.dominance import SHOWN, dominance, dominance_csv, dominance_table


def study_of(count: int):
    """A front of `count` trials and what two draws say of it: each as measured, then the later the better in both."""
    shares = np.linspace(0.2, 0.8, count)
    rows = [
        result_row(n, val_clean_accuracy=0.95 - 0.5 * share, val_robust_accuracy=0.4 * share)
        for n, share in enumerate(shares)
    ]
    measured = np.stack([0.95 - 0.5 * shares, 0.4 * shares], axis=1)
    drawn = np.stack([measured, np.stack([shares, shares], axis=1)])
    ids = tuple(row["trial_id"] for row in rows)
    return as_table(rows), FrontPosterior(trials=ids, drawn=drawn, probability=np.full(count, 0.5), left_out=0)


def test_a_member_dominates_in_as_many_draws_as_it_is_better_in_both() -> None:
    table, belief = study_of(3)
    found = dominance(belief, ("t00000", "t00002"))
    assert found[1, 0] == pytest.approx(0.5)
    assert found[0, 1] == 0.0
    assert np.isnan(np.diag(found)).all()
    shown = dominance_table(table, belief)
    assert shown is not None
    assert shown.headings == ("trial", "t00000", "t00001", "t00002")
    assert [row[1:] for row in shown.cells()] == [["-", "0.00", "0.00"], ["0.50", "-", "0.00"], ["0.50", "0.50", "-"]]


def test_a_long_front_is_capped_in_the_table_and_whole_in_the_data(tmp_path) -> None:
    table, belief = study_of(SHOWN + 4)
    shown = dominance_table(table, belief)
    assert shown is not None
    assert len(shown.rows) == SHOWN
    assert {"t00000", f"t000{SHOWN + 3}"} <= set(shown.headings)
    assert "4 more are not shown" in shown.notes[0]
    lines = list(csv.reader(io.StringIO(dominance_csv(table, belief))))
    assert {len(line) for line in lines} == {SHOWN + 5} == {len(lines)}
    written = write_pareto(table, tmp_path, formats=[], belief=belief)
    assert written[-1].name == "pareto_dominance.csv"
    three = ["val_clean_accuracy", "val_robust_accuracy", "val_lipschitz_log10"]
    assert len(write_pareto(table, tmp_path, formats=[], objectives=three, belief=belief)) == 1


def test_nothing_is_said_of_an_undecided_front(tmp_path) -> None:
    table, belief = study_of(3)
    undecided = replace(belief, decided=False)
    assert dominance_table(table, undecided) is None
    assert dominance_csv(table, undecided).split() == ["trial_id"]
    assert write_pareto(table, tmp_path, formats=[], belief=undecided)


def test_nothing_is_said_without_outcomes_or_of_one_member() -> None:
    table, belief = study_of(3)
    assert dominance_table(table, None) is None
    assert dominance_table(table.slice(0, 1), belief) is None
