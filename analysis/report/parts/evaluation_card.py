"""An evaluation card for a front member: what reviewers ask of a robustness claim, answered as far as rows can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

from analysis.fronts.strong_attacks import StrongResult
from analysis.heldout.confirmation import ConfirmedMember
from analysis.heldout.measurements import (
    attack_name,
    doubts_on_test,
    like_for_like,
    on_own_checkpoint,
    settings_phrase,
    strongest,
)
from analysis.heldout.members import HeldoutResults
from analysis.method_styles import short_name
from analysis.report.parts.html import prose
from analysis.statistics.intervals import accuracy_estimate, accuracy_of
from analysis.wording import LOWER_BOUND, NORMS, own_parameters, radius, shown_attack

HOLDS = "Does its robust accuracy hold under strong attacks?"
MASKED = "Signs of masked gradients?"
TESTED = "On test, and under a stronger attack (AutoAttack)?"
LUCK = "How much is the seed's luck?"
TRUST = (HOLDS, MASKED, TESTED, LUCK)
"""The questions on which trust in a robust accuracy rests."""

State = Literal["answered", "doubt", "open", "void"]
_MARKS = {"answered": "✓", "doubt": "!", "open": "?", "void": "-"}
LEGEND = "✓ supported by the results; ! a reason for doubt; ? open, to be judged by the reader; - nothing to judge."

NOT_ROBUST = 0.05
"""Below this robust accuracy there is nothing that strong attacks could take away."""

_WEAK = 50
"""Fewer steps, over all restarts, are a weak attack."""


@dataclass(frozen=True)
class Answer:
    """One question of the checklist.

    Attributes:
        question: What a reviewer asks.
        text: The answer, or what is missing.
        state: `answered`, `doubt` where the answer speaks against the claim, `open` where rows cannot know, `void`
            where nothing is claimed.
    """

    question: str
    text: str
    state: State = "answered"


def card(
    row: Mapping[str, Any],
    /,
    *,
    replicates: Sequence[Mapping[str, Any]] = (),
    probability: float | None = None,
    strong: StrongResult | None = None,
    on_test: HeldoutResults | None = None,
) -> list[Answer]:
    """Return the checklist's answers for one trial.

    Args:
        row: Its result row.
        replicates: Rows of the same settings with other seeds.
        probability: That it is truly on the front, where known.
        strong: What strong attacks on validation leave of it, where they were run.
        on_test: What is known on test, of this trial too.

    Source: the questions follow Carlini et al., "On Evaluating Adversarial Robustness" (2019), sections 2-5.
    """
    tested = on_test if on_test is not None and _of(row, on_test) is not None else None
    clean, robust = (accuracy_of(row, f"val_{kind}") for kind in ("clean", "robust"))
    return [
        Answer(
            "Which threat model?",
            f"{NORMS.get(row['norm'], row['norm'])} ball of radius {radius(row['eval_epsilon'])} in pixel units of "
            "[0, 1], cut with [0, 1]; the attacker knows the network",
        ),
        Answer(
            "How accurate, on which examples?",
            f"validation: clean {clean}, robust {robust} (95 %, at most {row['examples']} examples, the same for both, "
            "misclassified ones counted as not robust)",
        ),
        _attack(row, strong),
        _strong(row, strong),
        _strongest(row, tested),
        _flags(row, tested, strong),
        Answer(
            "Smooth by measurement?",
            "not measured"
            if row["val_lipschitz_mean"] is None
            else f"{LOWER_BOUND}: mean {row['val_lipschitz_mean']:.4g}, largest "
            f"{_number(row['val_lipschitz_max'])}, scale-free mean {_number(row['val_lipschitz_scale_free_mean'])}",
            "open" if row["val_lipschitz_mean"] is None else "answered",
        ),
        Answer(
            "How was it chosen?",
            "on validation, as a member of the front"
            + (f"; truly on it with probability {probability:.2f}" if probability is not None else ""),
        ),
        _seeds(row, replicates, tested),
        Answer("Trained how?", training_phrase(row)),
        Answer("Can it be had?", _where(row), "answered" if row["checkpoint_path"] else "open"),
        Answer("An attack adapted to this very defence?", "no row can know; a person must try", "open"),
        Answer("Transferred and gradient-free attacks?", _other_attacks(row, tested, strong), "open"),
    ]


def verdict(answers: Sequence[Answer], /) -> str:
    """Return how far a robust accuracy can be trusted: "doubtful", "not robust", "held" or "not known"."""
    states = {answer.question: answer.state for answer in answers if answer.question in TRUST}
    if "doubt" in states.values():
        return "doubtful"
    return {"void": "not robust", "answered": "held"}.get(states[HOLDS], "not known")


def verdict_sentence(answers: Sequence[Answer], /) -> str:
    """Return the same as a sentence, with the number of checks that are open."""
    trust = [answer for answer in answers if answer.question in TRUST]
    found, unknown = verdict(trust), sum(answer.state == "open" for answer in trust)
    left = f"{unknown} of {len(trust)} checks are open" if unknown else "all checks were run"
    if found == "not robust":
        return next(answer.text for answer in trust if answer.question == HOLDS)
    return {
        "doubtful": "robust accuracy is doubtful: see what is marked “!”",
        "held": f"robust accuracy held under strong attacks on validation; {left}",
        "not known": f"whether robust accuracy holds is not known: no strong attack was run; {left}",
    }[found]


def card_html(row: Mapping[str, Any], answers: Sequence[Answer], /) -> str:
    """Return a card that unfolds; its heading has the verdict, and answers are marked in words, not only in colour."""
    title = f"{row['trial_id']} · {short_name(row['method'])}"
    numbers = f"clean {row['val_clean_accuracy']:.3f}, robust {row['val_robust_accuracy']:.3f} (val)"
    return (
        f'<details class="card" data-method="{escape(row["method"])}" id="card-{escape(row["trial_id"])}">'
        f"<summary><b>{escape(title)}</b> {numbers} · {escape(verdict_sentence(answers))}</summary>"
        f"{entries_html(answers)}</details>"
    )


def entries_html(answers: Sequence[Answer], /) -> str:
    """Return answers as a list, each marked as answered, doubtful or open."""
    entries = "".join(
        f'<dt class="{answer.state}"><span aria-hidden="true">{_MARKS[answer.state]}</span> '
        f'{escape(answer.question)}</dt><dd class="{answer.state}">'
        f"{f'<b>{answer.state}:</b> ' if answer.state in ('open', 'doubt') else ''}{prose(answer.text)}</dd>"
        for answer in answers
    )
    return f"<dl>{entries}</dl>"


def _attack(row: Mapping[str, Any], strong: StrongResult | None) -> Answer:
    """Return the search's attack; a weak one is a doubt, unless strong ones found no more or nothing is claimed."""
    steps, restarts = row["steps"], row["restarts"]
    text = (
        f"{shown_attack(row['attack'])}, {steps} step{'s' * (steps != 1)} of 2ε/steps, {restarts} "
        f"restart{'s' * (restarts != 1)}, random start"
    )
    if steps * restarts >= _WEAK:
        return Answer("Which attack, how strong?", text)
    if _strong(row, strong).state in ("open", "doubt"):
        return Answer("Which attack, how strong?", f"{text}; it is weak: true robust accuracy may be lower", "doubt")
    return Answer("Which attack, how strong?", f"{text}{'; weak, but strong attacks found no more' if strong else ''}")


