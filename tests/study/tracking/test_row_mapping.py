"""Rows and reports as MLflow's parameters and metrics, without a store."""

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
    tags,
    trial_times,
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


def test_values_carried_over_from_an_earlier_epoch_are_left_out():
    assert epoch_metrics({**MEASURED, "stale": False}) == MEASURED
    carried = {"val_robust_accuracy", "val_lipschitz_mean", "val_lipschitz_scale_free_mean"}
    assert MEASURED.keys() - epoch_metrics({**MEASURED, "stale": True}).keys() == carried


@pytest.mark.parametrize(("loss", "val_loss"), [(None, None), (0.7, None), (None, 0.6)])
def test_of_a_diverged_epoch_only_the_losses_are_logged(loss, val_loss):
    diverged = {"epoch": 5, "loss": loss, "val_loss": val_loss, "val_clean_accuracy": 0.1, "stale": True}
    logged = epoch_metrics(diverged)
    assert "val_clean_accuracy" not in logged
    for name, value in (("loss", loss), ("val_loss", val_loss)):
        assert math.isnan(logged.get(name, math.nan)) or logged[name] == value
    assert math.isnan(logged["loss"]) == (loss is None)
    # an epoch that ran out of memory has no values
    assert epoch_metrics({"epoch": 5, "loss": None, "val_clean_accuracy": None})["loss"] is None


def test_outcomes_are_no_parameters():
    logged = params(row(0, best_epoch=3, micro_batch=32))
    assert not {"best_epoch", "micro_batch", "epochs", "flags"} & logged.keys()
    assert {"param.beta", "eval_epsilon", "seed"} <= logged.keys()
    assert metrics(row(0, best_epoch=3))["best_epoch"] == 3


def test_seeds_of_one_setting_share_a_tag_to_group_by():
    first, second = row(0, config_hash="0123"), row(1, config_hash="0123", replicate_of=0)
    assert tags(first)["config_hash"] == tags(second)["config_hash"]
    assert tags(second)["replicate_of"] == "0"
    assert "replicate_of" not in tags(first)
    assert not {"config_hash", "replicate_of"} & params(second).keys()
    assert "config_hash" not in tags(row(0))  # rows from before it


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


def test_only_metrics_that_differ_from_the_row_and_the_last_epoch_are_sent():
    result = row(0, val_lipschitz_max=math.inf, val_loss=math.nan, train_loss=-math.inf)
    epochs = [{"epoch": 1, "loss": 1.0, "lr": 0.1}, {"epoch": 2, "loss": 0.5, "lr": 0.1}]
    sent = {**metrics(result), "epoch": 2.0, "loss": 0.5, "lr": 0.1}
    stored = {**sent, "val_lipschitz_max": 1.7976931348623157e308, "train_loss": -1.7976931348623157e308}
    assert differing_metrics(sent, result, epochs) == differing_metrics(stored, result, epochs) == {}
    assert differing_metrics({**stored, "loss": 1.0}, result, epochs) == {"loss": 0.5}
    assert math.isnan(differing_metrics({**stored, "clean_gap": 0.1}, result, epochs)["clean_gap"])
    assert differing_metrics({**stored, "test_loss": 0.1}, result, epochs) == {}
    del stored["val_lipschitz_max"]
    assert differing_metrics(stored, result, epochs) == {"val_lipschitz_max": math.inf}


@pytest.mark.parametrize("started", [None, "yesterday", 5])
def test_a_row_without_a_start_has_no_times(started):
    assert trial_times(row(0, started_at=started)) is None
    assert trial_times({}) is None


def test_a_proxys_page_is_no_refusal():
    with pytest.raises(json.JSONDecodeError) as page:
        json.loads("<html>")
    assert not is_refusal(page.value)
    assert is_refusal(ValueError("bad"))


def test_the_front_is_logged_only_when_it_changed(folder):
    tracking = tracker(folder, "sqlite:////dev/null/mlflow.db")
    for members in (["00000"], ["00000"], ["00002", "00000"], ["00000", "00002"]):
        tracking.front(members)
    fronts = [event["trials"] for event in tracking._spool.events()]
    tracking._spool.close()
    assert fronts == [["00000"], ["00000", "00002"]]
    resumed = tracker(folder, "sqlite:////dev/null/mlflow.db")
    resumed.front(["00002", "00000"])
    assert len(list(resumed._spool.events())) == 2
    resumed._spool.close()
    confirmation = tracker(folder, "sqlite:////dev/null/mlflow.db", parent_study_id="another")
    confirmation.front(["00001"])
    assert len(list(confirmation._spool.events())) == 2
    confirmation._spool.close()
