"""The paper's columns on test, of trials that validation chose: `table_test`, and the same in the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.heldout.measurements import doubts_on_test, lipschitz_row, settings_phrase, uses_lines
from analysis.heldout.members import HeldoutResults, curse_lines
from analysis.tables.grid_table import MEASURES, Line, line_of, measure_columns, write_forms
from analysis.tables.text_table import TextTable
from analysis.wording import LOWER_BOUND, radius

NAME = "table_test"
"""The files' name."""

_OTHERWISE = "not measured on test as on validation"


def chosen_lines(found: HeldoutResults, /) -> list[Line]:
    """Return a line for each member, in the members' order, gaps being train minus test.

    The Lipschitz estimate is that of most images, of the member's own checkpoint at the study's radius.
    """
    from analysis.method_styles import styles_for

    styles = styles_for(one.result["method"] for one in found.members)
    lines = []
    for one in found.members:
        row = one.result
        line = line_of(row, label=styles[row["method"]].label, split="test", test=one.test)
        doubts = [f"flagged: {', '.join(row['flags'])}"] if row["flags"] else []
        flags = doubts_on_test(row, found.evaluations)
        doubts += [f"flagged on test: {', '.join(flags)}"] if flags else []
        doubts += [] if one.test is not None else [_OTHERWISE]
        lines.append(replace(line, lipschitz=one.lipschitz, remark="; ".join(doubts)))
    return lines


def chosen_table(found: HeldoutResults, /) -> TextTable:
    """Return the members in the paper's columns on test; nobody is chosen anew."""
    rows = []
    for one, line in zip(found.members, chosen_lines(found), strict=True):
        trial, epsilon = line.trial, one.result["train_epsilon"]
        shown = [str(line.measures[name]) if name in line.measures else "" for name in MEASURES]
        estimate = found.lipschitz.get(trial)
        ends = "" if estimate is None else f" [{estimate.low:.4g}, {estimate.high:.4g}]"
        smooth = "" if line.lipschitz is None else f"{line.lipschitz:.4g}{ends}"
        settings = (line.texts["method"], line.texts["strength"], None if epsilon is None else radius(epsilon))
        rows.append(
            (trial, *settings, line.dropout, *shown[:3], smooth, *shown[3:], _chosen(found, trial), line.remark)
        )
    headings = ("trial", "method", "strength", "train ε", "dropout", "train acc.", "test acc.", "adv. test acc.")
    return TextTable(
        title="Chosen on validation, in the paper's columns on test",
        headings=(*headings, "test Lipschitz", "gap", "adv. gap", "chosen", "remark"),
        formats=("", "", "", "", ".3g", *("",) * 8),
        rows=tuple(rows),
        notes=(
            "fractions with 95 % intervals of the examples (Wilson; gaps by Newcombe's, Lipschitz mean ± 1.96 standard "
            "errors); gap: train - test; adv. gap: adv. train - adv. test",
            f"adv.: {_measured(found)}; Lipschitz: mean, {LOWER_BOUND}",
            *curse_lines(found),
            *([f"chosen on validation too, not measured on test: {', '.join(found.waiting)}"] if found.waiting else []),
            _provenance(found),
        ),
    )


def write_chosen_table(found: HeldoutResults, out_dir: str | Path, /) -> list[Path]:
    """Write the table as `table_test.md`, `.tex`, `.csv` and `.parquet`, the last two with the ends as columns.

    Returns:
        The files written.
    """
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return write_forms(chosen_table(found), _columns(found, chosen_lines(found)), folder, name=NAME)


def _columns(found: HeldoutResults, lines: Sequence[Line]) -> dict[str, list[Any]]:
    texts = ("study", "dataset", "model", "method", "strength")
    columns: dict[str, list[Any]] = {"trial": [line.trial for line in lines]}
    columns |= {name: [line.texts[name] for line in lines] for name in texts}
    columns["train_epsilon"] = [one.result["train_epsilon"] for one in found.members]
    columns["dropout"] = [line.dropout for line in lines]
    columns["chosen"] = [_chosen(found, line.trial) for line in lines]
    columns["split"] = ["test"] * len(lines)
    columns["examples"] = [None if one.test is None else one.test["examples"] for one in found.members]
    columns |= measure_columns(lines)
    columns["lipschitz"] = [line.lipschitz for line in lines]
    known = [found.lipschitz.get(line.trial) for line in lines]
    columns["lipschitz_low"] = [None if entry is None else entry.low for entry in known]
    columns["lipschitz_high"] = [None if entry is None else entry.high for entry in known]
    sources = [lipschitz_row(one.result, found.evaluations) for one in found.members]
    columns["lipschitz_examples"] = [None if row is None else row["lipschitz_examples"] for row in sources]
    columns["remark"] = [line.remark for line in lines]
    return columns


def _chosen(found: HeldoutResults, trial: str) -> str:
    return "front" if trial in found.chosen else "by name"


def _measured(found: HeldoutResults) -> str:
    tests = [one.test for one in found.members if one.test is not None]
    return " | ".join(dict.fromkeys(map(settings_phrase, tests))) or _OTHERWISE


def _provenance(found: HeldoutResults) -> str:
    rows = [one.result for one in found.members]
    parts = [", ".join(dict.fromkeys(str(row[name]) for row in rows)) for name in ("study", "dataset", "model")]
    return f"study {parts[0]} · {parts[1]} · {parts[2]} · {uses_lines(found.evaluations)[0]}"
