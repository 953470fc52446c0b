"""The read-back finds what went wrong with tracking and repairs it: stopped drivers, damaged files, lost data."""

from __future__ import annotations

import math
import shutil
import sqlite3
import time
from dataclasses import replace

import pytest
from helpers.studies.tracked import STUDY_ID, close, points, report, row, run_study, run_trial, runs, tracker, write

from analysis.data.compaction import compact
from analysis.data.results import read_examples
from analysis.fronts.strong_attacks import StrongResult
from study.tracking.row_mapping import ON_FRONT
from study.tracking.spool import Spool
from study.tracking.verify import missing

STARTED = "2026-01-02T03:04:05+00:00"
STARTED_MS = 1767323045000


def read_back(uri, folder, **options):
    """What is missing according to the read-back, without a repair."""
    tracking = tracker(folder, uri)
    try:
        return missing(tracking._open_store(), folder, study_id=STUDY_ID, **options)
    finally:
        tracking._spool.close()


def sync(uri, folder, rows):
    """As `sync` does, without the figures."""
    tracking = tracker(folder, uri, from_start=True)
    tracking.start({"name": "s"}, {"study": "s"})
    tracking.settle(rows)
    return close(tracking)


def test_a_line_written_only_in_part_is_removed(folder):
    spool = Spool(folder)
    spool.append({"kind": "epoch", "step": 1})
    real_file = spool._file

    class Full:
        """A file on a full disk."""

        def write(self, line):
            return real_file.write(line[: len(line) // 2])

        def __getattr__(self, name):
            return getattr(real_file, name)

    spool._file = Full()
    with pytest.raises(OSError, match="only a part"):
        spool.append({"kind": "epoch", "step": 2})
    spool._file = real_file
    spool.append({"kind": "epoch", "step": 3})
    assert [event["step"] for event in spool.events()] == [1, 3]
    assert len(spool.path.read_bytes().splitlines()) == 2
    spool.close()


def test_a_damaged_line_of_the_spool_is_made_up_for_from_the_rows(uri, folder):
    tracking = tracker(folder, "sqlite:////dev/null/mlflow.db")
    tracking.start({"name": "s"}, {"study": "s"})
    run_trial(tracking, folder, row(0))
    tracking._spool.close()
    path = folder / "tracking/spool.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if b'"kind":"end"' in line)
    lines[at] = lines[at][:40] + b"\x00\xff" + lines.pop(at - 1)  # half of the end, then an epoch
    path.write_bytes(b"".join(lines))
    assert sync(uri, folder, [row(0)]) is None
    stored_runs, client = runs(uri)
    assert points(client, stored_runs["00000"], "loss") == [(1, 1.0), (2, 0.5)]
    assert stored_runs["00000"].info.status == "FINISHED"


def test_a_resumed_run_that_completes_keeps_no_trace_of_the_stop(uri, folder):
    stopped = tracker(folder, uri)
    stopped.start({}, {"study": "s"})
    report(stopped, row(0), upto=1)
    assert close(stopped, "KILLED", reason="stopped by the user") is None
    assert runs(uri)[0]["00000"].data.tags["reason"] == "stopped by the user"
    resumed = tracker(folder, uri)
    resumed.start({}, {"study": "s"})
    resumed.trial_started("00000", {}, {"study": "s"})
    assert close(resumed, None) is None
    stored_runs, _ = runs(uri)
    assert [run.info.status for run in stored_runs.values()] == ["RUNNING", "RUNNING"]
    assert [name for run in stored_runs.values() for name in ("status", "reason") if name in run.data.tags] == []
    assert run_study(uri, folder, [row(0)]) is None
    fresh = f"sqlite:///{folder.parent / 'fresh.db'}"
    shutil.copy(folder.parent / "mlflow.db", folder.parent / "fresh.db")
    with sqlite3.connect(folder.parent / "fresh.db") as database:
        database.execute("update runs set lifecycle_stage = 'deleted'")
    assert sync(fresh, folder, [row(0)]) is None
    for store in (uri, fresh):
        stored_runs, _ = runs(store)
        assert [run.data.tags.get("reason") for run in stored_runs.values()] == [None, None]
        assert stored_runs["00000"].data.tags["status"] == "completed"
        assert stored_runs["study"].data.tags["status"] == "finished"


def test_a_finished_study_reaches_a_new_store_with_every_outcome_and_epoch(uri, folder):
    with_traceback = row(1, status="failed", reason="ValueError: bad", epochs=0)
    (folder / "errors").mkdir()
    (folder / "errors/00001.txt").write_text("Traceback")
    for trial in (row(0), with_traceback, row(2)):
        write(folder, trial)
    examples = read_examples(folder, trials=["00002"])
    compact(folder)
    assert not (folder / "examples/00000.parquet").exists()
    assert sync(uri, folder, [row(0), with_traceback, row(2)]) is None
    stored_runs, client = runs(uri)
    assert points(client, stored_runs["00002"], "loss") == [(1, 1.0), (2, 0.5)]
    path = client.download_artifacts(stored_runs["00002"].info.run_id, "examples/00002.parquet")
    assert read_examples(path).equals(examples)
    assert client.list_artifacts(stored_runs["00001"].info.run_id, "error")


def test_artifacts_that_a_store_lost_are_reported_and_sent_again(uri, folder):
    assert run_study(uri, folder, [row(0), row(1)]) is None
    run_id = runs(uri)[0]["00001"].info.run_id
    shutil.rmtree(folder.parent / "mlartifacts/robust-study" / run_id)
    assert read_back(uri, folder) == {"00001": "artifacts: no examples/00001.parquet"}
    compact(folder)
    assert sync(uri, folder, [row(0), row(1)]) is None
    assert read_back(uri, folder) == {}


def execute(statement):
    """Damage to the run of trial 00001, done in the database."""

    def harm(client, run, database):
        with sqlite3.connect(database) as connection:
            for part in statement.split(";"):
                connection.execute(part, {"run": run.info.run_id})

    return harm


@pytest.mark.long
@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda client, run, _: client.delete_tag(run.info.run_id, "method"), "tag method is missing, not trades"),
        (lambda client, run, _: client.set_tag(run.info.run_id, "reason", "x"), "tag reason is x, not absent"),
        (lambda client, run, _: client.delete_tag(run.info.run_id, ON_FRONT), "tag on_front is missing, not true"),
        (lambda client, run, _: client.set_tag(run.info.run_id, "robust_study.row", "{"), "no complete result row"),
        (
            lambda client, run, _: client.log_metric(run.info.run_id, "val_robust_accuracy", 0.99, step=99),
            "metric val_robust_accuracy is 0.99, not 0.5",
        ),
        (execute("delete from params where run_uuid = :run"), "the parameter"),
        (
            execute(
                "delete from metrics where run_uuid = :run and key = 'loss';"
                "delete from latest_metrics where run_uuid = :run and key = 'loss'"
            ),
            "metric loss is missing, not 0.5",
        ),
        (execute("delete from metrics where run_uuid = :run and key = 'epoch' and step = 1"), "1 steps up to 2, 2"),
    ],
)
def test_every_part_of_a_run_is_compared_and_sent_again(uri, folder, harm, problem):
    tracking = tracker(folder, uri)
    tracking.start({}, {"study": "s"})
    for trial in (row(0), row(1)):
        run_trial(tracking, folder, trial)
    tracking.front(["00001"])
    assert close(tracking) is None
    stored_runs, client = runs(uri)
    harm(client, stored_runs["00001"], folder.parent / "mlflow.db")
    ((trial, message),) = read_back(uri, folder, front=["00001"]).items()
    assert trial == "00001"
    assert problem in message
    assert sync(uri, folder, [row(0), row(1)]) is None
    stored_runs, client = runs(uri)
    repaired = stored_runs["00001"]
    assert points(client, repaired, "loss") == [(1, 1.0), (2, 0.5)]
    assert repaired.data.metrics["val_robust_accuracy"] == 0.5
    identity = {"trial_id": "00001", "number": "1", "seed": "1001"}
    assert repaired.data.params == stored_runs["00000"].data.params | identity
    assert {run.data.tags.get("method") for run in (repaired, stored_runs["00000"])} == {"trades"}
    assert (repaired.data.tags.get("reason"), repaired.data.tags.get(ON_FRONT)) == (None, "true")


