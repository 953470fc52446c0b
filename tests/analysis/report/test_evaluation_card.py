"""Evaluation cards: an answer is about the card's own trial, and says no more than what ran on it."""

from __future__ import annotations

from helpers.studies.synthetic_results import as_table, evaluation_row, result_row

from analysis.fronts.strong_attacks import StrongResult
from analysis.heldout.confirmation import confirmed
from analysis.heldout.members import HeldoutResults
from analysis.material import StudyMaterial
from analysis.report import heldout_section
from analysis.report.parts.evaluation_card import HOLDS, LEGEND, Answer, card, entries_html

MASKED, OTHERS = "Signs of masked gradients?", "Transferred and gradient-free attacks?"


def answers(*evaluations) -> list[dict[str, Answer]]:
    """Return the answers of two trials' cards by question."""
    rows = as_table([result_row(0), result_row(1)]).to_pylist()
    found = HeldoutResults(
        members=tuple(confirmed(rows, evaluations)),
        chosen=("t00000", "t00001"),
        evaluations=tuple(evaluations),
        curse={},
    )
    return [{answer.question: answer for answer in card(row, on_test=found)} for row in rows]


def test_an_attack_on_another_trial_is_not_claimed() -> None:
    pgd = [evaluation_row("t00000", checks="cheap"), evaluation_row("t00001", checks="cheap")]
    attacked, spared = answers(*pgd, evaluation_row("t00000", attack="autoattack", examples=200, checks="cheap"))
    assert "AutoAttack's Square, on 200 test images" in attacked[OTHERS].text
    assert "gradient-free: not run here" in spared[OTHERS].text
    elsewhere, _ = answers(*pgd, evaluation_row("t00000", attack="autoattack", epsilon=0.3))
    assert "gradient-free: not run here" in elsewhere[OTHERS].text


def test_only_the_full_checks_answer_whether_gradients_are_masked() -> None:
    thorough, cheap = answers(evaluation_row("t00000", examples=200), evaluation_row("t00001", checks="cheap"))
    assert (thorough[MASKED].state, cheap[MASKED].state) == ("answered", "open")
    assert "full checks of PGD-10 on 200 test images" in thorough[MASKED].text
    assert "`robust-study evaluate STUDY_DIR --front` runs the full ones" in cheap[MASKED].text
    doubted, _ = answers(evaluation_row("t00000", flags=["zero_gradients"]))
    assert (doubted[MASKED].state, doubted[MASKED].text) == ("doubt", "flags on test: zero_gradients (PGD-10)")
    alone = {answer.question: answer for answer in card(as_table([result_row(0)]).to_pylist()[0])}
    assert alone[MASKED].state == "open"


def test_new_seeds_that_fall_out_of_the_networks_own_interval_are_a_doubt_and_in_the_summary() -> None:
    row = as_table([result_row(0)]).to_pylist()[0]
    for share, state in ((0.45, "answered"), (0.2, "doubt")):
        again = [result_row(n, trial_id=f"t00000-s{n}", study="toy-confirm", replicate_of=0) for n in (1, 2)]
        tests = [
            evaluation_row("t00000", robust_accuracy=0.45),
            *(
                evaluation_row("t00000", trial_id=one["trial_id"], study="toy-confirm", robust_accuracy=share)
                for one in again
            ),
            evaluation_row("t00000", attack="autoattack", robust_accuracy=0.4),
        ]
        members = tuple(confirmed([row], tests, replicas=again))
        found = HeldoutResults(members=members, chosen=("t00000",), evaluations=tuple(tests), curse={})
        (seeds,) = [answer for answer in card(row, on_test=found) if answer.question == "How much is the seed's luck?"]
        assert (seeds.state, "outside this network's own interval: robust" in seeds.text) == (state, state == "doubt")
        said = " ".join(heldout_section.tested_lines(StudyMaterial(table=as_table([row]), on_test=found)))
        assert f"t00000 from 0.450 to {share:.3f} ± 0.000 (n = 2)" in said
        assert "Under the strongest attack run on test: t00000 0.400 under autoattack" in said


def test_a_weak_attack_is_a_doubt_with_its_reason_until_strong_ones_find_no_more() -> None:
    def asked(strong, **more):
        row = as_table([result_row(0, steps=10, restarts=1, **more)]).to_pylist()[0]
        return {answer.question: answer for answer in card(row, strong=strong)}["Which attack, how strong?"]

    fallen, held = (
        StrongResult(images=60, searched=0.5, robust=left, attacks=("square",), flags=()) for left in (0.3, 0.5)
    )
    for strong in (None, fallen):
        assert asked(strong).state == "doubt"
        assert asked(strong).text.endswith("it is weak: true robust accuracy may be lower")
    assert (asked(held).state, "strong attacks found no more" in asked(held).text) == ("answered", True)
    assert asked(None, val_robust_accuracy=0.01).state == "answered"
    assert "! a reason for doubt" in LEGEND


def test_a_member_that_is_not_robust_has_nothing_to_hold() -> None:
    row = as_table([result_row(0, val_robust_accuracy=0.01)]).to_pylist()[0]
    held = StrongResult(images=60, searched=0.01, robust=0.01, attacks=("square",), flags=())
    for strong in (None, held):
        answer = {answer.question: answer for answer in card(row, strong=strong)}[HOLDS]
        assert (answer.state, answer.text) == ("void", "not robust: 0.010, nothing to hold")
        assert '<dt class="void"><span aria-hidden="true">-</span>' in entries_html([answer])
