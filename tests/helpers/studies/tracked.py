"""Small tracked studies: complete rows, and a tracker called as the driver calls it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers.studies.synthetic_results import result_row

from analysis.data.results import trial_file, write_rows
from analysis.data.schema import EPOCH, EXAMPLE, RESULT
from study.tracking.row_mapping import STUDY_TAG, TRIAL_TAG, epoch_metrics, params, tags
from study.tracking.tracker import Tracker

STUDY_ID = "abc"


def row(number: int = 0, **changes: Any) -> dict[str, Any]:
    """Return a complete row of trial 00000, 00001, ..."""
    defaults = {
        "study": "s",
        "trial_id": f"{number:05d}",
        "epochs": 2,
        "method": "trades",
        "param.beta": 6.0,
        "reason": None,
    }
    return result_row(number, **{**defaults, **changes})


def epochs(row: dict[str, Any]) -> list[dict[str, Any]]:
    identity = {key: row[key] for key in ("study", "trial_id", "number")}
    return [
        {**identity, "epoch": epoch, "loss": 1 / epoch, "lr": 0.1, "stale": False, "part.natural": 0.5,
         "val_loss": 0.3,
         "val_clean_accuracy": 0.4 * epoch, "val_robust_accuracy": None}
        for epoch in range(1, row["epochs"] + 1)
    ]  # fmt: skip


def write(study_dir: Path, row: dict[str, Any], *, last: dict[str, Any] | None = None) -> dict[str, Any]:
    """Write a trial's files as the driver does, its result row last; `last` changes the last epoch's row."""
    trial = row["trial_id"]
    if row["epochs"]:
        *others, final = epochs(row)
        write_rows(trial_file(study_dir, trial, schema=EPOCH), [*others, {**final, **(last or {})}], EPOCH)
    example = {
        "study": row["study"], "trial_id": trial, "checkpoint": "last", "split": "val", "attack": "pgd",
        "epsilon": row["eval_epsilon"], "index": 7, "clean_correct": True, "robust_correct": False,
    }  # fmt: skip
    write_rows(trial_file(study_dir, trial, schema=EXAMPLE), [example], EXAMPLE)
    write_rows(trial_file(study_dir, trial), [row], RESULT)
    return row


def tracker(study_dir: Path, uri: str, **options: Any) -> Tracker:
    return Tracker(**{"study": "s", "study_id": STUDY_ID, "study_dir": study_dir, "uri": uri, **options})


def report(tracker: Tracker, row: dict[str, Any], *, upto: int | None = None) -> None:
    """Track a trial's start and its epochs."""
    tracker.trial_started(row["trial_id"], params(row), tags({**row, "status": None}))
    for epoch in epochs(row)[:upto]:
        tracker.trial_reported(row["trial_id"], epoch["epoch"], epoch_metrics(epoch))


def run_trial(tracker: Tracker, study_dir: Path, row: dict[str, Any]) -> None:
    """Track a whole trial, as the driver does."""
    report(tracker, row)
    tracker.trial_ended(write(study_dir, row))
    tracker.study_reported(row["number"] + 1, {"front_size": 1})


def runs(uri: str) -> tuple[dict[str, Any], Any]:
    """Return the study's runs by trial id, and the client."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    (experiment,) = [e for e in client.search_experiments() if e.name == "robust-study"]
    runs = client.search_runs([experiment.experiment_id])
    assert len({run.data.tags[TRIAL_TAG] for run in runs}) == len(runs)
    assert {run.data.tags[STUDY_TAG] for run in runs} == {STUDY_ID}
    return {run.data.tags[TRIAL_TAG]: run for run in runs}, client


def points(client: Any, run: Any, key: str) -> list[tuple[int, float]]:
    """Return a metric's history as steps and values."""
    return [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, key)]


def close(tracking: Tracker, status: str | None = "FINISHED", **options: Any) -> str | None:
    """Close with a timeout that is long enough for a busy machine."""
    return tracking.close(status, **{"timeout": 900, **options})


def run_study(
    uri: str, folder: Path, rows: list[dict[str, Any]], status: str = "FINISHED", **options: Any
) -> str | None:
    """Track a whole study."""
    tracking = tracker(folder, uri, **options)
    tracking.start({"name": "s"}, {"study": "s"})
    for row in rows:
        run_trial(tracking, folder, row)
    return close(tracking, status)
