"""What readers ask of a study, answered: which trial, how far to trust it, how to run it again, what goes with what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from analysis.fronts.member_choice import best_at_floor
from analysis.fronts.objectives import FRONT, objective
from analysis.material import StudyMaterial
from analysis.report.parts.evaluation_card import TRUST, Answer, entries_html, training_phrase, verdict_sentence
from analysis.report.parts.html import command_line, paragraph
from analysis.report.parts.member_cards import Card
from analysis.statistics.association import (
    OUTCOMES,
    Association,
    dropout_effects,
    lipschitz_associations,
    random_share,
    why_no_association,
)
from analysis.statistics.importance import setting_name
from analysis.statistics.intervals import accuracy_of, summary
from analysis.wording import LOWER_BOUND


def answers_section(material: StudyMaterial, cards: Sequence[Card], rows: Mapping[str, int], /) -> list[str]:
    """Return the section's parts.

    Args:
        material: What is known of the study.
        cards: Of the front's members.
        rows: The place of each trial in the table, by id.
    """
    parts = []
    if cards:
        best = best_at_floor([[row[name] for name in FRONT] for row, _ in cards])
        chosen = 0 if best is None else best.index
        parts = [
            "<h3>Which trial to use, how far to trust it, how to run it again?</h3>",
            paragraph(
                "The most robust member of the front at the clean accuracy set above, or the member chosen there or in "
                "the charts."
            ),
        ]
        parts += [
            _member(row, answers, material, place=rows[row["trial_id"]], hidden=at != chosen)
            for at, (row, answers) in enumerate(cards)
        ]
        parts.append(
            '<p class="member" id="unreached" data-row="none" hidden></p><p class="member" data-row="" hidden>The page has answers about other members of the front only; '
            "<code>robust-study pareto STUDY_DIR</code> lists all of them.</p>"
        )
    return [
        *parts,
        "<h3>Does smoothness go with robustness here?</h3>",
        *map(paragraph, smoothness_lines(material)),
        "<h3>Which setting mattered?</h3>",
        *map(paragraph, setting_lines(material)),
    ]


def _member(
    row: dict[str, Any], answers: Sequence[Answer], material: StudyMaterial, *, place: int, hidden: bool
) -> str:
    clean, robust = (accuracy_of(row, f"val_{kind}") for kind in ("clean", "robust"))
    smooth = row["val_lipschitz_mean"]
    measured = f"; {LOWER_BOUND}, {smooth:.4g}" if smooth is not None else ""
    trust = [answer for answer in answers if answer.question in TRUST]
    folder = material.homes.get(row["study"], "STUDY_DIR")
    trial = row["trial_id"].removeprefix(f"{row['study']}/")
    return (
        f'<div class="member" data-row="{place}"{" hidden" if hidden else ""}>'
        f"<p><b>Trial {escape(row['trial_id'])}</b>: {escape(training_phrase(row))}. On validation clean {clean}, "
        f"robust {robust} (95 %{measured}).</p>"
        f"<p><b>{escape(_sentence(verdict_sentence(answers)))}</b>{escape(_corrected(row, material))}</p>{entries_html(trust)}"
        "<p>Train it again and compare its row, or measure its checkpoint on test:</p>"
        f"{command_line(f'robust-study train {folder} --trial {trial}')}"
        f"{command_line(f'robust-study evaluate {folder} --trial {trial} --attack autoattack')}</div>"
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _corrected(row: Mapping[str, Any], material: StudyMaterial) -> str:
    """Return a member's robust accuracy without the luck of its choice, empty where examples' outcomes are unknown."""
    belief = material.belief
    if belief is None or row["trial_id"] not in belief.trials:
        return ""
    true = summary(belief.drawn[:, belief.trials.index(row["trial_id"]), 1])
    return f" Corrected for the luck of being chosen among {material.table.num_rows} trials it is {true}."


def smoothness_lines(material: StudyMaterial, /) -> list[str]:
    """Return whether Lipschitzness goes with robust accuracy, how surely, and the association of dropout with both."""
    share = random_share(material.table)
    outcome = next(iter(OUTCOMES.values()))
    lines = []
    for of in ("raw", "scale-free"):
        found = {
            row.among: row.found for row in lipschitz_associations(share) if (row.of, row.outcome) == (of, outcome)
        }
        if (overall := found.get("all methods")) is not None:
            within = found.get("within method")
            inside = f" Within method, {_direction(within)}: {within}." if within is not None else ""
            lines.append(
                f"By the {of} estimate, among trials proposed independently of results, {_direction(overall)}: rank "
                f"correlation of Lipschitzness with robust accuracy {overall}.{inside}"
            )
    effects = {(row.outcome, row.among): row.found for row in dropout_effects(share)}
    clean, robust = effects["clean accuracy", "all methods"], effects["robust accuracy", "all methods"]
    if clean is not None and robust is not None:
        lines.append(
            f"0.1 more dropout is associated with {clean.signed()} clean accuracy and {robust.signed()} robust "
            f"accuracy (n = {robust.n})."
        )
    return (
        [*lines, "These are associations, not causes."]
        if lines
        else [f"It is not known. {why_no_association(material.table)}"]
    )


def _direction(found: Association) -> str:
    """Say which way an association goes, as far as its interval shows it."""
    if found.high < 0:
        return "smoother networks are more robust"
    if found.low > 0:
        return "less smooth networks are more robust"
    return "it cannot be told whether smoother networks are more robust, as the interval includes 0"


def setting_lines(material: StudyMaterial, /) -> list[str]:
    """Return the largest main effects on each accuracy, or why there are none."""
    lines = []
    for name in FRONT:
        shares = list(material.importance.get(name, {}).items())
        if shares:
            (setting, most), *others = shares
            rest = ", ".join(f"{setting_name(other)} {share:.2f}" for other, share in others[:3])
            lines.append(
                f"For {objective(name).label}: {setting_name(setting)}, {most:.2f} of the variance"
                f"{f'; then {rest}' if rest else ''}."
            )
    if not lines:
        return [NO_IMPORTANCE]
    sample = material.importance_sample
    return [
        " ".join(lines)
        + " Shares of a forest's variance (fANOVA), no evidence of an effect by themselves"
        + (f": {sample}." if sample else ".")
    ]


NO_IMPORTANCE = (
    "Importance is not reported: it needs 20 sound trials and a hyperparameter that varies; "
    "`robust-study resume STUDY_DIR --add-trials N` adds trials."
)
"""What the page says where no importance is known."""
