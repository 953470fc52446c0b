"""Results of chosen trials on test: the rows used, the winner's curse, and the spread between seeds."""

from __future__ import annotations

import json
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from helpers.studies.synthetic_results import as_table, evaluation_row, result_row

from analysis.data.results import example_columns, examples_file, read_evaluations, write_columns, write_rows
from analysis.data.schema import EVALUATION, EXAMPLE, RESULT, ResultsError
from analysis.heldout.confirmation import Spread, as_tree, confirmed, mean_curse, seed_spread
from analysis.heldout.measurements import (
    like_for_like,
    settings_phrase,
    strongest,
    tracked_metrics,
    uses_lines,
    uses_of_test,
)
from analysis.heldout.members import CHOICE_FILE, read_choice, read_on_test
from analysis.plots.networks.heldout_values import write_on_test
from analysis.report.parts.evaluation_card import card
from analysis.statistics.intervals import accuracy_estimate, difference
from analysis.tables.heldout_tables import confirmation_table, evaluation_table, on_test_table


def test_the_like_for_like_measurement_differs_from_validation_in_the_split_alone() -> None:
    result = result_row(0)
    others = [
        evaluation_row(attack="autoattack"),
        evaluation_row(epsilon=0.2),
        evaluation_row(checkpoint="best"),
        evaluation_row(steps=20),
        evaluation_row("t00001"),
        evaluation_row(split="val"),
    ]
    assert like_for_like(result, others) is None
    small, large = evaluation_row(examples=200), evaluation_row(examples=500)
    assert like_for_like(result, [*others, small, large]) is large


def test_the_strongest_is_autoattack_then_effort_then_images_at_the_studys_radius() -> None:
    result = result_row(0)
    pgd, more = evaluation_row(), evaluation_row(steps=50)
    targeted, auto = evaluation_row(attack="multi_targeted"), evaluation_row(attack="autoattack", examples=100)
    own = evaluation_row(attack="mine:attack", steps=1000)
    rows = [auto, pgd, more, own, targeted]
    for best in (auto, targeted, own, more, pgd):
        assert strongest(result, rows) is best
        rows.remove(best)
    assert strongest(result, [evaluation_row(attack="autoattack", epsilon=0.3)]) is None


def test_every_measurement_is_a_use_and_uses_are_grouped_by_settings() -> None:
    rows = [
        evaluation_row("t00000"),
        evaluation_row("t00001", occasion="2026-01-02T00:00:00"),
        evaluation_row("t00000", attack="autoattack", examples=200, occasion="2026-01-02T00:00:00"),
        evaluation_row("t00002", split="val"),
    ]
    uses = uses_of_test(rows)
    assert [(use["trials"], use["occasions"]) for use in uses] == [(["t00000", "t00001"], 2), (["t00000"], 1)]
    lines = uses_lines(rows)
    assert lines[0] == "test data was used 3 times: 2 networks measured on 2 occasions"
    assert settings_phrase(rows[2]) in lines[2]
    assert uses_lines([rows[3]]) == ["test data was never used"]


@pytest.mark.parametrize("between", [0.0, 0.03])
def test_spread_of_seeds_is_separated_from_noise_of_examples(between) -> None:
    """Networks of known accuracy on examples of known difficulty: the split of the variance is right on average."""
    draw = np.random.default_rng(1)
    seeds, examples, repeats = 4, 150, 1500
    measured, explained = [], []
    for _ in range(repeats):
        ease = draw.beta(2, 1, size=examples)
        shift = draw.normal(0, between, size=(seeds, 1))
        correct = draw.random((seeds, examples)) < np.clip(ease + shift, 0, 1)
        found = seed_spread(correct)
        assert found.mean == pytest.approx(correct.mean())
        measured.append(found.sd**2)
        explained.append(found.sd_of_examples**2)
        assert found.sd == pytest.approx(np.std(correct.mean(axis=1), ddof=1))
        assert 0 <= found.sd_of_seeds <= found.sd
    # clipping takes a little of the shift away, hence the wide side below
    assert 0.75 * between**2 - 1e-4 < np.mean(measured) - np.mean(explained) < between**2 + 1e-4


