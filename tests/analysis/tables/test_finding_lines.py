"""What a study found, in words: the numbers are those of the report, and the words follow their signs."""

from __future__ import annotations

import pytest
from helpers.studies.synthetic_results import as_table, result_row, study_rows

from analysis.fronts.front import front_of
from analysis.report.summary import summary_lines
from analysis.statistics.association import lipschitz_associations, random_share, why_no_association
from analysis.tables.finding_lines import finding_lines

LOST = {"status": "failed", "reason": "diverged", "val_clean_accuracy": None, "val_robust_accuracy": None}


def associated(*, slope: float, scale_free: int = 2, count: int = 24) -> list[dict[str, object]]:
    """Random proposals whose robust accuracy rises or falls with their Lipschitz estimate, or does neither."""
    rows = []
    for number in range(count):
        robust = 0.5 + slope * (number - count / 2) / count + (0.01 if number % 2 else -0.01)
        measured = {
            "val_lipschitz_mean": 1.0 + number,
            "val_lipschitz_scale_free_mean": 3.0 + (1 + number) ** scale_free,
        }
        rows.append(result_row(number, val_robust_accuracy=robust, proposal="random", **measured))
    return rows


def test_the_ends_are_those_of_the_report_and_the_correlation_is_that_of_its_chart() -> None:
    table = as_table(study_rows(80, seed=3))
    lines, report = finding_lines(table), "\n".join(summary_lines(table))
    assert max(map(len, lines)) < 110
    front = front_of(table).to_pylist()
    assert lines[0].startswith(f"The front has {len(front)} members. Its clean end is trial {front[0]['trial_id']} (")
    assert lines[1].startswith(f"its robust end trial {front[-1]['trial_id']} (")
    for line, row in ((lines[0], front[0]), (lines[1], front[-1])):
        numbers = f"{row['val_clean_accuracy']:.1%} clean, {row['val_robust_accuracy']:.1%} robust"
        assert numbers in line
        assert numbers in report
    rows = {(row.of, row.outcome, row.among): row.found for row in lipschitz_associations(random_share(table))}
    for among, line in (("all methods", lines[-3]), ("within method", lines[-2])):
        for measure in ("raw", "scale-free"):
            assert f"{measure} {rows[measure, 'robust accuracy', among].signed(digits=2)}" in line


def test_the_most_robust_at_the_clean_floor_is_named_where_it_is_no_end() -> None:
    points = [(0.98, 0.1), (0.94, 0.5), (0.6, 0.7)]
    rows = [result_row(n, val_clean_accuracy=c, val_robust_accuracy=r) for n, (c, r) in enumerate(points)]
    line = "With at least 93% clean, the most robust is trial t00001 (natural: 94.0% clean, 50.0% robust)."
    assert finding_lines(as_table(rows))[2] == line
    assert line not in finding_lines(as_table(rows[:2]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"slope": -0.5}, "Over all, the smoother networks are the more robust ones."),
        ({"slope": 0.5}, "Over all, the smoother networks are the less robust ones."),
        ({"slope": 0.0}, "That smoother networks are more robust, or less, is not shown by both measures."),
        (
            {"slope": 0.5, "scale_free": -1},
            "That smoother networks are more robust, or less, is not shown by both measures.",
        ),
    ],
)
def test_the_words_follow_the_intervals_of_both_measures(options: dict[str, float], words: str) -> None:
    assert finding_lines(as_table(associated(**options)))[-1] == words


def test_what_cannot_be_said_has_a_reason() -> None:
    lost, single = as_table([result_row(0, **LOST)]), as_table([result_row(0, proposal="random")])
    assert finding_lines(lost) == [
        "There is no front: no trial completed without flags and with both accuracies measured.",
        why_no_association(lost),
    ]
    first, last = finding_lines(single)
    assert first == "The front has one member, trial t00000 (natural: 90.0% clean, 50.0% robust)."
    assert last == why_no_association(single)


def test_short_names_are_those_of_the_figures() -> None:
    table = as_table([result_row(0, method="adversarial_training"), result_row(1, method="own.module:Mine")])
    assert "(AT: 90.0% clean" in finding_lines(table)[0]
    assert "(Mine: 90.0% clean" in finding_lines(table)[1]