def test_a_failing_artifact_store_delays_nothing_else(uri, folder):
    from mlflow import MlflowClient

    blocked = folder.parent / "blocked"
    blocked.write_text("no folder")
    client = MlflowClient(tracking_uri=uri)
    client.create_experiment("robust-study", artifact_location=blocked.as_uri())
    tracking = tracker(folder, uri)
    tracking.start({}, {"study": "s"})
    for number in range(3):
        run_trial(tracking, folder, row(number))
    (folder / "pareto.png").write_bytes(b"png")
    tracking.artifacts([folder / "pareto.png"], "figures")
    problem = close(tracking)
    assert "artifact store: " in problem
    assert "00002: artifacts: no examples/00002.parquet" in problem
    assert "figures/pareto.png: " in problem
    stored_runs, _ = runs(uri)
    assert [stored_runs[f"{number:05d}"].info.status for number in range(3)] == ["FINISHED"] * 3
    assert stored_runs["00002"].data.metrics["val_robust_accuracy"] == 0.5
    blocked.unlink()
    assert sync(uri, folder, [row(number) for number in range(3)]) is None


def test_runs_that_are_uploaded_later_have_the_times_of_their_trials(uri, folder, monkeypatch):
    clock = iter(range(1_000_000, 2_000_000, 1_000))
    with monkeypatch.context() as at:
        at.setattr("study.tracking.tracker._now", lambda: next(clock))
        tracking = tracker(folder, "sqlite:////dev/null/mlflow.db")
        tracking.start({}, {"study": "s"})
        run_trial(tracking, folder, row(0))
        tracking._append("close", status="FINISHED", reason=None)
        tracking._spool.close()
    late = row(1, started_at=STARTED, seconds=5.8)
    write(folder, late)  # its driver died before it reported the end
    assert sync(uri, folder, [row(0), late]) is None
    events = list(Spool(folder).events())
    times = {event["kind"]: event["time"] for event in events[::-1] if event["time"] < 2_000_000}
    stored_runs, _ = runs(uri)
    first, second, parent = (stored_runs[name].info for name in ("00000", "00001", "study"))
    assert (first.start_time, first.end_time) == (times["start"], times["end"])
    assert (second.start_time, second.end_time) == (STARTED_MS, STARTED_MS + 5800)
    assert (parent.start_time, parent.end_time) == (times["study"], times["close"])