def test_one_seed_has_a_mean_and_no_spread() -> None:
    found = seed_spread([[True, False, True, True]])
    assert (found.mean, found.sd, found.sd_of_examples, found.sd_of_seeds) == (0.75, None, None, None)


@pytest.mark.parametrize(
    ("sizes", "truth", "most"),
    [
        ((300, 400), (0.7, 0.7), 0.97),
        ((500, 500), (0.97, 0.95), 0.97),
        ((500, 200), (0.99, 0.99), 0.985),
        ((500, 100), (0.995, 0.985), 0.985),
        ((200, 200), (0.02, 0.01), 0.985),
    ],
)
def test_the_mean_curse_covers_its_truth(sizes, truth, most) -> None:
    """Members that mostly succeed on the same examples; near 0 and 1 Newcombe's interval holds a little more."""
    draw = np.random.default_rng(2)
    covered = []
    for _ in range(1000):
        val, test = (
            0.9 * draw.normal(size=n) + 0.19**0.5 * draw.normal(size=(3, n)) < NormalDist().inv_cdf(accuracy)
            for n, accuracy in zip(sizes, truth, strict=True)
        )
        found = mean_curse(val, test)
        assert found.value == pytest.approx(val.mean() - test.mean())
        covered.append(found.low <= truth[0] - truth[1] <= found.high)
    print(f"{sizes}, {truth}: 95 % intervals cover {np.mean(covered):.3f}")  # noqa: T201
    assert 0.93 <= np.mean(covered) <= most


def test_the_mean_curse_of_one_member_is_newcombes_and_none_wrong_is_not_certain() -> None:
    rng = np.random.default_rng(3)
    val, test = rng.random((1, 300)) < 0.8, rng.random((1, 200)) < 0.7
    newcombe = difference(accuracy_estimate(val.mean(), 300), accuracy_estimate(test.mean(), 200))
    found = mean_curse(val, test)
    assert (found.low, found.high) == pytest.approx((newcombe.low, newcombe.high))
    right = mean_curse(np.ones((3, 500)), np.ones((3, 200)))
    assert (right.low, right.high) == pytest.approx((-0.0076, 0.0188), abs=1e-4)


def test_members_replicas_and_failures_are_combined() -> None:
    member = result_row(0, val_clean_accuracy=0.9, val_robust_accuracy=0.5)
    replicas = [
        result_row(n, trial_id=f"t00000-s{n}", study="toy-confirm", replicate_of=0, seed=n, status=status)
        for n, status in ((1, "completed"), (2, "completed"), (3, "failed"))
    ]
    tests = [
        evaluation_row("t00000"),
        evaluation_row(
            "t00000",
            trial_id="t00000-s1",
            study="toy-confirm",
            clean_accuracy=0.8,
            robust_accuracy=0.4,
            lipschitz_mean=8.0,
        ),
        evaluation_row(
            "t00000",
            trial_id="t00000-s2",
            study="toy-confirm",
            clean_accuracy=0.9,
            robust_accuracy=0.6,
            lipschitz_mean=11.0,
        ),
    ]
    (found,) = confirmed([member], tests, replicas=replicas)
    assert found.curse["clean"].value == pytest.approx(0.02)
    assert found.curse["robust"].low < 0.05 < found.curse["robust"].high
    assert found.failed == 1
    assert (found.spread["robust"].seeds, found.spread["robust"].mean) == (2, pytest.approx(0.5))
    assert found.spread["robust"].sd == pytest.approx(np.sqrt(0.02))
    assert found.spread["robust"].sd_of_examples is None
    assert "2 (1 failed)" in confirmation_table([found]).markdown()
    lipschitz = confirmation_table([found]).rows[2]
    assert lipschitz[2:5] == ("Lipschitz", f"{member['val_lipschitz_mean']:.4g}", "9")
    # 8, 11: mean 9.5, standard deviation 3 / sqrt 2
    assert (lipschitz[6], lipschitz[7], lipschitz[-1]) == ("9.5", "2.121", "2")
    old = confirmed([member], [{**row, "lipschitz_mean": None} for row in tests], replicas=replicas)
    assert confirmation_table(old).cells()[2][4:] == ["-"] * 7
    tree = json.loads(json.dumps(as_tree([found])))
    assert tree[0]["robust"]["seeds"]["sd"] == pytest.approx(np.sqrt(0.02))


