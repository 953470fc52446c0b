"""The report's answers: one verdict on a member everywhere, what goes with what, and how to run a trial again."""

from __future__ import annotations

import re
from html import unescape

from helpers.studies.pages import belief_of, page_of, text_of
from helpers.studies.synthetic_results import as_table, result_row

from analysis.fronts.strong_attacks import StrongResult
from analysis.material import StudyMaterial
from analysis.report.answers import setting_lines, smoothness_lines
from analysis.statistics.importance import MethodImportance
from analysis.statistics.intervals import summary

ONE = [result_row(0)]


def test_a_member_is_described_with_what_its_trust_rests_on_and_how_to_run_it_again() -> None:
    rows = [result_row(0, val_clean_accuracy=0.97, val_robust_accuracy=0.6, method="trades"),
            result_row(1, val_clean_accuracy=0.8, val_robust_accuracy=0.7)]  # fmt: skip
    held = StrongResult(images=200, searched=0.6, robust=0.59, attacks=("square",), flags=())
    fallen = StrongResult(images=200, searched=0.7, robust=0.4, attacks=("square",), flags=())
    belief = belief_of(rows)
    page = page_of(rows, belief=belief, strong={"t00000": held, "t00001": fallen}, homes={"toy": "studies/toy"})
    first, second = page.split('<div class="member"')[1:]
    assert "hidden" not in first.partition(">")[0]
    assert "hidden" in second.partition(">")[0]
    assert "held under strong attacks on validation; 2 of 4 checks are open" in first
    assert "obust accuracy is doubtful" in second
    assert f"among 2 trials it is {summary(belief.drawn[:, 0, 1])}" in first
    assert "robust-study train studies/toy --trial t00000" in first
    assert "STUDY_DIR" not in page
    assert "no strong attack was run" in page_of(rows)


def test_answers_cards_and_summary_give_one_verdict() -> None:
    robust = {"t00000": 0.01, "t00001": 0.6, "t00002": 0.65, "t00003": 0.7}
    rows = [
        result_row(n, val_clean_accuracy=0.97 - 0.05 * n, val_robust_accuracy=value)
        for n, value in enumerate(robust.values())
    ]
    strong = {
        trial: StrongResult(images=200, searched=robust[trial], robust=left, attacks=("square",), flags=())
        for trial, left in (("t00000", 0.0), ("t00001", 0.595), ("t00002", 0.4))
    }
    page = page_of(rows, strong=strong)
    verdicts = [
        "not robust: 0.010, nothing to hold",
        "robust accuracy held under strong attacks on validation; 2 of 4 checks are open",
        "robust accuracy is doubtful: see what is marked “!”",
        "whether robust accuracy holds is not known: no strong attack was run; 4 of 4 checks are open",
    ]
    cards = re.findall(r"\(val\) · (.*?)</summary>", page)
    answers = re.findall(r"<p><b>([^<]*)\.</b>", page)
    assert cards == verdicts
    assert [answer[0].lower() + answer[1:] for answer in answers] == verdicts
    counted = "1 held under strong attacks, 1 doubtful, 1 not known to hold, 1 not robust."
    assert f"Robust accuracy of the front's members: {counted}" in unescape(text_of(page))


def test_answers_say_which_way_an_association_goes_and_how_surely() -> None:
    def lines(sign):
        rows = [
            result_row(n, proposal="random", val_robust_accuracy=0.3 + 0.01 * n, val_lipschitz_mean=10.0 + sign * n / 9)
            for n in range(20)
        ]
        return " ".join(smoothness_lines(StudyMaterial(table=as_table(rows))))

    assert ", smoother networks are more robust: rank correlation" in lines(-1)
    assert ", less smooth networks are more robust: rank correlation" in lines(1)
    noise = [result_row(n, proposal="random", val_robust_accuracy=0.3 + 0.01 * (n * 7 % 20),
                        val_lipschitz_mean=10.0 + n) for n in range(20)]  # fmt: skip
    assert "cannot be told" in " ".join(smoothness_lines(StudyMaterial(table=as_table(noise))))


