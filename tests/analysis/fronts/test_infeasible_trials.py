"""Trials that miss a constraint: never on the front, counted like failed and flagged ones, with their own front."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from helpers.studies.synthetic_results import as_table, result_row, study_rows

from analysis.fronts.front import feasible, front_of, on_infeasible_front
from analysis.fronts.objectives import FRONT, infeasible, values
from analysis.material import StudyMaterial
from analysis.plots.trials.front_view import pareto_view
from analysis.plots.trials.interactive import front_chart, hover_texts
from analysis.report.comparison_page import build_comparison
from analysis.report.page import build_report
from analysis.tables.front_table import front_table, pareto_csv
from analysis.tables.paper_table import paper_lines, paper_table
from analysis.wording import count, provenance, why_no_front
from study.errors import UsageError
from study.evaluation.selection import chosen_members

BOUND = "val_clean_accuracy >= 0.9"


def bounded(bound: str, *pairs: tuple[float, float], **changes):
    """Return rows under one constraint, a pair of clean and robust accuracy each."""
    shared = {"constraints": json.dumps([bound]), **changes}
    return [
        result_row(n, val_clean_accuracy=clean, val_robust_accuracy=robust, **shared)
        for n, (clean, robust) in enumerate(pairs)
    ]


SOME = bounded(BOUND, (0.95, 0.2), (0.8, 0.6), (0.85, 0.5), (0.7, 0.4))
SOME += [result_row(4, constraints=json.dumps([BOUND]), val_clean_accuracy=0.5, flags=["noisy"])]
NONE = bounded("val_clean_accuracy >= 0.99", (0.95, 0.2), (0.8, 0.6))


def test_the_infeasible_have_a_front_of_their_own_as_brute_force_finds_it() -> None:
    rows = [{**row, "constraints": json.dumps([BOUND])} for row in study_rows(120, seed=5)]
    table = as_table(rows)
    points, apart = values(table, FRONT), infeasible(table)
    assert 10 < apart.sum() < 110
    assert not (apart & feasible(table)).any()
    expected = [
        bool(apart[i])
        and not any(
            (points[j] >= points[i]).all() and (points[j] > points[i]).any() for j in np.flatnonzero(apart) if j != i
        )
        for i in range(len(points))
    ]
    assert on_infeasible_front(table).tolist() == expected


def test_they_are_counted_beside_the_failed_and_the_flagged() -> None:
    table = as_table(SOME)
    assert (count(table).flagged, count(table).infeasible) == (1, 3)
    assert "n = 5 trials (0 failed, 1 flagged, 3 infeasible)" in provenance(table)
    (line,) = paper_lines(table)
    assert [line.cells[name] for name in ("trials", "failed", "flagged", "infeasible")] == [5, 0, 1, 3]
    shown = paper_table(table)
    assert dict(zip(shown.headings, shown.rows[0], strict=True))["infeasible"] == 3
    page = build_report(StudyMaterial(table=table))
    assert "3 without flags but missed val_clean_accuracy &gt;= 0.9." in page
    assert "The front of the infeasible trials alone" in page
    assert '<th scope="col" class="number">infeasible</th>' in page


def test_the_front_names_them_and_its_data_marks_them() -> None:
    table = as_table(SOME)
    assert front_of(table)["trial_id"].to_pylist() == ["t00000"]
    note = "3 trials missed val_clean_accuracy >= 0.9; non-dominated among themselves: t00001, t00002"
    assert note in front_table(table).markdown()
    rows = list(csv.DictReader(io.StringIO(pareto_csv(table))))
    assert [row["feasible"] for row in rows] == ["True", "False", "False", "False", "False"]
    assert [row["on_infeasible_front"] for row in rows] == ["False", "True", "True", "False", "False"]
    assert pareto_view(table).infeasible_front.tolist() == [False, True, True, False, False]
    (stairs,) = [trace for trace in front_chart(pareto_view(table)).data if trace.name == "front of infeasible trials"]
    assert set(zip(stairs.x, stairs.y, strict=True)) >= {(0.8, 0.6), (0.85, 0.5)}
    assert hover_texts(table)[1].endswith("infeasible: missed val_clean_accuracy &gt;= 0.9")


def test_without_a_feasible_trial_the_constraint_is_named(tmp_path) -> None:
    table = as_table(NONE)
    reason = "2 trials completed without flags but missed val_clean_accuracy >= 0.99, and no other completed"
    assert why_no_front(table).startswith(reason)
    page = build_report(StudyMaterial(table=table))
    assert reason.replace(">", "&gt;") in page
    assert "No trial completed" not in page
    with pytest.raises(UsageError, match=r"has no front yet \(2 trials completed without flags but missed"):
        chosen_members(tmp_path, table, most=3)
    assert "infeasible, never on the front: 2 trials" in front_table(table).markdown()
    assert why_no_front(as_table([])) == "no trial completed without flags and with both accuracies measured"


def test_a_comparison_of_two_studies_names_them_too() -> None:
    from analysis.tables.comparison import Side

    sides = [Side(label=label, table=as_table(rows), config={}) for label, rows in (("a", NONE), ("b", SOME))]
    page = build_comparison(*sides)
    assert "a: 2 trials completed without flags but missed val_clean_accuracy &gt;= 0.99" in page
    assert ">infeasible</th>" in page
