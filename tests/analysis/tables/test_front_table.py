"""The front as a table, and the wording tables and figures share."""

from __future__ import annotations

import csv
import io
import math
import re

import numpy as np
import pytest
from helpers.studies.synthetic_results import as_table, result_row, study_rows
from rich.console import Console

from analysis.fronts.front import MixedStudiesError, front_of, with_mixed_allowed
from analysis.statistics.front_posterior import UNDECIDED, FrontPosterior
from analysis.statistics.intervals import wilson_interval
from analysis.tables.front_table import front_table, method_fronts_table, pareto_csv
from analysis.tables.text_table import TextTable, csv_text
from analysis.wording import count, measured_by, own_parameters, provenance, radius

TRADE_OFF = [
    result_row(0, val_clean_accuracy=0.91234, val_robust_accuracy=0.25, **{"param.lambda": None}),
    result_row(
        1,
        method="trades",
        train_epsilon=8 / 255,
        val_clean_accuracy=0.8,
        val_robust_accuracy=0.5,
        val_lipschitz_mean=None,
        **{"param.beta": 6.0, "param.dropout": 0.25},
    ),
    result_row(2, val_clean_accuracy=0.7, val_robust_accuracy=0.1),
    result_row(3, status="failed", reason="diverged", val_clean_accuracy=None, val_robust_accuracy=None),
]


def test_front_table_shows_members_and_how_they_were_measured() -> None:
    shown = front_table(as_table(TRADE_OFF))
    assert shown.cells() == [
        ["t00000", "natural", "0.100", "-", "-", "0.9123", "0.2500", "10"],
        ["t00001", "trades", "0.250", "beta 6", "0.0314", "0.8000", "0.5000", "-"],
    ]
    text = shown.markdown()
    assert text.startswith("**Front on validation: 2 members of 4 trials**\n")
    volume = 0.8 * 0.5 + (0.91234 - 0.8) * 0.25
    assert f"hypervolume {volume:.4f} over (clean, robust), reference point (0, 0)" in text
    assert "PGD, 10 steps, 1 restart" in text
    assert "ε = 0.1; Lipschitz: mean, empirical local Lipschitz, lower bound" in text
    assert "study toy · digits · n = 4 trials (1 failed, 0 flagged)" in text


def test_certified_accuracy_as_an_objective_is_shown_as_the_front_takes_it() -> None:
    """0 where bounds were asked for and prove nothing."""
    rows = [
        result_row(0, certify="ibp", val_certified_accuracy=0.25, val_clean_accuracy=0.8),
        result_row(1, certify="ibp", val_certified_accuracy=None, val_clean_accuracy=0.9),
    ]
    shown = front_table(as_table(rows), objectives=("val_clean_accuracy", "val_certified_accuracy"))
    place = shown.headings.index("certified (val)")
    assert shown.headings.count("certified (val)") == 1
    assert [cells[place] for cells in shown.cells()] == ["0.0000", "0.2500"]


def test_a_collapsed_network_on_a_front_with_lipschitzness_is_called_so() -> None:
    rows = [result_row(0), result_row(1, val_clean_accuracy=0.1, val_robust_accuracy=0.1, val_lipschitz_mean=0.0)]
    named = "smooth but of little use, clean accuracy below half of the best: t00001 (0.10);"
    over = ("val_clean_accuracy", "val_lipschitz_log10")
    assert any(note.startswith(named) for note in front_table(as_table(rows), objectives=over).notes)
    assert not any("smooth" in note for note in front_table(as_table(rows)).notes)


def test_front_table_says_how_sure_it_is() -> None:
    belief = FrontPosterior(
        trials=("t00000", "t00001", "t00002"),
        drawn=np.full((4, 3, 2), 0.5),
        probability=np.array([0.75, 1.0, 0.25]),
        left_out=0,
    )
    shown = front_table(as_table(TRADE_OFF), intervals=True, belief=belief)
    places = [shown.headings.index(name) for name in ("clean interval", "robust interval", "P(on front)")]
    low, high = wilson_interval(250, 1000)
    assert shown.cells()[0][places[1]] == f"[{low:.3f}, {high:.3f}]"
    assert [row[places[2]] for row in shown.cells()] == ["0.75", "1.00"]
    assert "of the true accuracies 0.250 [0.250, 0.250]" in shown.notes[0]
    assert "dominated as measured, P >= 0.1: t00002 (0.25)" in shown.notes
    first = next(csv.DictReader(io.StringIO(pareto_csv(as_table(TRADE_OFF), belief=belief))))
    assert (first["on_front_probability"], float(first["val_robust_accuracy_low"])) == ("0.75", float(low))
    other = front_table(as_table(TRADE_OFF), objectives=["val_clean_accuracy"], intervals=True, belief=belief)
    assert "P(on front)" not in other.headings


