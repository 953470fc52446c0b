"""What readers ask of a study, answered: which trial, how far to trust it, how to run it again, what goes with what."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from html import escape
from typing import Any

from analysis.fronts.front import front_of
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
from analysis.statistics.hyperparameters import STRENGTH, varying_settings
from analysis.statistics.importance import LEAST, setting_name
from analysis.statistics.intervals import accuracy_of, summary
from analysis.wording import LOWER_BOUND

MOST_TIES = 3
"""Most near-ties of a member that are named."""


def answers_section(material: StudyMaterial, cards: Sequence[Card], rows: Mapping[str, int], /) -> list[str]:
    """Return the section's parts.

    Args:
        material: What is known of the study.
        cards: Of the front's members.
        rows: The place of each trial in the table, by id.
    """
    parts = []
    if cards:
        front = {row["trial_id"] for row in front_of(material.table).to_pylist()}
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
            _member(row, answers, material, front=front, place=rows[row["trial_id"]], hidden=at != chosen)
            for at, (row, answers) in enumerate(cards)
        ]
        parts.append(
            '<p class="member" id="unreached" data-row="none" hidden></p><p class="member" data-row="" hidden>'
            "The page has answers about other members of the front only; "
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
    row: dict[str, Any],
    answers: Sequence[Answer],
    material: StudyMaterial,
    *,
    front: Collection[str],
    place: int,
    hidden: bool,
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
        f"<p><b>{escape(_sentence(verdict_sentence(answers)))}</b>{escape(_corrected(row, material))}"
        f"{escape(_near_ties(row, front, material))}</p>{entries_html(trust)}"
        "<p>From the folder in which this report was written: train it again, which prints its row beside the recorded "
        "one (on the same type of machine and with the same versions all values should agree exactly), or measure its "
        f"checkpoint on test, which writes to <code>{escape(folder)}/evaluations</code>:</p>"
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
    return (
        f" Corrected for the luck of being chosen among {material.table.num_rows} trials it is {true}: "
        "drawn towards the other trials' values, it may be above the measured one."
    )


def _near_ties(row: Mapping[str, Any], front: Collection[str], material: StudyMaterial) -> str:
    """Return the dominated trials that chance may have put behind a member, the most robust three by name."""
    belief = material.belief
    if belief is None or row["trial_id"] not in belief.trials:
        return ""
    table = material.table.select(["trial_id", FRONT[1]])
    robust = dict(zip(*(table[name].to_pylist() for name in table.column_names), strict=True))
    tied = sorted((one for one in belief.near_ties(row["trial_id"]) if one not in front), key=lambda one: -robust[one])
    if not tied:
        return " No dominated trial is statistically indistinguishable from it in both accuracies."
    more = f" and {len(tied) - MOST_TIES} more" if len(tied) > MOST_TIES else ""
    named = ", ".join(tied[:MOST_TIES])
    return f" Dominated, but statistically indistinguishable from it in both accuracies: {named}{more}."


_ESTIMATES = {
    "raw": "how fast the logits change around an image",
    "scale-free": "the same over the network's mean margin, so that smaller logits alone are no gain",
}


def smoothness_lines(material: StudyMaterial, /) -> list[str]:
    """Return whether Lipschitzness goes with robust accuracy, how surely, and the association of dropout with both."""
    share = random_share(material.table)
    outcome = next(iter(OUTCOMES.values()))
    lines, overalls = [], {}
    for of, meaning in _ESTIMATES.items():
        found = {
            row.among: row.found for row in lipschitz_associations(share) if (row.of, row.outcome) == (of, outcome)
        }
        if (overall := found.get("all methods")) is not None:
            overalls[of] = overall
            within = found.get("within method")
            inside = f" Within method, {_direction(within)}: {within}." if within is not None else ""
            lines.append(
                f"By the {of} estimate ({meaning}), among trials proposed independently of results, "
                f"{_direction(overall)}: rank correlation of Lipschitzness with robust accuracy {overall}.{inside}"
            )
    effects = {(row.outcome, row.among): row.found for row in dropout_effects(share)}
    clean, robust = effects["clean accuracy", "all methods"], effects["robust accuracy", "all methods"]
    if clean is not None and robust is not None:
        lines.append(
            f"0.1 more dropout is associated with {clean.signed()} clean accuracy and {robust.signed()} robust "
            f"accuracy (n = {robust.n})."
        )
    return (
        [*_overall(overalls), *lines, "These are associations, not causes."]
        if lines
        else [f"It is not known. {why_no_association(material.table)}"]
    )


def _overall(found: Mapping[str, Association]) -> list[str]:
    """Return one verdict on both estimates: a side is clear where an interval excludes 0; empty without an estimate."""
    if not found:
        return []
    clear = {of: one.high < 0 for of, one in found.items() if one.high < 0 or one.low > 0}
    unclear = ", ".join(f"not clear for the {of} one" for of in found if of not in clear)
    if not clear:
        return ["It cannot be told from these trials: the interval of every estimate includes 0."]
    if len(set(clear.values())) > 1:
        smoother, rougher = sorted(clear, key=lambda of: not clear[of])
        return [
            f"The estimates contradict each other: by the {smoother} one smoother networks are more robust, by the "
            f"{rougher} one less smooth ones."
        ]
    yes = next(iter(clear.values()))
    if unclear:
        sure = "Probably" if yes else "Probably not, less smooth networks are the more robust ones"
        return [f"{sure}: clear for the {next(iter(clear))} estimate, {unclear}."]
    estimates = "both estimates" if len(clear) > 1 else f"the {next(iter(clear))} estimate"
    return [f"{'Yes' if yes else 'No, less smooth networks are the more robust ones'}: clear for {estimates}."]


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
        " ".join([*lines, _competed(material)])
        + " Shares of a forest's variance (fANOVA), no evidence of an effect by themselves"
        + (f": {sample}." if sample else ".")
    ]


def _competed(material: StudyMaterial) -> str:
    """Return which settings were ranked, and where to look for those that only some methods have."""
    ranked = list(dict.fromkeys(name for of in FRONT for name in material.importance.get(of, {})))
    shared = ", ".join(map(setting_name, ranked))
    varying = {setting.name for setting in varying_settings(material.table)}
    names = {"train_epsilon": "training radius", STRENGTH: "strength"}
    left = " and ".join(name for key, name in names.items() if key in varying and key not in ranked)
    said = f"Only settings that all methods share competed: {shared}."
    if not left:
        return said
    if any(one.shares for one in material.importance_within):
        return f"{said} Importance within each method, under Hyperparameters, ranks {left} too."
    return f"{said} With fewer than {LEAST} trials a method {left} cannot be ranked (see Slices)."


NO_IMPORTANCE = (
    "Importance is not reported: it needs 20 sound trials and a hyperparameter that varies; "
    "`robust-study resume STUDY_DIR --add-trials N` adds trials."
)
"""What the page says where no importance is known."""