def test_seeds_are_compared_on_one_number_of_images_where_most_have_one() -> None:
    replicas = [result_row(n, trial_id=f"t00000-s{n}", study="toy-confirm", replicate_of=0) for n in (1, 2, 3)]

    def test_of(seed, examples, share):
        changes = {"trial_id": f"t00000-s{seed}", "study": "toy-confirm", "examples": examples}
        return evaluation_row("t00000", evaluation=f"{seed}-{examples}", clean_accuracy=share, **changes)

    tests = [test_of(1, 300, 0.9), test_of(2, 300, 0.8), *(test_of(n, 50, n / 4) for n in (1, 2, 3))]
    (found,) = confirmed([result_row(0)], tests, replicas=replicas)
    assert (found.spread["clean"].examples, found.spread["clean"].mean) == (50, pytest.approx(0.5))
    (found,) = confirmed([result_row(0)], tests[:2], replicas=replicas)
    assert (found.spread["clean"].examples, found.spread["clean"].seeds) == (300, 2)


def folder_with_tests(home):
    """A study of three trials, two of them chosen and one of those measured, with its outcomes on both splits."""
    draw = np.random.default_rng(3)
    for number in range(3):
        row = result_row(number, examples=80, val_clean_accuracy=0.9, val_robust_accuracy=0.5)
        write_rows(home / "results" / f"{row['trial_id']}.parquet", [row], RESULT)
    outcomes = {}
    for split, count in (("val", 80), ("test", 60)):
        clean = draw.random(count) < 0.9
        outcomes[split] = {
            "index": np.arange(count),
            "clean_correct": clean,
            "robust_correct": clean & (draw.random(count) < 0.5),
        }
    same = {"study": "toy", "trial_id": "t00000", "checkpoint": "last", "attack": "pgd", "epsilon": 0.1}
    columns = example_columns({"val": outcomes["val"]}, **same)
    write_columns(home / "examples" / "t00000.parquet", columns, EXAMPLE)
    row = evaluation_row(examples=60, clean_accuracy=float(outcomes["test"]["clean_correct"].mean()))
    write_rows(home / "evaluations" / f"{row['evaluation']}.parquet", [row], EVALUATION)
    columns = example_columns({"test": outcomes["test"]}, **same)
    write_columns(examples_file(home, row["evaluation"]), columns, EXAMPLE)
    (home / CHOICE_FILE).write_text(json.dumps({"chosen_at": "", "trials": 3, "members": ["t00000", "t00002"]}))
    return outcomes


def test_results_on_test_list_chosen_measured_and_waiting_members(tmp_path) -> None:
    outcomes = folder_with_tests(tmp_path)
    table = as_table([result_row(number, examples=80) for number in range(3)])
    found = read_on_test(tmp_path, table)
    assert [one.result["trial_id"] for one in found.members] == ["t00000"]
    assert (found.chosen, found.waiting, len(found.evaluations)) == (("t00000",), ("t00002",), 1)
    difference = outcomes["val"]["robust_correct"].mean() - outcomes["test"]["robust_correct"].mean()
    assert found.curse["robust"].value == pytest.approx(difference)
    shown = on_test_table(found).markdown()
    assert "not measured on test: t00002" in shown
    assert "PGD-10, 60 images" in shown
    assert "t00000" in evaluation_table([one.result for one in found.members], found.evaluations).markdown()
    assert read_evaluations(tmp_path).num_rows == 1
    seeds = Spread(seeds=3, examples=60, mean=0.8, sd=0.05, sd_of_examples=None)
    spread = {"clean": seeds, "robust": seeds}
    seeded = replace(found, members=(replace(found.members[0], spread=spread),))
    write_on_test(seeded, tmp_path / "figures", formats=["html", "svg"])
    page = (tmp_path / "figures" / "pareto_test.html").read_text()
    for words in ("trial t00000, 3 new seeds", "n = 1 trial on test, 1 chosen on validation", "PGD, 10 steps"):
        assert words in page
    (tmp_path / "untested").mkdir()
    assert read_on_test(tmp_path / "untested", table) is None


