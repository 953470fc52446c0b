"""Tracking to a real SQLite store: the structure of the runs; nothing is duplicated, lost or raised."""

from __future__ import annotations

import json
import math
import re
import shutil
import statistics
import time
from pathlib import Path

import pytest
from helpers.studies.tracked import STUDY_ID, close, points, report, row, run_study, run_trial, runs, tracker, write

from study.errors import UsageError
from study.tracking.row_mapping import ON_FRONT, PARENT_TAG, TRIAL_TAG, row_from_tags
from study.tracking.spool import Spool


def test_a_study_is_one_parent_run_with_a_child_for_each_trial(uri, folder):
    failed = row(1, status="failed", reason="ValueError: bad", epochs=0)
    (folder / "errors").mkdir()
    (folder / "errors/00001.txt").write_text("Traceback")
    assert run_study(uri, folder, [row(0), failed]) is None
    stored_runs, client = runs(uri)
    assert set(stored_runs) == {"study", "00000", "00001"}
    parent, first, second = stored_runs["study"], stored_runs["00000"], stored_runs["00001"]
    assert (parent.info.status, first.info.status, second.info.status) == ("FINISHED", "FINISHED", "FAILED")
    assert {run.data.tags.get(PARENT_TAG) for run in (first, second)} == {parent.info.run_id}
    assert PARENT_TAG not in parent.data.tags
    assert first.info.run_name == "00000 trades"
    assert first.data.params["param.beta"] == "6.0"
    assert first.data.params["eval_epsilon"] == "0.1"
    assert first.data.metrics["val_robust_accuracy"] == 0.5
    assert points(client, first, "loss") == [(1, 1.0), (2, 0.5)]
    assert points(client, first, "epoch") == [(1, 1.0), (2, 2.0)]
    assert points(client, parent, "front_size") == [(1, 1.0), (2, 1.0)]
    assert second.data.tags["error"] == second.data.tags["reason"] == "ValueError: bad"
    assert [item.path for item in client.list_artifacts(second.info.run_id, "error")] == ["error/00001.txt"]
    assert [item.path for item in client.list_artifacts(first.info.run_id, "examples")] == ["examples/00000.parquet"]
    assert len(first.data.metrics) <= 40


def test_sending_everything_again_changes_nothing(uri, folder):
    assert run_study(uri, folder, [row(0)]) is None
    before, _ = runs(uri)
    assert run_study(uri, folder, [row(0), row(1)], from_start=True) is None
    after, client = runs(uri)
    assert set(after) == {"study", "00000", "00001"}
    for key in ("loss", "val_robust_accuracy", "seconds", "epoch"):
        assert len(points(client, after["00000"], key)) == (2 if key in ("loss", "epoch") else 1)
    assert after["00000"].info.run_id == before["00000"].info.run_id
    assert after["study"].data.metrics == {"front_size": 1}
    assert len(points(client, after["study"], "front_size")) == 3  # twice for trial 0, once for trial 1


def test_a_study_resumed_with_another_store_is_complete_there(uri, folder, tmp_path, empty_store):
    assert run_study(uri, folder, [row(0)]) is None
    other = f"sqlite:///{shutil.copy(empty_store, tmp_path / 'other.db')}"
    assert run_study(other, folder, [row(1)]) is None
    stored_runs, client = runs(other)
    assert set(stored_runs) == {"study", "00000", "00001"}
    assert points(client, stored_runs["study"], "front_size") == [(1, 1.0), (2, 1.0)]
    assert points(client, stored_runs["00000"], "loss") == [(1, 1.0), (2, 0.5)]
    assert {run.info.status for run in stored_runs.values()} == {"FINISHED"}
    assert stored_runs["study"].info.end_time >= stored_runs["00001"].info.end_time


def test_inf_and_nan_and_types_survive_in_the_rows_tag(uri, folder):
    unusual = row(
        0, val_lipschitz_max=math.inf, val_loss=math.nan, seed=2**62 + 1, flags=["a", "b"], train_epsilon=None
    )
    assert run_study(uri, folder, [unusual]) is None
    stored_runs, _ = runs(uri)
    back = row_from_tags(stored_runs["00000"].data.tags)
    assert back["val_lipschitz_max"] == math.inf
    assert math.isnan(back["val_loss"])
    assert back["seed"] == 2**62 + 1
    assert back["flags"] == ["a", "b"]
    assert "train_epsilon" not in back


def test_a_row_longer_than_a_tag_is_split_and_joined(uri, folder):
    long = row(0, reason="x" * 9000, status="failed")
    assert run_study(uri, folder, [long]) is None
    stored_runs, _ = runs(uri)
    assert row_from_tags(stored_runs["00000"].data.tags)["reason"] == "x" * 9000


