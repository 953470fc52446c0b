"""Search spaces: what is drawn for each method, ranges and fixed values from a config, and their errors."""

from __future__ import annotations

import contextlib
import sys
import types
from dataclasses import replace

import optuna
import pytest

from search_spaces import SPACES
from search_spaces.core import core
from search_spaces.dimensions import SpaceError
from search_spaces.space import build_space
from trainables.methods import METHODS
from trainables.registry import OwnCodeError
from trainables.settings import settings_of
from trainables.spec import EvaluationSpec

EVALUATION = EvaluationSpec(epsilon=0.1)


def space(methods=("natural", "trades", "adversarial_training"), *, ranges=None, fixed=None):
    return build_space("core", methods=list(methods), evaluation=EVALUATION, ranges=ranges or {}, fixed=fixed or {})


def draws(search_space, count=60):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [search_space.draw(study.ask()) for _ in range(count)]


@pytest.mark.parametrize("name", SPACES)
def test_every_space_draws_legal_values_for_every_method(name):
    for method in METHODS:
        proposals = draws(build_space(name, methods=[method], evaluation=EVALUATION, ranges={}, fixed={}), 20)
        declared = settings_of(METHODS.load(method))
        for proposal in proposals:
            assert proposal["method"] == method
            assert 0 <= proposal["dropout"] <= 0.5
            assert ("train_epsilon" in proposal) == METHODS.load(method).attacks
            for setting in declared.values():
                if setting.search is not None:
                    assert setting.problem(proposal[setting.name]) is None


def test_conditional_dimensions_are_drawn_for_their_method_only():
    proposals = draws(space())
    assert {proposal["method"] for proposal in proposals} == {"natural", "trades", "adversarial_training"}
    for proposal in proposals:
        assert ("beta" in proposal) == (proposal["method"] == "trades")
        assert ("train_epsilon" in proposal) == (proposal["method"] != "natural")


@pytest.mark.parametrize(
    ("methods", "of", "problem"),
    [
        (
            ["natural", "trades"],
            None,
            "`train_epsilon` only for the methods that attack, .*: method 'natural' does not",
        ),
        (["natural", "trades"], ("natural",), "`train_epsilon` only for the methods that attack"),
        (["trades", "adversarial_training"], ("trades",), "must be a radius for method 'adversarial_training'"),
        (["trades"], None, None),
    ],
)
def test_a_space_gives_a_radius_to_the_methods_that_attack_and_to_no_other(monkeypatch, methods, of, problem):
    def own(*, methods, evaluation):
        return [replace(one, methods=of) for one in core(methods=methods, evaluation=evaluation)[1:2]]

    monkeypatch.setitem(sys.modules, "users_radius_space", types.SimpleNamespace(own=own))
    expected = pytest.raises(OwnCodeError, match=problem) if problem else contextlib.nullcontext()
    with expected:
        build_space("users_radius_space:own", methods=methods, evaluation=EVALUATION, ranges={}, fixed={})


def test_training_radius_is_searched_around_the_evaluation_radius():
    radii = [proposal["train_epsilon"] for proposal in draws(space(["trades"]), 200)]
    assert 0.025 <= min(radii) < 0.04
    assert 0.18 < max(radii) <= 0.2


def test_ranges_narrow_list_and_add_dimensions():
    proposals = draws(space(ranges={"dropout": [0.1, 0.2], "beta": {"values": [1, 3, 6]}, "lr": [0.01, 0.1]}))
    assert all(0.1 <= proposal["dropout"] <= 0.2 for proposal in proposals)
    assert {proposal["beta"] for proposal in proposals if "beta" in proposal} == {1, 3, 6}
    assert all(0.01 <= proposal["lr"] <= 0.1 for proposal in proposals)


def test_fixed_values_are_not_searched_and_apply_to_their_method_only():
    search_space = space(fixed={"dropout": 0.3, "beta": 4.0, "weight_decay": 0.0})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(30):
        trial = study.ask()
        proposal = search_space.draw(trial)
        assert proposal["dropout"] == 0.3
        assert proposal["weight_decay"] == 0.0
        assert proposal.get("beta") == (4.0 if proposal["method"] == "trades" else None)
        assert not {"dropout", "trades.beta"} & set(trial.params)


def test_settings_without_a_range_are_searched_only_on_request():
    methods = ["natural", "locally_linear", "gradient_regularization", "robust_self_training"]
    untouched = {"variant", "h", "pool"}
    assert not [proposal for proposal in draws(space(methods)) if untouched & set(proposal)]
    variants = {"values": ["published", "as_run"]}
    for ranges in ({"variant": variants}, {"locally_linear.variant": variants}):
        proposals = draws(space(methods, ranges={**ranges, "h": [0.001, 0.1]}), 100)
        drawn = {proposal["method"]: set() for proposal in proposals}
        for proposal in proposals:
            drawn[proposal["method"]] |= untouched & set(proposal)
        assert drawn == {
            "natural": set(), "locally_linear": {"variant"}, "gradient_regularization": {"h"},
            "robust_self_training": set(),
        }  # fmt: skip
        assert {proposal["variant"] for proposal in proposals if "variant" in proposal} == {"published", "as_run"}
        assert all(0.001 <= proposal["h"] <= 0.1 for proposal in proposals if "h" in proposal)
    for key in ("pool", "robust_self_training.pool"):
        for proposal in draws(space(methods, fixed={key: "digits", "variant": "as_run"})):
            assert proposal.get("pool") == ("digits" if proposal["method"] == "robust_self_training" else None)
            assert proposal.get("variant") == ("as_run" if proposal["method"] == "locally_linear" else None)