def test_a_strong_attack_on_few_images_is_never_compared_with_a_weak_one_on_many(tmp_path) -> None:
    # of 20 images PGD leaves all and AutoAttack all but one: a larger share than PGD leaves of all 60
    left = np.arange(60) < 30
    same = evaluation_row(examples=60, robust_accuracy=0.5, lipschitz_mean=None)
    strong = evaluation_row(
        evaluation="t00000-last-1",
        attack="autoattack",
        examples=20,
        clean_accuracy=1.0,
        robust_accuracy=0.95,
        lipschitz_mean=None,
    )
    (result,) = as_table([result_row(0, examples=80)]).to_pylist()
    rows = [same, strong]
    for row, robust in ((same, left), (strong, np.arange(20) > 0)):
        found = {"index": np.arange(len(robust)), "clean_correct": np.ones_like(robust), "robust_correct": robust}
        own = {"study": "toy", "trial_id": "t00000", "checkpoint": "last", "attack": row["attack"], "epsilon": 0.1}
        write_columns(examples_file(tmp_path, row["evaluation"]), example_columns({"test": found}, **own), EXAMPLE)
        write_rows(tmp_path / "evaluations" / f"{row['evaluation']}.parquet", [row], EVALUATION)
    shown = tracked_metrics(result, rows, study_dir=tmp_path)
    assert shown["test_examples"] == 60
    assert shown["test_robust_accuracy"] == shown["test_robust_accuracy_pgd"] == 0.5
    assert shown["test_robust_accuracy_autoattack_first_20"] == 0.95
    assert shown["test_robust_accuracy_pgd_first_20"] == 1.0
    assert "test_robust_accuracy_autoattack" not in shown
    known = read_on_test(tmp_path, as_table([result]))
    assert known.same_images == {"t00000": 1.0}
    assert "t00000 1.0000 (20 images, clean accuracy 1.0000)" in " ".join(on_test_table(known).markdown().split())
    assert "clean 1.000, PGD-10 1.000" in on_test_table(known).rows[0]
    (answer,) = [one for one in card(result, on_test=known) if "AutoAttack" in one.question]
    assert "1.000 on the very 20 images of the stronger attack, where clean accuracy is 1.000" in answer.text
    examples_file(tmp_path, strong["evaluation"]).unlink()
    assert "test_robust_accuracy_pgd_first_20" not in tracked_metrics(result, rows, study_dir=tmp_path)
    known = read_on_test(tmp_path, as_table([result]))
    assert "t00000 not known (20 images, clean accuracy 1.0000)" in " ".join(on_test_table(known).markdown().split())
    (answer,) = [one for one in card(result, on_test=known) if "AutoAttack" in one.question]
    assert "not to be compared" in answer.text


def test_attacks_on_the_same_images_have_their_bare_names(tmp_path) -> None:
    rows = [
        evaluation_row(lipschitz_examples=10),
        evaluation_row(attack="autoattack", robust_accuracy=0.4, lipschitz_mean=None),
        evaluation_row(attack="m:mine", lipschitz_mean=None),
    ]
    shown = tracked_metrics(result_row(0), rows, study_dir=tmp_path)
    assert shown == {
        "test_clean_accuracy": 0.88, "test_robust_accuracy": 0.45, "test_examples": 1000, "test_lipschitz_mean": 9.0,
        "test_robust_accuracy_pgd": 0.45, "test_robust_accuracy_autoattack": 0.4, "test_robust_accuracy_mine": 0.45,
    }  # fmt: skip
    alone = tracked_metrics(result_row(0), [rows[1]], study_dir=tmp_path)
    assert alone["test_examples"] == 1000
    assert tracked_metrics(result_row(0), [], study_dir=tmp_path) == {}


def test_a_damaged_choice_is_named(tmp_path) -> None:
    assert read_choice(tmp_path) == ()
    (tmp_path / CHOICE_FILE).write_text("{")
    with pytest.raises(ResultsError, match=r"chosen\.json must hold `members`"):
        read_choice(tmp_path)