def test_a_dead_driver_loses_nothing_and_its_runs_continue(uri, folder):
    dead = tracker(folder, uri)
    dead.start({}, {})
    report(dead, row(0))  # its row reached the disk, but the driver died before it reported the end
    write(folder, row(0))
    report(dead, row(1), upto=1)
    report(dead, row(2), upto=1)
    close(dead, None)  # its thread must not run beside the next tracker's; the runs stay open, as after a SIGKILL
    with (folder / "tracking/spool.jsonl").open("a") as file:
        file.write('{"kind":"epoch","trial":"0000')
    later = tracker(folder, uri)
    later.start({}, {})
    later.settle([row(0)])
    run_trial(later, folder, row(1))
    assert close(later, "KILLED", reason="stopped by the user") is None
    stored_runs, client = runs(uri)
    assert [stored_runs[trial].info.status for trial in ("study", "00000", "00001", "00002")] == [
        "KILLED", "FINISHED", "FINISHED", "KILLED",
    ]  # fmt: skip
    assert stored_runs["00002"].data.tags["reason"] == stored_runs["study"].data.tags["reason"] == "stopped by the user"
    assert points(client, stored_runs["00001"], "loss") == [(1, 1.0), (2, 0.5)]
    assert points(client, stored_runs["00002"], "loss") == [(1, 1.0)]


def test_epochs_that_were_not_reported_come_from_the_epoch_rows(uri, folder):
    tracking = tracker(folder, uri)
    tracking.start({}, {})
    report(tracking, row(0), upto=1)
    tracking.trial_ended(write(folder, row(0)))
    assert close(tracking) is None
    stored_runs, client = runs(uri)
    assert points(client, stored_runs["00000"], "loss") == [(1, 1.0), (2, 0.5)]


def test_the_front_is_tagged_and_untagged(uri, folder, tmp_path):
    figure = folder / "pareto.png"
    figure.write_bytes(b"png")
    for members in (["00000"], ["00001"]):
        tracking = tracker(folder, uri)
        tracking.start({}, {})
        if members == ["00000"]:
            run_trial(tracking, folder, row(0))
            run_trial(tracking, folder, row(1))
        tracking.front(members)
        tracking.artifacts([figure], "figures")
        assert close(tracking) is None
        stored_runs, client = runs(uri)
        assert [trial for trial, run in stored_runs.items() if run.data.tags.get(ON_FRONT) == "true"] == members
    assert [item.path for item in client.list_artifacts(stored_runs["study"].info.run_id, "figures")] == [
        "figures/pareto.png"
    ]
    assert (tmp_path / "mlartifacts").is_dir()


def test_a_store_that_cannot_be_reached_costs_only_a_line(folder, uri, monkeypatch):
    monkeypatch.setattr("study.tracking.uploader.GIVE_UP_SECONDS", 0.1)
    problem = run_study("sqlite:////dev/null/mlflow.db", folder, [row(0), row(1)])
    assert "bytes of updates, waiting in" in problem
    assert "\n" not in problem
    # the same spool, later, with a store that answers
    assert run_study(uri, folder, [row(2)]) is None
    stored_runs, client = runs(uri)
    assert set(stored_runs) == {"study", "00000", "00001", "00002"}
    assert points(client, stored_runs["00001"], "loss") == [(1, 1.0), (2, 0.5)]


def test_what_fails_for_a_while_arrives_once_and_in_sequence(uri, folder, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setattr("study.tracking.uploader.FIRST_WAIT", 0.01)
    monkeypatch.setattr("study.tracking.uploader.GIVE_UP_SECONDS", 900)
    real, calls = MlflowClient.log_batch, [0]

    def flaky(self, *args, **options):
        calls[0] += 1
        if calls[0] % 4 != 2:
            real(self, *args, **options)
        if calls[0] % 4 in (1, 2):  # of two failing calls the first arrives
            raise ConnectionError("reset")

    monkeypatch.setattr(MlflowClient, "log_batch", flaky)
    tracking = tracker(folder, uri)
    tracking.start({"name": "s"}, {})
    run_trial(tracking, folder, row(0))
    assert close(tracking) is None
    assert calls[0] > 6
    stored_runs, client = runs(uri)
    assert points(client, stored_runs["00000"], "loss") == [(1, 1.0), (2, 0.5)]


def test_a_changed_setting_becomes_a_tag(uri, folder):
    for trials in (4, 6):
        tracking = tracker(folder, uri)
        tracking.start({"search.num_trials": trials}, {})
        assert close(tracking) is None
    parent = runs(uri)[0]["study"]
    assert (parent.data.params["search.num_trials"], parent.data.tags["search.num_trials"]) == ("4", "6")


def test_the_data_set_is_logged_with_its_hash_and_counts(uri, folder):
    for _ in range(2):
        tracking = tracker(folder, uri)
        tracking.start({}, {})
        tracking.dataset(name="digits", digest="0123abcd", source="digits", profile={"train": 10, "val": 2})
        assert close(tracking) is None
    (data,) = runs(uri)[0]["study"].inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("digits", "0123abcd")
    assert json.loads(data.dataset.profile) == {"train": 10, "val": 2}


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda client, run: client.delete_run(run.info.run_id), "no run"),
        (lambda client, run: client.set_terminated(run.info.run_id, status="KILLED"), "KILLED"),
        (lambda client, run: client.delete_tag(run.info.run_id, "robust_study.row"), "no complete result row"),
    ],
)
def test_the_read_back_finds_what_is_missing_and_a_second_upload_repairs_it(uri, folder, harm, problem):
    from study.tracking.verify import missing

    assert run_study(uri, folder, [row(0), row(1)]) is None
    stored_runs, client = runs(uri)
    harm(client, stored_runs["00001"])
    tracking = tracker(folder, uri)
    ((trial, message),) = missing(tracking._open_store(), folder, study_id=STUDY_ID).items()
    assert trial == "00001"
    assert problem in message
    tracking._spool.close()
    assert run_study(uri, folder, [], from_start=True) is None


