"""The paper's columns on test for trials chosen on validation: `table_test`, also in the report."""

from __future__ import annotations

from pathlib import Path

from analysis.heldout.confirmation import ConfirmedMember
from analysis.heldout.measurements import doubts_on_test, lipschitz_row, settings_phrase, uses_lines
from analysis.heldout.members import HeldoutResults, curse_lines
from analysis.method_styles import styles_for
from analysis.tables.accuracy_lines import (
    MEASURES,
    SETTINGS,
    Line,
    flag_remarks,
    line_columns,
    line_table,
    measures_of,
    trial_cells,
)
from analysis.tables.text_table import TextTable, write_forms
from analysis.wording import LOWER_BOUND, radius

NAME = "table_test"
"""Stem of the files' names."""

_OTHERWISE = "not measured on test as on validation"

_HEADINGS = {
    "trial": "trial", "method": "method", "strength": "strength", "radius": "train ε", "dropout": "dropout",
    "train_accuracy": "train acc.", "accuracy": "test acc.", "robust_accuracy": "adv. test acc.",
    "smoothness": "test Lipschitz", "gap": "gap", "adversarial_gap": "adv. gap", "chosen": "chosen", "remark": "remark",
}  # fmt: skip

_COLUMNS = (
    "trial", *SETTINGS, "train_epsilon", "dropout", "chosen", "split", "examples", *MEASURES,
    "lipschitz", "lipschitz_low", "lipschitz_high", "lipschitz_examples", "remark",
)  # fmt: skip


def chosen_lines(on_test: HeldoutResults, /) -> list[Line]:
    """Return a line for each member, in the members' order, gaps being train minus test.

    The Lipschitz estimate is the one with most images, of the member's own checkpoint at the study's radius.
    """
    styles = styles_for(one.result["method"] for one in on_test.members)
    return [_line(one, on_test, label=styles[one.result["method"]].label) for one in on_test.members]


def _line(one: ConfirmedMember, on_test: HeldoutResults, *, label: str) -> Line:
    row, test, epsilon = one.result, one.test, one.result["train_epsilon"]
    interval, source = on_test.lipschitz.get(row["trial_id"]), lipschitz_row(row, on_test.evaluations)
    ends = "" if interval is None else f" [{interval.low:.4g}, {interval.high:.4g}]"
    remarks = flag_remarks(row, doubts_on_test(row, on_test.evaluations))
    return Line(
        cells=trial_cells(row, label=label)
        | {
            "train_epsilon": epsilon,
            "radius": None if epsilon is None else radius(epsilon),
            "chosen": "front" if row["trial_id"] in on_test.chosen else "by name",
            "split": "test",
            "examples": None if test is None else test["examples"],
            "lipschitz": one.lipschitz,
            "lipschitz_low": None if interval is None else interval.low,
            "lipschitz_high": None if interval is None else interval.high,
            "lipschitz_examples": None if source is None else source["lipschitz_examples"],
            "smoothness": "" if one.lipschitz is None else f"{one.lipschitz:.4g}{ends}",
            "remark": "; ".join(remarks if test is not None else [*remarks, _OTHERWISE]),
        },
        measures=measures_of(row, test),
    )


def chosen_table(on_test: HeldoutResults, /) -> TextTable:
    """Return the members in the paper's columns on test; the choice is not changed."""
    return line_table(
        "Chosen on validation, in the paper's columns on test",
        chosen_lines(on_test),
        _HEADINGS,
        formats={"dropout": ".3g"},
        notes=(
            "fractions with 95 % intervals of the examples (Wilson; gaps by Newcombe's, Lipschitz mean ± 1.96 standard "
            "errors); gap: train - test; adv. gap: adv. train - adv. test",
            f"adv.: {_measured(on_test)}; Lipschitz: mean, {LOWER_BOUND}",
            *curse_lines(on_test),
            *[f"chosen on validation too, not measured on test: {', '.join(on_test.waiting)}"] * bool(on_test.waiting),
            _provenance(on_test),
        ),
    )


def write_chosen_table(on_test: HeldoutResults, out_dir: str | Path, /) -> list[Path]:
    """Write the table as `table_test.md`, `.tex`, `.csv` and `.parquet`, the last two with interval ends as columns.

    Returns:
        The files written.
    """
    return write_forms(chosen_table(on_test), line_columns(chosen_lines(on_test), _COLUMNS), out_dir, name=NAME)


def _measured(on_test: HeldoutResults) -> str:
    tests = [one.test for one in on_test.members if one.test is not None]
    return " | ".join(dict.fromkeys(map(settings_phrase, tests))) or _OTHERWISE


def _provenance(on_test: HeldoutResults) -> str:
    rows = [one.result for one in on_test.members]
    parts = [", ".join(dict.fromkeys(str(row[name]) for row in rows)) for name in ("study", "dataset", "model")]
    return f"study {parts[0]} · {parts[1]} · {parts[2]} · {uses_lines(on_test.evaluations)[0]}"