def test_an_undecided_front_has_a_line_in_place_of_probabilities() -> None:
    belief = FrontPosterior(
        trials=("t00000", "t00001"),
        drawn=np.full((4, 2, 2), 0.5),
        probability=np.ones(2),
        left_out=0,
        decided=False,
    )
    shown = front_table(as_table(TRADE_OFF), belief=belief)
    assert (UNDECIDED in shown.notes, "P(on front)" in shown.headings) == (True, False)
    assert "of the true accuracies 0.250 [0.250, 0.250]" in shown.notes[0]
    first = next(csv.DictReader(io.StringIO(pareto_csv(as_table(TRADE_OFF), belief=belief))))
    assert first["on_front_probability"] == ""


def test_each_method_has_a_front_of_its_own() -> None:
    rows = method_fronts_table(as_table([*TRADE_OFF, result_row(4, val_clean_accuracy=0.95)])).rows
    assert rows == (
        ("natural", 4, "t00004", pytest.approx(0.95 * 0.5)),
        ("trades", 1, "t00001", pytest.approx(0.8 * 0.5)),
    )


def test_flagged_trials_are_named_below_the_front() -> None:
    rows = [result_row(0), *(result_row(number, flags=["zero_gradient"]) for number in range(1, 8))]
    notes = front_table(as_table(rows)).notes
    assert any(note.startswith("flagged, never on the front: t00001 (zero_gradient), t00002 (") for note in notes)
    assert any(note.endswith(" and 2 more") for note in notes)
    assert not any("never" in note for note in front_table(as_table(TRADE_OFF)).notes)


def test_columns_line_up_in_a_terminal() -> None:
    table = front_table(as_table(study_rows(24, seed=3)))
    lines = printed_at(200, table)
    rule = next(place for place, line in enumerate(lines) if line.startswith("─"))
    rows = lines[rule + 1 : rule + 1 + len(table.rows)]
    for cells, line in zip(table.cells(), rows, strict=True):
        assert line.split() == " ".join(cells).split()
    ends = [[match.end() for match in re.finditer(r"\S+", line)][-4:] for line in rows]
    assert ends == [ends[0]] * len(rows)
    assert len({line.index(cells[1]) for cells, line in zip(table.cells(), rows, strict=True)}) == 1


def test_csv_keeps_full_precision_and_leaves_the_missing_empty() -> None:
    table = front_table(as_table(TRADE_OFF))
    rows = list(csv.DictReader(io.StringIO(csv_text(table.headings, table.rows))))
    assert float(rows[1]["train ε"]) == 8 / 255
    assert rows[1]["Lipschitz (val)"] == ""


def test_markdown_survives_a_bar_in_a_name() -> None:
    table = TextTable(title="t", headings=("a", "b"), formats=("", ".2f"), rows=(("x|y", math.nan),), notes=("n",))
    assert table.markdown().splitlines() == ["**t**", "", "| a | b |", "| :--- | ---: |", "| x\\|y | - |", "", "n  "]


def test_rich_shows_the_same_cells_and_no_markup_from_names() -> None:
    table = as_table([result_row(0, study="[red]toy", method="my_pkg.losses:Mine")])
    console = Console(width=200, file=io.StringIO(), color_system=None)
    console.print(front_table(table))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "my_pkg.losses:Mine" in printed
    assert "study [red]toy" in printed
    assert "0.9000" in printed


def test_eighty_columns_hold_every_number_whole() -> None:
    row = result_row(0, method="adversarial_training", train_epsilon=8 / 255, val_lipschitz_mean=1234.5)
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(front_table(as_table([row | {"param.beta": 6.125, "param.mu": 0.25}])))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "adversarial_training" in printed
    for number in ("0.100", "0.0314", "0.9000", "0.5000", "1234", "6.125"):
        assert number in printed
    assert "…" not in printed


def printed_at(width: int, table: TextTable) -> list[str]:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(table)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_a_terminal_folds_between_words_and_turns_a_table_that_is_too_wide_even_so() -> None:
    rows = tuple((f"t{n}", "autoattack, 200 images", 0.5 + n / 10, "0.904 [0.875, 0.927]") for n in range(3))
    headings = ("trial", "strongest attack", "robust", "its interval")
    table = TextTable(title="toy", headings=headings, formats=("", "", ".4f", ""), rows=rows, notes=("a note",))
    narrow = printed_at(33, table)
    assert [line.split() for line in narrow[4:7]] == [
        ["t0", "autoattack,", "0.5000", "0.904"],
        ["200", "images", "[0.875,"],
        ["0.927]"],
    ]
    assert max(map(len, narrow)) == 33
    turned = printed_at(30, table)
    assert [turned[0], turned[-1]] == ["toy", "a note"]
    assert [line.split() for line in turned if line.startswith(("trial", "robust"))] == [
        [heading, cell] for n in range(3) for heading, cell in (("trial", f"t{n}"), ("robust", f"{0.5 + n / 10:.4f}"))
    ]