def _strong(row: Mapping[str, Any], strong: StrongResult | None) -> Answer:
    """Return what strong attacks on validation left, and what the search's own did on the same images."""
    if row["val_robust_accuracy"] < NOT_ROBUST and not (strong is not None and strong.doubts):
        return Answer(HOLDS, f"not robust: {row['val_robust_accuracy']:.3f}, nothing to hold", "void")
    if strong is None:
        return Answer(HOLDS, "not attacked: `front.strong_images` above 0 and `robust-study resume STUDY_DIR`", "open")
    left = accuracy_estimate(strong.robust, strong.images)
    searched = round(strong.searched * strong.images)
    text = (
        f"{round(strong.robust * strong.images)} of {strong.images} survive, {searched} of {strong.images} under the "
        f"search's attack; {left.value:.3f} [{left.low:.2f}, {left.high:.2f}] of the first validation images; "
        f"{', '.join(strong.attacks)}"
    )
    return Answer(HOLDS, "; ".join([text, *strong.doubts]), "doubt" if strong.doubts else "answered")


def _flags(row: Mapping[str, Any], on_test: HeldoutResults | None, strong: StrongResult | None) -> Answer:
    """Return what the checks found; only the full ones, on a front's members and on test, answer the question."""
    question = MASKED
    if row["flags"]:
        return Answer(question, f"flags: {', '.join(row['flags'])}", "doubt")
    if strong is not None and strong.flags:
        return Answer(question, f"flags under all checks: {', '.join(strong.flags)}", "doubt")
    rows = [] if on_test is None else on_own_checkpoint(row, on_test.evaluations)
    if flags := doubts_on_test(row, rows):
        return Answer(question, f"flags on test: {', '.join(flags)}", "doubt")
    full = max((one for one in rows if one["checks"] == "full"), key=lambda one: one["examples"], default=None)
    if full is None and strong is not None:
        return Answer(question, f"the full checks on {strong.images} validation images raised no flag")
    if full is None:
        text = "the cheap checks raised no flag; `robust-study evaluate STUDY_DIR --front` runs the full ones"
        return Answer(question, text, "open")
    return Answer(question, f"the full checks of {attack_name(full)} on {full['examples']} test images raised no flag")