def test_a_diverged_trial_has_only_the_values_of_its_row(uri, folder):
    nothing = dict.fromkeys(
        ("val_clean_accuracy", "val_robust_accuracy", "val_lipschitz_mean", "val_lipschitz_scale_free_mean")
    )
    diverged = row(0, status="failed", reason="diverged", **nothing)
    tracking = tracker(folder, uri)
    tracking.start({}, {"study": "s"})
    report(tracking, diverged, upto=1)
    last = {"epoch": 2, "loss": None, "val_loss": None, "val_clean_accuracy": 0.0, "stale": True, "lr": 0.1}
    from study.tracking.row_mapping import epoch_metrics

    tracking.trial_reported("00000", 2, epoch_metrics(last))
    tracking.trial_ended(write(folder, diverged, last=last))
    assert close(tracking) is None
    stored_runs, client = runs(uri)
    run = stored_runs["00000"]
    assert points(client, run, "val_clean_accuracy")[0] == (1, 0.4)
    assert all(math.isnan(run.data.metrics[name]) for name in ("loss", "val_clean_accuracy", "val_loss"))
    assert "val_robust_accuracy" not in run.data.metrics
    for query in ("metrics.val_clean_accuracy < 0.5", "metrics.val_clean_accuracy > 0.3"):
        assert client.search_runs(["1"], filter_string=query) == []


def test_a_test_value_measured_again_is_logged_only_if_it_changed(uri, folder):
    assert run_study(uri, folder, [row(0)]) is None
    for value in (0.4, 0.4, 0.3):
        tracking = tracker(folder, uri)
        tracking.measured({"00000": {"test_robust_accuracy": value}})
        assert close(tracking, None) is None
        time.sleep(0.01)
    stored_runs, client = runs(uri)
    assert points(client, stored_runs["00000"], "test_robust_accuracy") == [(2, 0.4), (2, 0.3)]


def test_what_strong_attacks_leave_stands_beside_the_searchs_value_and_doubts_are_a_tag(uri, folder):
    fallen = StrongResult(images=100, searched=0.5, robust=0.4, attacks=("square",), flags=())
    tracking = tracker(folder, uri)
    tracking.start({}, {"study": "s"})
    report(tracking, row(0))
    tracking.trial_ended(write(folder, row(0)))
    tracking.attacked({"00000": fallen})
    assert close(tracking) is None
    run = runs(uri)[0]["00000"]
    assert run.data.metrics["val_robust_accuracy"] == row(0)["val_robust_accuracy"]
    assert run.data.metrics["val_robust_accuracy_strong"] == 0.4
    assert run.data.metrics["val_robust_accuracy_strong_fall"] == pytest.approx(0.1)
    assert run.data.tags["doubts"] == "falls by 0.100"
    tracking = tracker(folder, uri)
    tracking.start({}, {"study": "s"})
    tracking.attacked({"00000": replace(fallen, robust=0.5)})
    assert close(tracking) is None
    assert "doubts" not in runs(uri)[0]["00000"].data.tags
