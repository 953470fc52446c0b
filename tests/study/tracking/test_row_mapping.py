"""What of rows and reports MLflow gets, without a store."""

from __future__ import annotations

import json
import math

import pytest
from helpers.studies.tracked import row, tracker

from analysis.data.schema import RESULT
from analysis.heldout.measurements import tracked_metrics
from study.tracking.client import is_refusal
from study.tracking.row_mapping import (
    EPOCH_METRICS,
    differing_metrics,
    epoch_metrics,
    metric_columns,
    metrics,
    params,
    span,
)

MEASURED = {
    "epoch": 4,
    "loss": 0.7,
    "val_loss": 0.6,
    "val_clean_accuracy": 0.9,
    "val_robust_accuracy": 0.4,
    "val_lipschitz_mean": 12.0,
    "val_lipschitz_scale_free_mean": 2.0,
}
ATTACKS = ("fgsm", "pgd", "multi_targeted", "autoattack")


def test_what_is_carried_along_from_an_earlier_epoch_is_no_measurement_of_this_one():
    assert epoch_metrics({**MEASURED, "stale": False}) == MEASURED
    carried = {"val_robust_accuracy", "val_lipschitz_mean", "val_lipschitz_scale_free_mean"}
    assert MEASURED.keys() - epoch_metrics({**MEASURED, "stale": True}).keys() == carried


@pytest.mark.parametrize(("loss", "val_loss"), [(None, None), (0.7, None), (None, 0.6)])
def test_of_an_epoch_that_diverged_the_losses_alone_are_said(loss, val_loss):
    diverged = {"epoch": 5, "loss": loss, "val_loss": val_loss, "val_clean_accuracy": 0.1, "stale": True}
    found = epoch_metrics(diverged)
    assert "val_clean_accuracy" not in found
    for name, value in (("loss", loss), ("val_loss", val_loss)):
        assert math.isnan(found.get(name, math.nan)) or found[name] == value
    assert math.isnan(found["loss"]) == (loss is None)
    # without memory nothing was computed at all
    assert epoch_metrics({"epoch": 5, "loss": None, "val_clean_accuracy": None})["loss"] is None


def test_outcomes_are_no_parameters():
    asked = params(row(0, best_epoch=3, micro_batch=32))
    assert not {"best_epoch", "micro_batch", "epochs", "flags"} & asked.keys()
    assert {"param.beta", "eval_epsilon", "seed"} <= asked.keys()
    assert metrics(row(0, best_epoch=3))["best_epoch"] == 3


def test_a_run_has_at_most_forty_keys_with_every_attack_and_the_longest_loss(tmp_path):
    result = row(0)
    evaluations = [
        {
            **{name: result[name] for name in ("study", "trial_id", "norm", "steps", "restarts", "examples")},
            "checkpoint": "last", "split": "test", "epsilon": result["eval_epsilon"], "attack": attack,
            "clean_accuracy": 0.9, "robust_accuracy": 0.5, "checks": "full",
            "lipschitz_mean": 10.0, "lipschitz_examples": 100,
        }
        for attack in ATTACKS
    ]  # fmt: skip
    on_test = tracked_metrics(result, evaluations, study_dir=tmp_path)
    assert {f"test_robust_accuracy_{attack}" for attack in ATTACKS} <= on_test.keys()
    parts = {f"part.{number}" for number in range(3)}
    assert len({*metric_columns(), *EPOCH_METRICS, *parts, *on_test}) <= 40
    assert {*metric_columns()} <= RESULT.by_name.keys()


def test_only_what_differs_from_the_row_and_the_last_epoch_is_wanted():
    result = row(0, val_lipschitz_max=math.inf, val_loss=math.nan, train_loss=-math.inf)
    epochs = [{"epoch": 1, "loss": 1.0, "lr": 0.1}, {"epoch": 2, "loss": 0.5, "lr": 0.1}]
    there = {**metrics(result), "epoch": 2.0, "loss": 0.5, "lr": 0.1}
    kept = {**there, "val_lipschitz_max": 1.7976931348623157e308, "train_loss": -1.7976931348623157e308}
    assert differing_metrics(there, result, epochs) == differing_metrics(kept, result, epochs) == {}
    assert differing_metrics({**kept, "loss": 1.0}, result, epochs) == {"loss": 0.5}
    assert math.isnan(differing_metrics({**kept, "clean_gap": 0.1}, result, epochs)["clean_gap"])
    assert differing_metrics({**kept, "test_loss": 0.1}, result, epochs) == {}
    del kept["val_lipschitz_max"]
    assert differing_metrics(kept, result, epochs) == {"val_lipschitz_max": math.inf}


@pytest.mark.parametrize("started", [None, "yesterday", 5])
def test_a_row_that_does_not_say_when_has_no_times(started):
    assert span(row(0, started_at=started)) is None
    assert span({}) is None


def test_a_page_that_is_no_answer_is_no_refusal():
    with pytest.raises(json.JSONDecodeError) as page:
        json.loads("<html>")
    assert not is_refusal(page.value)
    assert is_refusal(ValueError("bad"))


def test_the_front_is_handed_over_when_it_changed(folder):
    tracking = tracker(folder, "sqlite:////dev/null/mlflow.db")
    for members in (["00000"], ["00000"], ["00002", "00000"], ["00000", "00002"]):
        tracking.front(members)
    fronts = [event["trials"] for event in tracking._spool.events()]
    tracking._spool.close()
    assert fronts == [["00000"], ["00000", "00002"]]
    again = tracker(folder, "sqlite:////dev/null/mlflow.db")
    again.front(["00002", "00000"])
    assert len(list(again._spool.events())) == 2
    again._spool.close()
    beneath = tracker(folder, "sqlite:////dev/null/mlflow.db", parent_study_id="another")
    beneath.front(["00001"])
    assert len(list(beneath._spool.events())) == 2
    beneath._spool.close()
