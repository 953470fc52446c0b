"""The evaluation cards of the front's members."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.fronts.front import front_of
from analysis.fronts.member_choice import best_at_floor
from analysis.fronts.objectives import FRONT
from analysis.material import StudyMaterial
from analysis.report.parts.evaluation_card import LEGEND, Answer, card, card_html, verdict
from analysis.report.parts.html import paragraph

CARDS = 40
"""Most members with a card, best clean accuracy first."""

_VERDICTS = {
    "held": "held under strong attacks",
    "doubtful": "doubtful",
    "not known": "not known to hold",
    "not robust": "not robust",
}

Card = tuple[dict[str, Any], list[Answer]]
"""A member's result row and the answers about it."""


def member_cards(material: StudyMaterial, /) -> list[Card]:
    """Return the cards of the front's members, of at most `CARDS`, the best at the clean floor among them."""
    members = front_of(material.table).to_pylist()
    shown, best = members[:CARDS], best_at_floor([[row[name] for name in FRONT] for row in members])
    if best is not None and best.index >= CARDS:
        shown[-1] = members[best.index]
    chance = material.probabilities()
    member_settings = {_settings_of(row) for row in shown}
    seeds: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in material.table.select(
        ["study", "number", "replicate_of", "trial_id", "val_robust_accuracy", "status"]
    ).to_pylist():
        if _settings_of(row) in member_settings and row["status"] == "completed":
            seeds.setdefault(_settings_of(row), []).append(row)
    cards = []
    for row in shown:
        others = [other for other in seeds.get(_settings_of(row), []) if other["trial_id"] != row["trial_id"]]
        known: dict[str, Any] = {"strong": material.strong.get(row["trial_id"]), "on_test": material.on_test}
        cards.append((row, card(row, replicates=others, probability=chance.get(row["trial_id"]), **known)))
    return cards


def cards_section(material: StudyMaterial, cards: Sequence[Card], /) -> list[str]:
    """Return the section's parts."""
    if not cards:
        return [paragraph("The front has no members, so there are no cards.")]
    left = front_of(material.table).num_rows - len(cards)
    return [
        paragraph(LEGEND),
        *(card_html(row, answers) for row, answers in cards),
        *([paragraph(f"{left} more members have no card.")] if left else []),
    ]


def verdicts_line(material: StudyMaterial, cards: Sequence[Card], /) -> list[str]:
    """Return how many members have which verdict as one line, empty without a member."""
    found = Counter(verdict(answers) for _, answers in cards)
    left = front_of(material.table).num_rows - len(cards)
    of = f"the {len(cards)} members with a card" if left else "the front's members"
    listed = ", ".join(f"{found[kind]} {words}" for kind, words in _VERDICTS.items() if found[kind])
    return [f"Robust accuracy of {of}: {listed}."] if cards else []


def _settings_of(row: Mapping[str, Any]) -> tuple[str, int]:
    """Return the study and the number of its first trial with the same settings."""
    return row["study"], row["number"] if row["replicate_of"] is None else row["replicate_of"]