def test_other_objectives_get_a_column_and_a_hypervolume() -> None:
    shown = front_table(as_table(TRADE_OFF), objectives=["val_robust_accuracy", "val_lipschitz_log10"])
    assert shown.title.startswith("Front on validation over val_robust_accuracy, val_lipschitz_log10: 1 member of")
    assert shown.headings[-1] == "val_lipschitz_log10"
    assert shown.cells()[0][-1] == "1.000"
    volume = "hypervolume 0.7500 over (val_robust_accuracy, val_lipschitz_log10), reference point (0, 4)"
    assert volume in shown.markdown()


@pytest.mark.parametrize(
    ("rows", "title"),
    [
        ([], "0 members of 0 trials"),
        ([result_row(0)], "1 member of 1 trial"),
        ([result_row(0, status="failed", val_clean_accuracy=None)], "0 members of 1 trial"),
    ],
)
def test_little_or_nothing_to_show(rows: list[dict[str, object]], title: str) -> None:
    shown = front_table(as_table(rows))
    assert title in shown.markdown()
    assert shown.markdown()


def test_several_studies_are_told_apart_and_mixed_ones_refused() -> None:
    two = as_table([result_row(0), result_row(1, study="other")])
    assert front_table(two).headings[0] == "study"
    mixed = as_table([result_row(0), result_row(1, eval_epsilon=0.2)])
    with pytest.raises(MixedStudiesError, match=r"eval_epsilon \(0\.1, 0\.2\)"):
        front_table(mixed)
    assert "ε = 0.1 | 0.2" in front_table(with_mixed_allowed(mixed)).markdown()


def test_figure_data_has_every_trial_and_marks_the_front() -> None:
    table = as_table(TRADE_OFF)
    rows = list(csv.DictReader(io.StringIO(pareto_csv(table))))
    assert [row["trial_id"] for row in rows if row["on_front"] == "True"] == front_of(table)["trial_id"].to_pylist()
    assert float(rows[0]["val_clean_accuracy"]) == 0.91234
    assert rows[3]["val_clean_accuracy"] == ""
    assert "seconds" not in rows[0]


@pytest.mark.parametrize(
    ("epsilon", "text"),
    [
        (0.0, "0"),
        (0.1, "0.1"),
        (0.125, "0.125"),
        (8 / 255, "8/255"),
        (1 / 255, "1/255"),
        (0.03137, "0.03137"),
        (1.0, "1"),
        (1 / 3, "85/255"),
        (math.pi / 10, "0.3142"),
    ],
)
def test_radius_reads_as_people_write_it(epsilon: float, text: str) -> None:
    assert radius(epsilon) == text


def test_counts_and_phrases() -> None:
    table = as_table(
        [
            result_row(0, status="failed", flags=["noisy"]),
            result_row(1, status="stopped_early"),
            result_row(2, flags=["noisy"], norm="l2", restarts=2, val_robust_accuracy=None),
            result_row(3, val_robust_accuracy=None),
            result_row(4, val_clean_accuracy=math.nan),
            result_row(5),
        ]
    )
    counts = count(table)
    assert (counts.trials, counts.failed, counts.stopped_early, counts.flagged, counts.unmeasured) == (6, 1, 1, 1, 2)
    assert str(counts) == "n = 6 trials (1 failed, 1 flagged, 1 stopped early, 2 not measured)"
    assert measured_by(table) == "PGD, 10 steps, 1 restart | 2 restarts, \u2113∞ | \u21132, ε = 0.1"
    assert provenance(as_table([])) == "n = 0 trials (0 failed, 0 flagged)"
    assert measured_by(as_table([])) == ""


def test_own_parameters_leave_out_what_every_method_has() -> None:
    row = {"param.beta": 6.0, "param.lr": 0.1, "param.mu": None, "param.lambda": 0.5, "seed": 1}
    assert own_parameters(row) == "beta 6, lambda 0.5"
    assert own_parameters({**row, "options": '{"variant": "as_run"}'}) == "beta 6, lambda 0.5, variant as_run"
    assert own_parameters({"param.ema": 0.9, "options": None}) == ""
