"""Certified accuracy in a study: asked for, searched by, constrained, and null where nothing is proved."""

from __future__ import annotations

import math

import optuna
import pytest
from helpers.studies.synthetic_results import as_table, result_row
from optuna.trial import TrialState

from analysis.fronts.front import front_of
from analysis.fronts.objectives import CERTIFIED, parse_constraint, values
from study.config.schema import parse_config
from study.directory.layout import create
from study.driver.result_writer import ResultWriter
from study.errors import UsageError
from study.search.optuna_study import open_study, outcome_for_optuna, tell, trial_id
from trainables.data import load_dataset
from trainables.training.loop import Trainer

NAME = "val_certified_accuracy"
OBJECTIVES = ["val_clean_accuracy", NAME]


def tree(certify="ibp", **search):
    return {
        "name": "s",
        "dataset": {"name": "digits", "train_size": 300},
        "model": {"name": "mlp"},
        "training": {"epochs": 4, "batch_size": 25, "attack_steps": 2},
        "evaluation": {"epsilon": 0.01, "examples": 40, "steps": 3, "certify": certify,
                       "lipschitz": {"steps": 1, "examples": 4}},
        "search": {"space": "core", "methods": ["natural", "adversarial_training", "mtl_ibp"], **search},
    }  # fmt: skip


def test_a_search_optimises_what_is_certified(tmp_path):
    """In-process: trials of three methods are trained, told to Optuna, and read back with a front over it."""
    config = parse_config(tree(objectives=OBJECTIVES, constraints=[f"{NAME} >= 0.1"], sampler="random"))
    folder = create(config, tmp_path)
    study = open_study(optuna.storages.InMemoryStorage(), config.name, config.search)
    writer = ResultWriter(folder, study=config.name, constraints=config.search.constraints)
    data = load_dataset(config.dataset)
    for number, method in enumerate(config.search.methods):
        study.enqueue_trial({"method": method})
        trial = study.ask()
        spec = config.trial_spec(config.space().draw(trial), number=number)
        trainer = Trainer(spec, data=data, device="cpu")
        while not trainer.done:
            epoch = trainer.run_epoch()
        outcome = trainer.outcome()
        assert epoch[NAME] == outcome.row[NAME]
        assert values(epoch, OBJECTIVES)[1] == (outcome.row[NAME] or 0.0)  # what a scheduler compares
        keys = {"trial_id": trial_id(number), "number": number, "proposal": "random", "spec": spec.to_dict()}
        row = writer.record(keys, outcome, status="completed", run_id=None)
        assert row["certify"] == "ibp"
        tell(study, trial, outcome_for_optuna(config.search, row))
    rows = writer.read()
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 3
    assert [trial.values[1] for trial in study.trials] == [row[NAME] or 0.0 for row in rows]
    assert all((row[NAME] or 0.0) <= row["val_robust_accuracy"] <= row["val_clean_accuracy"] for row in rows)
    assert max(row[NAME] or 0.0 for row in rows) > 0.3
    members = front_of(as_table(rows), objectives=OBJECTIVES)
    assert 0 < members.num_rows <= 3
    assert all(row[NAME] >= 0.1 for row in members.to_pylist())


def test_nothing_proved_is_the_worst_value_and_not_asked_is_none():
    rows = [
        result_row(0, certify="ibp", val_certified_accuracy=0.4),
        result_row(1, certify="full", val_certified_accuracy=None),
        result_row(2, certify=None, val_certified_accuracy=None),
    ]
    found = values(as_table(rows), [NAME])[:, 0]
    assert found[:2].tolist() == [0.4, 0.0]
    assert math.isnan(found[2])
    assert [float(CERTIFIED.read(row)) for row in rows[:2]] == [0.4, 0.0]
    constraint = parse_constraint(f"{NAME} >= 0.3")
    assert constraint.violation(as_table(rows)).round(3).tolist() == [-0.1, 0.3, math.inf]
    search = parse_config(tree(objectives=OBJECTIVES)).search
    assert [outcome_for_optuna(search, row).state for row in rows] == [
        TrialState.COMPLETE, TrialState.COMPLETE, TrialState.FAIL,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("search", "scheduler"),
    [
        ({"objectives": OBJECTIVES}, {}),
        ({"constraints": [f"{NAME} >= 0.5"]}, {}),
        ({}, {"name": "asha", "metric": NAME}),
        ({}, {"name": "moasha", "objectives": OBJECTIVES}),
    ],
)
def test_what_is_not_certified_cannot_be_searched_by(search, scheduler):
    given = tree("none", **search) | {"scheduler": scheduler, "training": {"epochs": 30}}
    with pytest.raises(
        UsageError, match=r"`evaluation.certify` must be ibp or full where .* is val_certified_accuracy"
    ):
        parse_config(given)
    parse_config(given | {"evaluation": {"certify": "ibp"}})


def test_only_known_efforts_are_taken():
    with pytest.raises(UsageError, match=r"evaluation.certify.* one of none, ibp, full, got 'crown'|'crown'"):
        parse_config(tree("crown"))


@pytest.mark.parametrize(
    ("model", "norm", "certify", "methods", "message"),
    [
        ("preact_resnet18", "linf", "ibp", ["natural"], "`evaluation.certify` must be none for this network, got ibp"),
        ("lipschitz_cnn", "linf", "full", ["natural"], "`evaluation.certify` must be none for this network, got full"),
        ("lipschitz_cnn", "l2", "ibp", ["natural"], None),
        ("mlp", "l2", "full", ["natural", "mtl_ibp"], None),
        ("preact_resnet18", "linf", "none", ["natural"], None),
        ("preact_resnet18", "linf", "none", ["natural", "mtl_ibp"], "`search.methods` must be without mtl_ibp"),
        ("lipschitz_cnn", "l2", "ibp", ["mtl_ibp"], "`search.methods` must be without mtl_ibp"),
    ],
)
def test_a_network_that_cannot_be_bounded_is_refused_before_the_start(tmp_path, model, norm, certify, methods, message):
    from study.cluster.preflight import check_data, check_model
    from study.cluster.start import new_start

    given = tree(certify, methods=methods) | {"model": {"name": model}}
    given["evaluation"] = given["evaluation"] | {"norm": norm}
    start = new_start(given, assignments=(), out=tmp_path, data_root=None, address=None)
    list(check_data(start))
    if message is None:
        assert all(finding.ok for finding in check_model(start))
        return
    with pytest.raises(UsageError) as caught:
        list(check_model(start))
    (line,) = caught.value.problems
    assert line.startswith(message)
    assert "certified bounds need an nn.Sequential" in line
