"""The report's section on test data: the chosen members, the winner's curse, new seeds, uses of test data."""

from __future__ import annotations

from analysis.heldout.measurements import attack_name, strongest, uses_lines
from analysis.heldout.members import HeldoutResults, curse_lines
from analysis.material import StudyMaterial
from analysis.report.parts.html import bullets, paragraph, table_html
from analysis.tables.chosen_table import chosen_table
from analysis.tables.heldout_tables import confirmation_table, evaluation_table, on_test_table

_NOTHING = (
    "Nothing was measured on test. `robust-study evaluate STUDY_DIR --front --attack autoattack` measures the front's "
    "members as chosen on validation; `robust-study confirm STUDY_DIR --seeds 3` retrains them with new seeds."
)


def tested_section(material: StudyMaterial, /) -> list[str]:
    """Return the results on test, or how to obtain them."""
    found = material.on_test
    if found is None:
        return [paragraph(_NOTHING)]
    methods = [str(one.result["method"]) for one in found.members]
    rows = [one.result for one in found.members]
    own = [row for row in found.evaluations if row["study"] in {one["study"] for one in rows}]
    return [
        paragraph(
            "Members were chosen once, on validation, before test data was used; no result on test changes the choice. "
            "The winner's curse is the bias of that choice: of many estimates the best are lucky ones."
        ),
        table_html(on_test_table(found), row_class=methods),
        table_html(chosen_table(found), row_class=methods),
        table_html(confirmation_table(found.members), row_class=[method for method in methods for _ in range(3)]),
        "<h3>Every measurement on test</h3>",
        table_html(evaluation_table(rows, own), caption=False, row_class=[str(row["method"]) for row in own]),
        "<h3>Uses of test data</h3>",
        bullets(uses_lines(found.evaluations)),
    ]


def tested_lines(material: StudyMaterial, /) -> list[str]:
    """Return the summary's lines on test, empty if nothing was measured."""
    found = material.on_test
    if found is None:
        return []
    lines = [line[0].upper() + line[1:] + "." for line in curse_lines(found)]
    return [*lines, *_seeds(found), *_strongest(found)]


def _seeds(found: HeldoutResults) -> list[str]:
    """Compare the members' robust accuracy on test with that of their new seeds."""
    changes = [
        f"{one.result['trial_id']} from {one.test['robust_accuracy']:.3f} to {again} (n = {again.seeds})"
        for one in found.members
        if one.test is not None and (again := one.spread.get("robust")) is not None
    ]
    listed = "; ".join(changes)
    return [f"Retrained with n new seeds, robust accuracy on test went (± between seeds) {listed}."] if changes else []


def _strongest(found: HeldoutResults) -> list[str]:
    """Return the members' robust accuracy on test under attacks stronger than the study's own."""
    accuracies = []
    for one in found.members:
        trial, strong = one.result["trial_id"], strongest(one.result, found.evaluations)
        if strong is None or strong == one.test:
            continue
        like_for_like = found.same_images.get(trial)
        beside = "" if like_for_like is None else f"; the study's own attack gives {like_for_like:.3f} on them"
        left = f"{strong['robust_accuracy']:.3f} under {attack_name(strong)}"
        accuracies.append(f"{trial} {left} ({strong['examples']} images{beside})")
    return [f"Under the strongest attack run on test: {'; '.join(accuracies)}."] if accuracies else []
