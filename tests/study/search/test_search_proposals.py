"""Proposals: start points, every point of a grid, replicates of repeated settings, none after the time budget."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from types import SimpleNamespace
from typing import get_args

import pytest
from helpers.studies.searching import GOOD, Driver, study_config
from optuna.trial import TrialState

from search_spaces.start_points import paper_points
from study.config.changes import check_unchanged
from study.config.schema import parse_config
from study.config.search_section import SearchConfig
from study.config.values import parse_duration
from study.directory.seed_plan import Plan
from study.errors import UsageError
from study.evaluation.confirm import confirm_config
from study.lifecycle.launch import with_more_trials
from study.search import time_budget
from study.search.samplers import SAMPLERS
from study.search.time_budget import spent
from trainables.methods import METHODS
from trainables.methods.base import build_method

LISTED = {"dropout": {"values": [0.0, 0.2]}, "train_epsilon": {"values": [0.1, 0.2, 0.3]}, "beta": {"values": [1, 6]}}
METHODS_OF_GRID = ["natural", "adversarial_training", "trades"]
POINTS = 2 + 2 * 3 + 2 * 3 * 2


def grid(**search):
    return study_config(sampler="grid", methods=METHODS_OF_GRID, ranges=LISTED, **search)


def spec(config):
    return tuple(sorted(config["spec"].items()))


def again(asked):
    """The config of a trial that runs a second time."""
    return asked | {"attempts": asked["attempts"] + 1}


def outcomes(number):
    """Every way in which a trial can end, in turn: completed, NaN, stopped early, failed, lost and so run again."""
    scores = {"val_clean_accuracy": (number % 7) / 7, "val_robust_accuracy": (number % 5) / 5}
    return [
        (GOOD | scores, TrialState.COMPLETE),
        (GOOD | {"val_robust_accuracy": math.nan}, TrialState.FAIL),
        (GOOD | {"status": "stopped_early"}, TrialState.PRUNED),
        ({"status": "failed", "val_clean_accuracy": None, "val_robust_accuracy": None}, TrialState.FAIL),
        (None, TrialState.COMPLETE),
    ][number % 5 if number > 4 else 0]


def test_the_config_offers_all_samplers():
    assert set(get_args(SearchConfig.model_fields["sampler"].annotation)) == set(SAMPLERS)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_contract_of_every_sampler_with_all_endings_four_at_once_and_a_resume(sampler):
    listed = {"ranges": LISTED} if sampler == "grid" else {}
    # the Gaussian process starts at ten completed trials and then takes seconds
    trials = 31 if sampler == "gp" else 40
    config = study_config(
        sampler=sampler, methods=METHODS_OF_GRID, num_trials=trials, constraints=["val_clean_accuracy >= 0.3"], **listed
    )
    total = config.num_trials
    expected, configs = {}, {}
    driver = Driver(config)
    while len(configs) < total - 6:
        asked = [driver.ask() for _ in range(min(4, total - 6 - len(configs)))]
        for proposed in reversed(asked):
            row, state = outcomes(proposed["number"])
            configs[proposed["number"]], expected[proposed["number"]] = proposed, state
            driver.end(proposed["number"], row, error=row is None)
    lost = [driver.ask() for _ in range(3)]
    # the driver dies: one trial has its row, two have none
    driver.rows[lost[0]["number"]] = GOOD | {"status": "stopped_early"}
    resumed = Driver(config, driver.storage, driver.rows)
    assert resumed.study.trials[lost[0]["number"]].state == TrialState.PRUNED
    gone = [proposed for number, proposed in configs.items() if outcomes(number)[0] is None]
    expected_first = list(map(again, [*sorted(gone, key=lambda proposed: proposed["number"]), *lost[1:]]))
    assert resumed.run(len(expected_first)) == expected_first
    configs |= {proposed["number"]: proposed for proposed in [*lost, *resumed.run(total - len(configs) - 3)]}
    trials = resumed.study.trials
    assert [trial.number for trial in trials] == sorted(configs) == list(range(total))
    for trial in trials:
        assert trial.state.is_finished()
        assert trial.state == expected.get(trial.number, trial.state)
        assert (trial.values is None) == (trial.state != TrialState.COMPLETE)
    kinds = Counter(proposed["proposal"] for proposed in configs.values())
    share = {"random": total, "grid": 0}.get(sampler, total * config.search.random_fraction)
    assert abs(kinds["random"] - share) < 1
    assert kinds["grid"] == (total if sampler == "grid" else 0)


def test_a_grid_has_every_combination_once_even_when_resumed():
    config = grid(num_trials=100)
    assert config.num_trials == POINTS
    driver = Driver(config)
    seen = driver.run(7)
    seen += Driver(config, driver.storage, driver.rows).run(POINTS - 7)
    combinations = {("natural", dropout) for dropout in (0.0, 0.2)}
    combinations |= set(itertools.product(["adversarial_training"], (0.0, 0.2), (0.1, 0.2, 0.3)))
    combinations |= set(itertools.product(["trades"], (0.0, 0.2), (0.1, 0.2, 0.3), (1, 6)))
    names = ("method", "dropout", "train_epsilon", "beta")
    drawn = [tuple(proposed["spec"][name] for name in names if name in proposed["spec"]) for proposed in seen]
    assert len(drawn) == POINTS
    assert set(drawn) == combinations
    assert {proposed["replicate_of"] for proposed in seen} == {None}


def test_seeds_repeat_the_whole_grid_one_order_after_another():
    driver, once = Driver(grid(num_trials=100, seeds=3)), Driver(grid(num_trials=100))
    total = 3 * POINTS
    assert grid(num_trials=1000, seeds=3).num_trials == total
    seen = driver.run(POINTS + 5)
    seen += Driver(grid(num_trials=100, seeds=3), driver.storage, driver.rows).run(total - POINTS - 5)
    blocks = [list(map(spec, seen[start : start + POINTS])) for start in range(0, total, POINTS)]
    assert blocks[0] == list(map(spec, once.run(POINTS)))
    assert len({tuple(block) for block in blocks}) == 3
    assert set(blocks[0]) == set(blocks[1]) == set(blocks[2])
    first = {of: number for number, of in enumerate(blocks[0])}
    assert [proposed["replicate_of"] for proposed in seen[POINTS:]] == [first[of] for of in blocks[1] + blocks[2]]
    config = grid(num_trials=100, seeds=3)
    drawn = [config.trial_spec(each["spec"], number=each["number"]).seed for each in seen]
    assert len(set(drawn)) == total


def test_seeds_may_be_raised_later_and_new_seeds_of_members_need_no_grid():
    config = grid(num_trials=100, seeds=2)
    check_unchanged(config.to_dict(), grid(num_trials=100, seeds=3), where="study.yaml")
    request = SimpleNamespace(address=None, data_root=None)
    confirmed = confirm_config(config, Plan((SimpleNamespace(),)), request)
    assert parse_config(confirmed.to_dict()).search.seeds == 1


def test_a_complete_grid_has_no_trials_to_add_but_seeds():
    assert with_more_trials(grid(num_trials=10), 5).num_trials == 15
    with pytest.raises(UsageError, match=rf"the grid has {2 * POINTS}; .* --set search\.seeds=3"):
        with_more_trials(grid(num_trials=100, seeds=2), 5)


def test_seeds_without_a_grid_are_one_clear_line():
    tree = study_config(sampler="random").to_dict()
    tree["search"]["seeds"] = 3
    with pytest.raises(UsageError, match=r"`search\.seeds` repeats the points of a grid, got 3 with `sampler: random`"):
        parse_config(tree)


@pytest.mark.parametrize("config", [grid(num_trials=3), study_config(num_trials=3)], ids=["grid", "tpe"])
def test_a_failed_trial_whose_row_was_lost_is_run_again_as_it_was(config):
    first = Driver(config)
    asked = first.run(3, lambda proposed: GOOD if proposed["number"] != 1 else {"status": "failed"})
    assert [trial.state.name for trial in first.study.trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    del first.rows[1]
    second = Driver(config, first.storage, first.rows)
    assert second.pending == [1]
    assert second.run(1) == [asked[1]]
    assert len(second.study.trials) == 3


def test_a_part_of_a_grid_is_mixed_and_drawn_by_the_seed():
    first, again, other = (Driver(grid(num_trials=9, seed=seed)).run(9) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert len({proposed["spec"]["method"] for proposed in first}) > 1


def test_a_grid_over_a_range_is_refused_until_it_has_points():
    tree = grid().to_dict()
    for given, message in (
        ([0.0, 0.5], r"`dropout` is drawn from \[0, 0\.5\]: give `search\.ranges\.dropout` as \{values"),
        ({"low": 0.0, "high": 0.5, "points": 1}, r"`search\.ranges\.dropout\.points` must be .* at least 2, got 1"),
    ):
        tree["search"]["ranges"]["dropout"] = given
        with pytest.raises(UsageError, match=message):
            parse_config(tree)
    tree["search"]["ranges"]["dropout"] = {"low": 0.0, "high": 0.5, "points": 6}
    tree["search"]["ranges"]["beta"] = {"low": 1.0, "high": 100.0, "log": True, "points": 3}
    points = parse_config(tree).space().grid()
    assert sorted({point["dropout"] for point in points}) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert sorted({point["trades.beta"] for point in points if "trades.beta" in point}) == [1.0, 10.0, 100.0]


def test_repeated_settings_are_replicates_of_the_first_trial():
    config = study_config(
        sampler="random", methods=["natural", "trades"], ranges={"dropout": {"values": [0.0, 0.2]}},
        fixed={"beta": 6.0, "train_epsilon": 0.1}, num_trials=30,
    )  # fmt: skip
    driver = Driver(config)
    asked = driver.run(10)
    lost = driver.ask()
    resumed = Driver(config, driver.storage, driver.rows)
    asked += resumed.run(20)
    assert asked[10] == again(lost)
    first: dict[tuple, int] = {}
    for proposed in asked:
        expected = first.setdefault(spec(proposed), proposed["number"])
        assert proposed["replicate_of"] == (None if expected == proposed["number"] else expected)
    assert len(first) == 4
    seeds = {config.trial_spec(proposed["spec"], number=proposed["number"]).seed for proposed in asked}
    assert len(seeds) == len(asked)


def test_a_trial_proposed_before_its_replicate_stays_the_first_even_if_it_ends_later():
    config = study_config(methods=["natural"], fixed={"dropout": 0.1})
    driver = Driver(config)
    first, second = driver.ask(), driver.ask()
    driver.end(second["number"], GOOD)
    resumed = Driver(config, driver.storage, driver.rows)
    assert [proposed["replicate_of"] for proposed in (first, second, *resumed.run(2))] == [None, 0, None, 0]


def paper(**search):
    return study_config(methods=list(METHODS), start_from="paper", num_trials=30, **search)


def test_a_study_starts_with_the_papers_settings_once():
    config = paper(ranges={"h": [0.01, 1.0]}, fixed={"direction": "l2"})
    driver = Driver(config)
    early = driver.run(4)
    seen = early + Driver(config, driver.storage, driver.rows).run(20)
    starts = [proposed for proposed in seen if proposed["proposal"] == "start_point"]
    assert starts == seen[: len(starts)]
    specs = [proposed["spec"] for proposed in starts]
    strengths = Counter((spec["method"], spec.get("beta", spec.get("lambda"))) for spec in specs)
    assert strengths == Counter(
        [
            ("natural", None), ("adversarial_training", None),
            *(("trades", beta) for beta in (1, 3, 6)),
            *(("robust_self_training", weight) for weight in (0.5, 1, 2)),
            ("gradient_regularization", 1), ("locally_linear", 4), ("locally_linear", 3),
        ]
    )  # fmt: skip
    for proposed in starts:
        assert proposed["spec"]["dropout"] == 0
        assert proposed["spec"].get("train_epsilon", 0.15) == config.evaluation.epsilon
    assert {proposed["proposal"] for proposed in seen[len(starts) :]} == {"random", "sampler"}


def test_the_papers_settings_are_legal_for_their_methods():
    for method in METHODS:
        for settings in getattr(METHODS.load(method), "paper", ()):
            build_method(method, settings)


def test_a_start_point_outside_the_space_is_left_out_and_reported():
    points, left_out = paper_points(paper().space(), epsilon=0.15)
    assert [line for line in left_out if "gradient_regularization" in line and "every trial has h 0.01" in line]
    assert not [point for point in points if point["method"] == "gradient_regularization"]
    narrow = paper(ranges={"gradient_regularization.lambda": [0.001, 0.1]}).space()
    assert paper_points(narrow, epsilon=0.15) == (points, left_out)


def test_fixed_and_narrowed_spaces_keep_the_start_points_inside_them():
    config = study_config(
        methods=["trades"], start_from="paper", fixed={"beta": 3.0},
        ranges={"dropout": [0.2, 0.5], "train_epsilon": {"values": [0.1, 0.2]}}, num_trials=9,
    )  # fmt: skip
    driver = Driver(config)
    assert len(driver.left_out) == 2
    proposed, *others = driver.run(3)
    assert (proposed["proposal"], proposed["spec"]["beta"]) == ("start_point", 3.0)
    assert proposed["spec"]["dropout"] >= 0.2
    assert {other["proposal"] for other in others} <= {"sampler", "random"}


def test_a_paper_value_outside_its_range_is_one_clear_line():
    tree = paper(ranges={"beta": [0.5, 5.0]}).to_dict()
    with pytest.raises(UsageError, match=r"starts trades at beta 6, but `search\.ranges\.beta` is \[0\.5, 5\]"):
        parse_config(tree)
    tree = grid().to_dict()
    tree["search"]["start_from"] = "paper"
    with pytest.raises(UsageError, match=r"`search\.start_from` has no effect with `sampler: grid`"):
        parse_config(tree)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400), ("8h", 28800), ("1d12h", 129600), ("1.5h", 5400), ("30s", 30)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "8", "8 h", "h", "-1h", "8hours", "0m"])
def test_an_invalid_duration_is_one_clear_line(text):
    tree = study_config().to_dict()
    tree["search"]["time_budget"] = text
    with pytest.raises(UsageError, match=r"`search\.time_budget`: a duration must"):
        parse_config(tree)


def test_no_trial_starts_after_the_time_budget_and_started_ones_are_finished(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time_budget, "time", SimpleNamespace(monotonic=lambda: now[0]))
    config = study_config(time_budget="100s")
    driver = Driver(config)
    now[0] += 500  # before the first proposal nothing is counted
    first = driver.ask()
    now[0] += 60
    driver.end(first["number"], GOOD)
    assert spent(driver.study) == 60
    second = driver.ask()
    now[0] += 30  # the driver is killed; its last event was 30 s ago
    resumed = Driver(config, driver.storage, driver.rows)
    assert resumed.ask() == again(second)
    now[0] += 39
    third = resumed.ask()
    now[0] += 1
    assert resumed.ask() == "FINISHED"
    for proposed in (second, third):
        resumed.end(proposed["number"], GOOD)
    assert spent(resumed.study) == 100
    assert Driver(config, driver.storage, driver.rows).ask() == "FINISHED"
    assert len(resumed.study.trials) == 3


def test_the_time_of_long_epochs_counts_before_their_trial_ends(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time_budget, "time", SimpleNamespace(monotonic=lambda: now[0]))
    driver = Driver(study_config(time_budget="1h"))
    driver.ask()
    for _ in range(5):
        now[0] += 20
        driver.searcher.on_trial_result("tune-0", {})
    assert spent(driver.study) >= 80
