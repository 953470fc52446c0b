"""The config of early stopping: grace periods, rungs, and refused settings."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import pytest

from search_spaces.core import core
from search_spaces.dimensions import from_setting
from study.config.early_stopping import SchedulerConfig, check_stopping
from study.config.schema import parse_config
from study.errors import UsageError
from trainables.methods.natural import Natural
from trainables.settings import setting, settings_of
from trainables.spec import EvaluationSpec, TrainingSpec, drops
from trainables.training.optimizers import learning_rate


def study(**changes):
    tree = {"name": "s", "dataset": {"name": "digits"}, "search": {"space": "core"}}
    return parse_config(tree | changes)


@pytest.mark.parametrize("schedule", settings_of(TrainingSpec)["schedule"].choices)
def test_the_drops_are_those_of_the_schedule(schedule):
    rates = [learning_rate(step / 1000, schedule=schedule, initial=1.0, epochs=20) for step in range(1000)]
    falls = tuple(step / 1000 for step in range(1, 1000) if rates[step] < 0.5 * rates[step - 1] and step < 990)
    assert falls == drops(schedule, epochs=20)


@pytest.mark.parametrize("epochs", [4, 7, 8, 20, 27, 30, 200])
def test_the_default_grace_period_reaches_past_the_last_drop(epochs):
    training = TrainingSpec(epochs=epochs, schedule="piecewise")
    grace = SchedulerConfig(name="moasha").grace(training)
    # the learning rate at the start of the last epoch within the grace period
    assert learning_rate((grace - 1) / epochs, schedule="piecewise", initial=1.0, epochs=epochs) <= 0.1
    assert learning_rate((grace - 1 / 100) / epochs, schedule="piecewise", initial=1.0, epochs=epochs) == 0.01
    assert grace <= epochs


@pytest.mark.parametrize(
    ("schedule", "ramp", "grace"),
    [("cosine", 0.0, 4), ("cosine", 0.1, 4), ("cosine", 0.5, 10), ("constant", 0.51, 11), ("piecewise", 0.5, 16)],
)
def test_no_trial_is_compared_within_the_ramp_by_default(schedule, ramp, grace):
    training = TrainingSpec(epochs=20, schedule=schedule, ramp=ramp)
    assert SchedulerConfig(name="moasha").grace(training) == grace
    assert SchedulerConfig(name="moasha", grace_period=2).grace(training) == 2


@pytest.mark.parametrize(
    ("share", "epochs", "grace"), [(0.55, 100, 55), (0.07, 100, 20), (0.56, 100, 56), (0.551, 100, 56)]
)
def test_a_share_of_whole_epochs_is_not_rounded_up(share, epochs, grace):
    assert SchedulerConfig(name="moasha").grace(TrainingSpec(epochs=epochs, ramp=share)) == grace


@pytest.mark.parametrize("every", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("epochs", [10, 27, 100])
@pytest.mark.parametrize("schedule", ["cosine", "constant", "piecewise"])
@pytest.mark.parametrize("factor", [None, 1.5, 2, 4])
def test_rungs_are_measured_epochs_between_grace_period_and_end(every, epochs, schedule, factor):
    scheduler = SchedulerConfig(name="moasha", reduction_factor=factor)
    training, evaluation = TrainingSpec(epochs=epochs, schedule=schedule), EvaluationSpec(every=every)
    rungs = scheduler.rungs(training, evaluation)
    assert rungs == sorted(set(rungs))
    assert all(epoch % every == 0 and scheduler.grace(training) <= epoch < epochs for epoch in rungs)
    first = next(epoch for epoch in range(scheduler.grace(training), 10 * epochs) if epoch % every == 0)
    assert rungs[:1] == ([first] if first < epochs else [])


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "hyperband"}, "scheduler.name"),
        ({"name": "none", "metric": "val_robust_accuracy"}, "`scheduler.metric` is a setting of asha and median"),
        ({"grace_period": 3}, "`scheduler.grace_period` is a setting of moasha and asha and median"),
        ({"name": "moasha", "metric": "val_robust_accuracy"}, "got it with `name: moasha`"),
        (
            {"name": "median", "metric": "val_robust_accuracy", "reduction_factor": 2},
            "`scheduler.reduction_factor` is a setting",
        ),
        (
            {"name": "asha", "metric": "val_robust_accuracy", "objectives": ["val_clean_accuracy"]},
            "`scheduler.objectives` is",
        ),
        ({"name": "asha"}, "`scheduler.metric` is required by asha, got none; one of: val_clean_accuracy"),
        ({"name": "asha", "metric": "val_robst_accuracy"}, "did you mean val_robust_accuracy"),
        ({"name": "asha", "metric": "test_robust_accuracy"}, "`scheduler.metric` has no 'test_robust_accuracy'"),
        ({"name": "moasha", "objectives": ["val_clean_accuracy", "val_clean_accuracy"]}, "each objective once"),
        ({"name": "moasha", "reduction_factor": 1}, "reduction_factor"),
        ({"name": "moasha", "grace_period": 0}, "grace_period"),
        ({"name": "moasha", "grace": 3}, "unknown key `scheduler.grace`"),
        ({"name": "moasha", "grace_period": 20}, "of 20 epochs leaves moasha nothing to stop"),
        ({"name": "median", "metric": "val_clean_accuracy", "grace_period": 16}, "is at epoch 20, and training has 20"),
    ],
)
def test_contradictions_and_unknown_settings_are_refused(section, message):
    with pytest.raises(UsageError) as refused:
        study(scheduler=section)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_default_grace_period_that_leaves_nothing_to_stop_is_refused_with_its_reason():
    with pytest.raises(
        ValueError, match=r"of 16 epochs \(the default for schedule piecewise, ramp 0.3, warmup 0.1\).*at epoch 20"
    ):
        check_stopping(
            SchedulerConfig(name="moasha"), TrainingSpec(epochs=20, schedule="piecewise"), EvaluationSpec(every=5)
        )


@pytest.mark.parametrize("place", ["ranges", "fixed"])
@pytest.mark.parametrize(
    ("key", "value"), [("epochs", 8), ("schedule", "constant"), ("ramp", 0.9), ("trades.ramp", 0.9), ("warmup", 0.9)]
)
def test_a_search_over_the_course_of_training_is_refused(place, key, value):
    """With a ramp or warm-up of its own a trial would be compared before it is at its full radius or learning rate."""
    with pytest.raises(UsageError, match=rf"`search.{place}.{key}`"):
        study(
            search={"space": "core", place: {key: [value] if place == "ranges" else value}},
            scheduler={"name": "moasha"},
        )


def of_ones_own(*, methods, evaluation):
    ramp = replace(settings_of(TrainingSpec)["ramp"], search=(0.0, 0.9))
    return [*core(methods=methods, evaluation=evaluation), from_setting(ramp)]


def test_so_is_a_space_of_ones_own_that_draws_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "test_early_stopping_config", sys.modules[__name__])
    search = {"space": "test_early_stopping_config:of_ones_own"}
    assert "ramp" in [dimension.name for dimension in study(search=search).space().dimensions]
    with pytest.raises(UsageError, match=r"of_ones_own\.ramp` and `scheduler.name: moasha` exclude each other"):
        study(search=search, scheduler={"name": "moasha"})


def for_one_method(*, methods, evaluation):
    ramp = replace(settings_of(TrainingSpec)["ramp"], search=(0.0, 0.9))
    return [
        *core(methods=methods, evaluation=evaluation),
        replace(from_setting(ramp), owner="trades", methods=("trades",)),
    ]


def test_and_one_that_draws_it_for_one_method(monkeypatch):
    monkeypatch.setitem(sys.modules, "test_early_stopping_config", sys.modules[__name__])
    search = {"space": "test_early_stopping_config:for_one_method"}
    with pytest.raises(
        UsageError, match=r"for_one_method\.trades\.ramp` and `scheduler.name: moasha` exclude each other"
    ):
        study(search=search, scheduler={"name": "moasha"})


@dataclass(frozen=True)
class WithWarmup(Natural):
    """A method whose own hyperparameter has the name of a training setting."""

    warmup: float = setting(0.1, low=0.0, high=1.0, search=(0.0, 0.5), doc="of its own loss")


@pytest.mark.parametrize("place", ["ranges", "fixed"])
@pytest.mark.parametrize("key", ["warmup", "test_early_stopping_config:WithWarmup.warmup"])
def test_a_hyperparameter_of_that_name_is_searched(monkeypatch, place, key):
    monkeypatch.setitem(sys.modules, "test_early_stopping_config", sys.modules[__name__])
    search = {"space": "core", "methods": ["test_early_stopping_config:WithWarmup"]}
    search[place] = {key: [0, 0.3] if place == "ranges" else 0.3}
    assert study(search=search, scheduler={"name": "moasha"}).scheduler.name == "moasha"


def test_the_resolved_config_parses_to_the_same_config():
    config = study(scheduler={"name": "asha", "metric": "val_robust_accuracy", "grace_period": 10})
    assert parse_config(config.to_dict()) == config
    assert study().scheduler.name == "none"


def test_axes_are_the_metric_or_the_objectives_or_the_default():
    assert SchedulerConfig(name="asha", metric="val_clean_accuracy").axes() == ["val_clean_accuracy"]
    assert SchedulerConfig(name="moasha").axes() == [
        "val_clean_accuracy",
        "val_robust_accuracy",
        "val_lipschitz_scale_free_log10",
    ]
    two = ["val_clean_accuracy", "val_robust_accuracy"]
    assert SchedulerConfig(name="moasha", objectives=two).axes() == two
