from __future__ import annotations

import optuna
import pytest

from search_spaces import SPACES
from search_spaces.dimensions import SpaceError
from search_spaces.space import build_space
from trainables.methods import METHODS
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


def test_conditional_quantities_belong_to_their_method():
    proposals = draws(space())
    assert {proposal["method"] for proposal in proposals} == {"natural", "trades", "adversarial_training"}
    for proposal in proposals:
        assert ("beta" in proposal) == (proposal["method"] == "trades")
        assert ("train_epsilon" in proposal) == (proposal["method"] != "natural")


def test_training_radius_is_searched_around_the_evaluation_radius():
    radii = [proposal["train_epsilon"] for proposal in draws(space(["trades"]), 200)]
    assert 0.025 <= min(radii) < 0.04
    assert 0.18 < max(radii) <= 0.2


def test_ranges_narrow_list_and_add():
    found = draws(space(ranges={"dropout": [0.1, 0.2], "beta": {"values": [1, 3, 6]}, "lr": [0.01, 0.1]}))
    assert all(0.1 <= proposal["dropout"] <= 0.2 for proposal in found)
    assert {proposal["beta"] for proposal in found if "beta" in proposal} == {1, 3, 6}
    assert all(0.01 <= proposal["lr"] <= 0.1 for proposal in found)


def test_fixed_values_are_not_searched_and_reach_only_their_method():
    search_space = space(fixed={"dropout": 0.3, "beta": 4.0, "weight_decay": 0.0})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(30):
        trial = study.ask()
        proposal = search_space.draw(trial)
        assert proposal["dropout"] == 0.3
        assert proposal["weight_decay"] == 0.0
        assert proposal.get("beta") == (4.0 if proposal["method"] == "trades" else None)
        assert not {"dropout", "trades.beta"} & set(trial.params)


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
        ({"dropout": [0, 0.1]}, {"dropout": 0.1}, "exclude each other"),
    ],
)
def test_what_a_space_cannot_take_is_one_clear_line(ranges, fixed, message):
    with pytest.raises(SpaceError, match=message):
        space(ranges=ranges, fixed=fixed)
