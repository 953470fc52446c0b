"""The paper's table: which trial a line shows, its intervals, counts, and the four files."""

from __future__ import annotations

import csv
import io

import pyarrow.parquet as pq
import pytest
from helpers.studies.synthetic_results import as_table, result_row, study_rows

from analysis.fronts.front import MixedStudiesError
from analysis.statistics.intervals import difference, wilson_interval
from analysis.tables.paper_table import paper_lines, paper_table, write_paper_table
from analysis.tables.text_table import TextTable

ROWS = [
    result_row(0, val_robust_accuracy=0.3, train_clean_accuracy=0.95, **{"param.dropout": 0.0}),
    result_row(
        1, val_robust_accuracy=0.4, train_clean_accuracy=0.96, train_robust_accuracy=0.55, **{"param.dropout": 0.0}
    ),
    result_row(2, val_robust_accuracy=0.9, flags=["noisy"], **{"param.dropout": 0.0}),
    result_row(3, status="failed", val_clean_accuracy=None, val_robust_accuracy=None, **{"param.dropout": 0.0}),
    result_row(4, method="trades", status="failed", val_robust_accuracy=None, **{"param.dropout": 0.5}),
]


def test_a_line_shows_the_most_robust_sound_trial_and_counts_the_rest() -> None:
    first, second = paper_lines(as_table(ROWS))
    assert [first.cells[name] for name in ("method", "dropout", "trial")] == ["natural", "0", "t00001"]
    assert [first.cells[name] for name in ("trials", "failed", "flagged")] == [4, 1, 1]
    low, high = wilson_interval(400, 1000)
    assert first.measures["robust_accuracy"].low == pytest.approx(float(low))
    assert first.measures["robust_accuracy"].high == pytest.approx(float(high))
    assert first.measures["gap"].value == pytest.approx(0.06)
    assert first.measures["adversarial_gap"].value == pytest.approx(0.15)
    assert [second.cells[name] for name in ("method", "dropout", "trial", "failed")] == ["trades", "0.5", None, 1]
    assert second.measures == {}


def test_many_values_of_dropout_fall_into_bands() -> None:
    rows = [result_row(n, **{"param.dropout": value}) for n, value in enumerate([0.0, 0.05, 0.1, 0.11, 0.45, 0.5])]
    assert {line.cells["dropout"]: line.cells["trials"] for line in paper_lines(as_table(rows))} == {
        "0": 1, "0-0.1": 2, "0.1-0.2": 1, "0.3-0.5": 2,
    }  # fmt: skip


def test_difference_is_newcombes_by_hand() -> None:
    """Newcombe 1998, example (56/70 against 48/80): difference 0.2, interval 0.0524 to 0.3339."""
    from analysis.statistics.intervals import accuracy_estimate

    found = difference(accuracy_estimate(56 / 70, 70), accuracy_estimate(48 / 80, 80))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


def test_the_four_files_hold_the_same_numbers(tmp_path) -> None:
    written = write_paper_table(as_table(study_rows(40)), tmp_path)
    assert [path.name for path in written] == ["table.md", "table.tex", "table.csv", "table.parquet"]
    parquet = pq.read_table(written[3]).to_pylist()
    plain = list(csv.DictReader(io.StringIO(written[2].read_text())))
    assert len(plain) == len(parquet) > 3
    for left, right in zip(plain, parquet, strict=True):
        assert left["method"] == right["method"]
        assert left["accuracy_low"] == ("" if right["accuracy_low"] is None else str(right["accuracy_low"]))
    tex = written[1].read_text()
    assert tex.count(r" \\") == len(plain) + 1
    assert r"\toprule" in tex
    assert r"adversarial\_training" in tex


def test_latex_escapes_what_latex_would_read() -> None:
    table = TextTable(title="t", headings=("a_b", "c"), formats=("", ".1f"), rows=(("50 % & \\x", 1.0),), notes=("ε",))
    assert table.latex().splitlines()[1:] == [
        r"\begin{tabular}{lr}", r"\toprule", r"a\_b & c \\", r"\midrule", r"50 \% \& \textbackslash{}x & 1.0 \\",
        r"\bottomrule", r"\end{tabular}", r"\par\smallskip{\footnotesize $\varepsilon$\par}",
    ]  # fmt: skip


def test_nothing_and_mixtures() -> None:
    assert paper_table(as_table([])).rows == ()
    with pytest.raises(MixedStudiesError):
        paper_table(as_table([result_row(0), result_row(1, eval_epsilon=0.2)]))