def test_the_filters_in_the_docs_find_the_runs_they_describe(uri, folder):
    text = (Path(__file__).parents[3] / "docs/tracking.md").read_text()
    filters = re.findall(r"^\| [^|]+ \| `(.+)` \|$", text, flags=re.MULTILINE)
    rows = [
        row(0, study="quickstart", val_lipschitz_mean=10.0, proposal="random"),
        row(1, study="quickstart", method="natural", flags=["a"], val_lipschitz_mean=90.0),
        row(
            2, study="quickstart", status="failed", reason="diverged", val_robust_accuracy=None, val_lipschitz_mean=None
        ),
    ]
    tracking = tracker(folder, uri, study="quickstart")
    tracking.start({}, {"study": "quickstart"})
    for trial in rows:
        run_trial(tracking, folder, trial)
    tracking.front(["00001"])
    assert close(tracking) is None
    client, trials = runs(uri)[1], {}
    for query in filters:
        matching = client.search_runs(["1"], filter_string=query)
        trials[query] = sorted(run.data.tags[TRIAL_TAG] for run in matching)
    assert list(trials.values()) == [
        ["00001"], ["00000", "00001", "00002"], ["00000"], ["00000"], ["00001"], ["00002"], ["00000"], ["study"],
    ]  # fmt: skip


def test_no_secret_of_the_environment_reaches_runs_artifacts_or_spool(uri, folder, tmp_path, monkeypatch):
    from study.config.schema import parse_config
    from study.tracking.study_metadata import study_params, study_tags

    names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY")
    for name in (*names, "MY_API_KEY"):
        monkeypatch.setenv(name, f"planted-{name}")
    config = parse_config({"name": "s", "dataset": {"name": "digits"}, "search": {"space": "core"}})
    tracking = tracker(folder, uri)
    tracking.start(study_params(config), study_tags(config))
    run_trial(tracking, folder, row(0))
    assert close(tracking) is None
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"mlflow.db", "spool.jsonl", "00000.parquet"} <= {path.name for path in written}
    assert [path for path in written if b"planted-" in path.read_bytes()] == []
    parent = runs(uri)[0]["study"]
    assert parent.data.params["search.num_trials"] == "100"
    assert "space.dropout" in parent.data.params
    assert parent.data.tags["version.mlflow"].startswith("3.")


def test_a_second_process_cannot_upload_the_same_spool(folder):
    spool = Spool(folder)
    with pytest.raises(UsageError, match="another process"):
        Spool(folder)
    spool.close()
    Spool(folder).close()


def test_a_line_that_is_being_written_is_sent_whole_the_next_time(folder, caplog):
    """A reader may see the beginning of a long line before its end."""
    spool = Spool(folder)
    spool.append({"kind": "first"})
    with spool.path.open("ab", buffering=0) as writer:
        writer.write(b'{"kind":"sec')
        events, position = spool.pending(limit=10)
        assert [event["kind"] for event in events] == ["first"]
        spool.uploaded(position)
        assert spool.pending(limit=10) == ([], position)
        writer.write(b'ond"}\n')
    assert [event["kind"] for event in spool.pending(limit=10)[0]] == ["second"]
    assert "damaged" not in caplog.text
    spool.close()


def test_reporting_takes_microseconds(folder):
    tracking = tracker(folder, "sqlite:////dev/null/mlflow.db")
    tracking._uploader.start()
    metrics = {f"part.{number}": 0.1 * number for number in range(12)}
    seconds = []
    for epoch in range(300):
        start = time.perf_counter()
        tracking.trial_reported("00000", epoch + 1, metrics)
        tracking.front([f"{epoch:05d}", "00000"])
        seconds.append(time.perf_counter() - start)
    assert statistics.median(seconds) < 2e-3
    tracking._spool.close()
