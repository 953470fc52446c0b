"""The report's section on the front: its members, its growth, its accuracy over the radius."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from analysis.fronts.front import feasible, front_of, on_infeasible_front
from analysis.fronts.objectives import FRONT
from analysis.fronts.strong_attacks import StrongResult, strong_notes
from analysis.heldout.confirmation import KINDS
from analysis.material import StudyMaterial
from analysis.plots.studies.progress import last_is_best
from analysis.report.parts.charts import chart
from analysis.report.parts.html import paragraph, table_html
from analysis.statistics.front_posterior import UNDECIDED
from analysis.statistics.intervals import accuracy_of
from analysis.tables.dominance import dominance_table
from analysis.tables.front_table import (
    CERTIFIED_NOTE,
    FRONT_COLUMNS,
    Column,
    certified_column,
    column_table,
    infeasible_note,
)
from analysis.wording import why_no_front

LIKELY = 0.1
"""Least probability for which a dominated trial is shown; lower if a member's own is lower."""

SHOWN = 20
"""Most dominated trials shown, and most infeasible ones."""


def front_section(material: StudyMaterial, /, *, figures: Collection[str]) -> list[str]:
    """Return the section: the members, the hypervolume over the study, accuracy against the radius, best against last.

    Args:
        material: What is known of the study.
        figures: Names of the page's figures.
    """
    members = front_of(material.table).to_pylist()
    return [
        *(_members(material, members) if members else [paragraph(f"{_capital(why_no_front(material.table))}.")]),
        "<h3>Hypervolume over the study</h3>",
        *chart("growth", "Hypervolume of the front after each trial", figures=figures, instead="No trial has ended."),
        "<h3>Accuracy against the radius of the attack</h3>",
        *chart(
            "radii",
            "Robust accuracy of front members over the radius",
            figures=figures,
            note="Members of the front. Dotted: measured at 0 and at the study's own radius only, which is dashed. "
            "Grey, where the separation of the data set is known: the radii at which an accurate and robust classifier "
            "exists.",
            instead="No member of the front was measured at other radii.",
        ),
        "<h3>Best checkpoint against the last</h3>",
        *chart(
            "best",
            "Best checkpoint over the last one",
            figures=figures,
            note="Best: the measured epoch of highest robust accuracy on validation, so its own value is flattered; "
            "every other number of this page is the last checkpoint's.",
            instead="In every trial the last epoch is the best of those measured, so the two are the same; a smaller "
            "`evaluation.every` measures more of them."
            if last_is_best(material.table)
            else "No trial has a best checkpoint that was measured, so the two cannot be compared.",
        ),
    ]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _members(material: StudyMaterial, members: list[dict[str, Any]]) -> list[str]:
    """Return the front's members, the dominated trials that may be members, and the infeasible ones as tables."""
    table, chance = material.table, material.probabilities()
    ids = {row["trial_id"] for row in members}
    least = min([LIKELY, *(chance[trial] for trial in ids if trial in chance)])
    ranked = sorted(chance.items(), key=lambda found: -found[1])
    likely = [trial for trial, probability in ranked if trial not in ids and probability >= least]
    rows = {row["trial_id"]: row for row in table.filter(feasible(table)).to_pylist()}
    beside = [rows[trial] for trial in likely[:SHOWN]]
    more = f" {len(likely) - SHOWN} more are not shown." if len(likely) > SHOWN else ""
    apart = table.filter(on_infeasible_front(table)).sort_by([(FRONT[0], "descending")]).to_pylist()
    parts = [
        _trials(
            "Members of the front",
            members,
            chance,
            f"95 % Wilson intervals of the examples. {_last_column(material)}",
            strong=material.strong,
        )
    ]
    if (against := dominance_table(table, material.belief)) is not None:
        parts.append(table_html(against))
    if beside:
        note = f"Dominated as measured, but truly on the front with a probability of {least:.2g} or more.{more}"
        parts.append(_trials("Dominated trials that may truly be on the front", beside, chance, note))
    if apart:
        note = f"{_capital(infeasible_note(table))}."
        parts.append(_trials("The front of the infeasible trials alone", apart[:SHOWN], {}, note))
    return parts


def _last_column(material: StudyMaterial) -> str:
    if material.belief is not None and not material.belief.decided:
        return f"{UNDECIDED}."
    if material.belief is None:
        return "The probability of being truly on the front needs the outcome of each example."
    return (
        "Last column: probability that no other trial truly dominates it, given the per-example outcomes (± 0.02 from "
        "sampling)."
    )


def _trials(
    title: str,
    rows: list[dict[str, Any]],
    chance: Mapping[str, float],
    note: str,
    *,
    strong: Mapping[str, StrongResult] | None = None,
) -> str:
    accuracies = {f"{kind} (val)": lambda row, kind=kind: str(accuracy_of(row, f"val_{kind}")) for kind in KINDS}
    columns: list[Column] = [
        (heading, "", accuracies[heading]) if heading in accuracies else (heading, spec, read)
        for heading, spec, read in FRONT_COLUMNS
    ]
    attacked = strong_notes(strong or {}, [row["trial_id"] for row in rows])
    if strong and attacked:
        columns.append(("robust (strong)", "", lambda row: str(strong.get(row["trial_id"], ""))))
    columns += (proved := certified_column(rows, strong or {}))
    columns.append(("truly on the front", ".2f", lambda row: chance.get(row["trial_id"])))
    shown = column_table(title, columns, rows, notes=(note, *attacked, *([CERTIFIED_NOTE] if proved else [])))
    return table_html(shown, row_class=[str(row["method"]) for row in rows])