def _of(row: Mapping[str, Any], on_test: HeldoutResults) -> ConfirmedMember | None:
    return next((one for one in on_test.members if one.result["trial_id"] == row["trial_id"]), None)


def _strongest(row: Mapping[str, Any], on_test: HeldoutResults | None) -> Answer:
    """Return what the strongest attack on test left, and beside it what the search's own did."""
    question = TESTED
    strong = None if on_test is None else strongest(row, on_test.evaluations)
    if on_test is None or strong is None:
        return Answer(question, "not measured: `robust-study evaluate STUDY_DIR --front --attack autoattack`", "open")
    values = {kind: accuracy_of(strong, kind) for kind in ("clean", "robust")}
    text = f"test: clean {values['clean']}, robust {values['robust']} under {settings_phrase(strong)}"
    same = like_for_like(row, on_test.evaluations)
    if same is not None and same is not strong:
        text += f"; {accuracy_of(same, 'robust')} under {settings_phrase(same)}"
        if (there := on_test.same_images.get(str(row["trial_id"]))) is not None:
            text += f", {there:.3f} on the very {strong['examples']} images of the stronger attack"
            text += f", where clean accuracy is {strong['clean_accuracy']:.3f}"
        elif same["examples"] != strong["examples"]:
            text += " (other images: the two are not to be compared)"
    if flags := doubts_on_test(row, on_test.evaluations):
        return Answer(question, f"{text}; flags on test: {', '.join(flags)}", "doubt")
    if strong["attack"] != "autoattack":
        return Answer(question, f"{text}; nothing stronger was run", "open")
    return Answer(question, text)


def _other_attacks(row: Mapping[str, Any], on_test: HeldoutResults | None, strong: StrongResult | None) -> str:
    rows = [] if on_test is None else on_own_checkpoint(row, on_test.evaluations)
    images = max((one["examples"] for one in rows if one["attack"] == "autoattack"), default=None)
    on_val = "not run here" if strong is None else f"Square, on {strong.images} validation images"
    square = on_val if images is None else f"AutoAttack's Square, on {images} test images"
    return f"transferred: not run here; gradient-free: {square}"


def _seeds(row: Mapping[str, Any], replicates: Sequence[Mapping[str, Any]], on_test: HeldoutResults | None) -> Answer:
    again = None if on_test is None else _of(row, on_test)
    if again is not None and again.spread:
        spreads = ", ".join(f"{kind} {spread}" for kind, spread in again.spread.items())
        count = next(iter(again.spread.values())).seeds
        failed = f"; {again.failed} more failed" if again.failed else ""
        lucky = _beyond_own(again)
        beyond = f"; outside this network's own interval: {', '.join(lucky)}" if lucky else ""
        return Answer(
            LUCK,
            f"{count} new seed{'s' * (count != 1)} of these settings on test: {spreads} (mean ± standard deviation)"
            f"{failed}{beyond}",
            "doubt" if lucky else "answered" if count > 1 else "open",
        )
    others = [other["val_robust_accuracy"] for other in replicates if other["val_robust_accuracy"] is not None]
    if not others:
        return Answer(LUCK, "one seed only; `robust-study confirm STUDY_DIR` retrains the front", "open")
    span = [row["val_robust_accuracy"], *others]
    return Answer(
        LUCK,
        f"{len(span)} seeds of these settings: robust accuracy from {min(span):.3f} to {max(span):.3f}",
    )


def _beyond_own(again: ConfirmedMember) -> list[str]:
    """Return in which kinds of accuracy the new seeds' mean lies outside the network's own interval on test."""
    if again.test is None:
        return []
    own = {kind: accuracy_of(again.test, kind) for kind in again.spread}
    return [kind for kind, there in own.items() if not there.low <= again.spread[kind].mean <= there.high]


def training_phrase(row: Mapping[str, Any], /) -> str:
    """Return what a trial was trained with: method, settings, epochs, seed, checkpoint."""
    parts = [short_name(row["method"]), own_parameters(row)]
    parts += [f"dropout {row['param.dropout']:.3g}"] if row.get("param.dropout") is not None else []
    parts += [f"training radius {radius(row['train_epsilon'])}"] if row["train_epsilon"] is not None else []
    parts += [
        f"{row['epochs']} epoch{'s' * (row['epochs'] != 1)}",
        f"seed {row['seed']}",
        f"{row['checkpoint_kind']} checkpoint",
    ]
    return ", ".join(part for part in parts if part)


def _where(row: Mapping[str, Any]) -> str:
    run = f"; MLflow run {row['mlflow_run_id']}" if row["mlflow_run_id"] else ""
    revision = f"; code {row['code_revision']}" if row["code_revision"] else ""
    return f"{row['checkpoint_path'] or 'no checkpoint recorded'}{run}{revision}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