def test_smoothness_has_one_verdict_first_and_both_estimates_are_defined() -> None:
    noise = [10.0 + n * 7 % 20 for n in range(20)]
    falling, rising = ([10.0 + sign * n / 9 for n in range(20)] for sign in (-1, 1))

    def lines(raw, scale_free):
        rows = [
            result_row(n, proposal="random", val_robust_accuracy=0.3 + 0.01 * n, val_lipschitz_mean=raw[n],
                       val_lipschitz_scale_free_mean=scale_free[n])
            for n in range(20)
        ]  # fmt: skip
        return smoothness_lines(StudyMaterial(table=as_table(rows)))

    assert lines(noise, falling)[0] == "Probably: clear for the scale-free estimate, not clear for the raw one."
    assert lines(falling, falling)[0] == "Yes: clear for both estimates."
    assert lines(rising, rising)[0].startswith("No, less smooth networks")
    assert lines(rising, falling)[0].startswith("The estimates contradict each other: by the scale-free one smoother")
    assert lines(noise, noise)[0].startswith("It cannot be told")
    text = " ".join(lines(noise, falling))
    assert text.count("how fast the logits change around an image") == 1
    assert text.count("the same over the network's mean margin") == 1


def test_settings_that_competed_are_named_and_those_that_could_not_be_ranked() -> None:
    rows = [result_row(n, method="trades", train_epsilon=0.1 * n, **{"param.beta": 1.0 + n}) for n in range(3)]
    known = {"importance": {"val_robust_accuracy": {"method": 0.8, "param.dropout": 0.1}}}
    within = MethodImportance(method="trades", trials=20, independent=True, shares={"x": {"param.beta": 0.5}})
    for shares, more in (
        ((), "With fewer than 20 trials a method training radius and strength cannot be ranked (see Slices)."),
        ((within,), "Importance within each method, under Hyperparameters, ranks training radius and strength too."),
    ):
        (line,) = setting_lines(StudyMaterial(table=as_table(rows), importance_within=shares, **known))
        assert f"Only settings that all methods share competed: method, dropout. {more}" in line


def test_near_ties_of_a_member_are_named_and_its_corrected_value_is_explained() -> None:
    member, *behind = [(0.9, 0.6), *((0.899 - 0.001 * n, 0.599 - 0.001 * n) for n in range(5)), (0.899, 0.3)]
    rows = [
        result_row(n, val_clean_accuracy=clean, val_robust_accuracy=robust)
        for n, (clean, robust) in enumerate([member, *behind])
    ]
    answer = page_of(rows, belief=belief_of(rows)).split('<div class="member"')[1]
    assert "indistinguishable from it in both accuracies: t00001, t00002, t00003 and 2 more." in answer
    assert "drawn towards the other trials' values, it may be above the measured one" in unescape(answer)
    apart = [rows[0], rows[-1]]
    assert "No dominated trial is statistically indistinguishable" in page_of(apart, belief=belief_of(apart))


def test_running_a_trial_again_says_from_where_to_where_and_what_should_agree() -> None:
    answer = unescape(text_of(page_of(ONE, homes={"toy": "studies/toy"})))
    assert "From the folder in which this report was written: train it again, which prints its row" in answer
    assert "on the same type of machine and with the same versions all values should agree exactly" in answer
    assert "writes to studies/toy/evaluations" in " ".join(answer.split())


def test_the_setting_that_mattered_is_named_with_its_share() -> None:
    shares = {"val_robust_accuracy": {"method": 0.8, "param.dropout": 0.1}}
    (line,) = setting_lines(StudyMaterial(table=as_table(ONE), importance=shares, importance_sample="n = 24"))
    assert line.startswith("For robust accuracy: method, 0.80 of the variance; then dropout 0.10.")
    assert line.endswith("n = 24.")
    assert "--add-trials N" in setting_lines(StudyMaterial(table=as_table(ONE)))[0]