def test_a_hyperparameters_name_may_occur_in_several_methods():
    methods = ["gradient_regularization", "locally_linear", "robust_self_training"]
    proposals = draws(space(methods, ranges={"locally_linear.lambda": [6, 7]}), 100)
    assert all((6 <= proposal["lambda"] <= 7) == (proposal["method"] == "locally_linear") for proposal in proposals)
    assert not [p for p in draws(space(["natural"], ranges={}, fixed={})) if "lambda" in p]


def test_a_name_that_one_method_searches_and_another_does_not_is_set_for_both():
    """The step of a finite difference is searched only if it is named, hat's distance always."""
    methods = ["gradient_regularization", "hat"]
    assert all(("h" in proposal) == (proposal["method"] == "hat") for proposal in draws(space(methods)))
    assert all(0.5 <= proposal["h"] <= 1 for proposal in draws(space(methods, ranges={"h": [0.5, 1.0]})))
    assert all(proposal["h"] == 0.5 for proposal in draws(space(methods, fixed={"h": 0.5})))
    for narrowed in ({"ranges": {"h": [2.0, 3.0]}}, {"fixed": {"h": 3.0}}):
        with pytest.raises(SpaceError, match=r"h` must be in \[0\.0001, 1\], got"):
            space(methods, **narrowed)


def test_a_shared_setting_may_be_listed_or_fixed_for_one_method():
    listed = {"adversarial_training.train_epsilon": {"values": [0.05, 0.1]}}
    for order in (1, -1):
        ranges = dict(list({**listed, "dropout": {"values": [0.0, 0.5]}}.items())[::order])
        points = space(ranges=ranges, fixed={"train_epsilon": 0.2, "beta": 1.0}).grid()
        assert len(points) == 2 + 2 + 2 * 2
    search_space = space(ranges=listed, fixed={"train_epsilon": 0.2, "trades.dropout": 0.3})
    for proposal in draws(search_space):
        method = proposal["method"]
        radii = {"natural": {None}, "trades": {0.2}, "adversarial_training": {0.05, 0.1}}
        assert proposal.get("train_epsilon") in radii[method]
        assert (proposal["dropout"] == 0.3) == (method == "trades")
    with pytest.raises(SpaceError, match=r"`search\.ranges\.natural\.train_epsilon` is not a setting of this space"):
        space(ranges={"natural.train_epsilon": [0.1, 0.2]})


def test_a_methods_own_range_comes_before_one_for_all_methods_in_either_order():
    methods = ["trades", "hat"]
    both = {"beta": {"values": [1.0]}, "hat.beta": {"values": [2.0]}}
    for ranges in (both, dict(reversed(both.items()))):
        assert {(each["method"], each["beta"]) for each in draws(space(methods, ranges=ranges))} == {
            ("trades", 1.0), ("hat", 2.0)
        }  # fmt: skip
    for fixed in ({"beta": 1.0, "hat.beta": 2.0}, {"hat.beta": 2.0, "beta": 1.0}):
        assert {(each["method"], each["beta"]) for each in draws(space(methods, fixed=fixed))} == {
            ("trades", 1.0), ("hat", 2.0)
        }  # fmt: skip


@pytest.mark.parametrize(
    ("ranges", "fixed", "message"),
    [
        ({"dropout": [0, 2]}, {}, r"`search\.ranges\.dropout` must be in \[0, 0\.95\], got 2"),
        ({"dropout": [0.4, 0.1]}, {}, r"low <= high, got \[0\.4, 0\.1\]"),
        ({"dropout": 0.3}, {}, r"must be \[low, high\]"),
        ({"dropuot": [0, 0.1]}, {}, r"did you mean dropout\?"),
        ({"dropout": {"hi": 1}}, {}, r"unknown key `search\.ranges\.dropout\.hi`"),
        ({"beta": {"values": []}}, {}, "at least one value"),
        ({"beta": {"low": 0, "high": 1, "log": True}}, {}, "low > 0 on a log scale"),
        (
            {},
            {"train_epsilon": 8},
            r"`search\.fixed\.train_epsilon` must be in \[0, 1\], got 8 \(did you mean 8/255\?\)",
        ),
        ({}, {"lrr": 0.1}, r"did you mean lr\?"),
        ({"variant": {"values": ["as_run"]}}, {}, "`search.ranges.variant` is not a setting of this space"),
        ({"dropout": [0, 0.1]}, {"dropout": 0.1}, "exclude each other"),
    ],
)
def test_an_illegal_range_or_value_is_one_clear_error(ranges, fixed, message):
    with pytest.raises(SpaceError, match=message):
        space(ranges=ranges, fixed=fixed)
