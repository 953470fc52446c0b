"""A small real study on the command line: launched, killed, resumed, shown, and one of its rows reproduced."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from helpers.services.ray_cluster import descendants
from helpers.studies.in_process import robust_study

from analysis.data.results import read_epochs, read_examples, read_results
from analysis.data.schema import RESULT
from analysis.statistics.networks.separated_classifier import read_classifier
from analysis.tables.finding_lines import finding_lines

pytestmark = [pytest.mark.e2e, pytest.mark.cluster, pytest.mark.long]

CONFIG = """
name: small
dataset: {name: digits, train_size: 256}
model: {name: cnn_small}
training: {epochs: 2, batch_size: 64, attack_steps: 2}
evaluation: {epsilon: 0.1, steps: 3, examples: 64, lipschitz: {steps: 3, examples: 16}}
search: {space: core, num_trials: 6, methods: [natural, adversarial_training, trades], random_fraction: 0.5}
resources: {max_concurrent: 2}
tracking: {models: 0}
front: {strong_images: 0}
"""


def open_to_others(root: int) -> list[str]:
    """Return the TCP addresses, other than loopback, on which a process or its descendants listen."""
    sockets = set()
    for pid in descendants(root):
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                sockets.add(os.readlink(descriptor))
    rows = [
        line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    loopback = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")
    own = [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]
    return [address for address in own if not address.startswith(loopback)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, empty_store):
    """A study whose driver was killed with SIGKILL after its first row, then resumed."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "small.yaml").write_text(CONFIG)
    shutil.copy(empty_store, folder / "mlflow.db")
    with (folder / "launch.log").open("w") as log:
        driver = subprocess.Popen(
            [sys.executable, "-m", "study", "launch", "small.yaml"],
            cwd=folder, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        second = None
        deadline = time.monotonic() + 300
        while not list((folder / "studies/small/results").glob("*.parquet")):
            assert driver.poll() is None, (folder / "launch.log").read_text()
            assert time.monotonic() < deadline, (folder / "launch.log").read_text()
            if second is None and (folder / "studies/small/driver.json").exists():
                second = robust_study(folder, "resume", "studies/small")  # while the first one's Ray starts
            time.sleep(0.05)
        listening = open_to_others(driver.pid)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    assert listening == []
    assert second.returncode == 2
    assert f"is being run by process {driver.pid} on" in second.stderr
    before = read_results(folder / "studies/small").to_pylist()
    resumed = subprocess.run(
        [sys.executable, "-m", "study", "resume", "studies/small", "--set", "cluster.trials_per_driver=3"],
        cwd=folder, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert resumed.returncode == 0, resumed.stderr
    return folder, before, resumed


def test_no_trial_is_lost_or_repeated_and_rows_already_written_are_unchanged(finished):
    folder, before, _ = finished
    table = read_results(folder / "studies/small")
    assert table["number"].to_pylist() == list(range(6))
    assert set(table["status"].to_pylist()) == {"completed"}
    assert before
    rows = table.to_pylist()
    assert [row for row in rows if row["trial_id"] in {old["trial_id"] for old in before}] == before
    assert [path.name for path in (folder / "studies/small/results").iterdir()] == ["compacted.parquet"]


def test_the_resumed_driver_reports_what_is_left_and_ignores_a_former_key(finished):
    folder, before, resumed = finished
    assert f"{len(before)} trials finished (0 failed), " in resumed.stderr
    ignored = "`cluster.trials_per_driver` is ignored: one driver runs all trials of a study"
    assert resumed.stderr.splitlines().count(ignored) == 1
    assert set(read_results(folder / "studies/small")["attempts"].to_pylist()) <= {1, 2}
    assert not (folder / "studies/small/driver.json").exists()


def test_the_theorems_classifier_is_measured_when_the_study_ends_and_drawn(finished):
    folder, _, resumed = finished
    study = folder / "studies/small"
    classifier = read_classifier(study, read_results(study))
    assert classifier.train_images == 256
    assert "measuring the separated-data classifier" in resumed.stderr
    assert '"star-open"' in (study / "figures/pareto.html").read_text(encoding="utf-8")


def test_a_changed_config_is_refused_with_the_difference(finished):
    folder, _, _ = finished
    refused = robust_study(folder, "resume", "studies/small", "--set", "training.lr=0.5", "--add-trials", "2")
    assert refused.returncode == 2
    assert "`training.lr` was 0.1 when the study started and is 0.5 now" in refused.stderr
    assert json.loads(robust_study(folder, "status", "studies/small", "--json").stdout)["num_trials"] == 6


def test_rows_are_complete(finished):
    folder, _, _ = finished
    rows = read_results(folder / "studies/small").to_pylist()
    nullable = {"reason", "train_epsilon", "craft_mode", "options", "replicate_of", "constraints", "micro_batch"}
    nullable |= {column.name for column in RESULT.columns if column.added}
    for row in rows:
        missing = [column.name for column in RESULT.columns if row[column.name] is None and column.name not in nullable]
        assert missing == []
        assert row["val_robust_accuracy"] <= row["val_clean_accuracy"]
        assert (row["train_epsilon"] is None) == (row["method"] == "natural")
        assert json.loads(row["versions"])["torch"]
    assert read_epochs(folder / "studies/small").num_rows == 12
    examples = read_examples(folder / "studies/small")
    # The last checkpoint on train and val, the best one on val.
    assert examples.num_rows == 6 * 3 * 64
    for row in rows:
        for checkpoint, prefix in (("last", "val"), ("best", "best_val")):
            key = (row["trial_id"], "val", checkpoint)
            measured = [e for e in examples.to_pylist() if (e["trial_id"], e["split"], e["checkpoint"]) == key]
            assert sum(e["robust_correct"] for e in measured) / len(measured) == row[f"{prefix}_robust_accuracy"]


def test_optuna_has_the_same_values_and_no_running_trial(finished):
    folder, _, _ = finished
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{folder}/studies/small/optuna.db")
    rows = read_results(folder / "studies/small").to_pylist()
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 6
    for row, trial in zip(rows, study.trials, strict=True):
        assert trial.values == [row["val_clean_accuracy"], row["val_robust_accuracy"]]
        assert trial.user_attrs["proposal"] == row["proposal"]
    assert sum(row["proposal"] == "random" for row in rows) == 3


def test_mlflow_has_one_parent_and_a_finished_child_per_trial(finished):
    folder, _, _ = finished
    with sqlite3.connect(folder / "mlflow.db") as store:
        runs = dict(store.execute("select run_uuid, status from runs").fetchall())
        parents = dict(store.execute("select run_uuid, value from tags where key = 'mlflow.parentRunId'").fetchall())
    assert len(runs) == 7
    assert set(runs.values()) == {"FINISHED"}
    assert len(parents) == 6
    assert len(set(parents.values())) == 1
    ids = read_results(folder / "studies/small")["mlflow_run_id"].to_pylist()
    assert set(ids) == set(parents)
    assert list(folder.glob("mlartifacts/**/figures/pareto.png"))
    (report,) = folder.glob("mlartifacts/**/report/report.html")
    assert report.read_bytes() == (folder / "studies/small/report.html").read_bytes()


def test_the_front_is_tagged_while_the_study_runs(finished):
    folder, _, _ = finished
    lines = (folder / "studies/small/tracking/spool.jsonl").read_text().splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    last = len(kinds) - 1 - kinds[::-1].index("end")
    assert "front" in kinds[:last]


def test_the_front_is_written_to_disk_and_printed(finished):
    folder, _, resumed = finished
    figures = folder / "studies/small/figures"
    for kind in ("png", "pdf", "svg", "html", "csv"):
        assert (figures / f"pareto.{kind}").stat().st_size > 0
    assert "hypervolume" in resumed.stdout
    assert "tracking verified" in resumed.stderr
    assert "robust-study ui studies/small" in resumed.stdout
    assert "Warning" not in resumed.stderr


def test_the_last_lines_are_what_was_found_then_the_files_then_three_commands(finished):
    folder, _, resumed = finished
    table = read_results(folder / "studies/small")
    found, files, commands = finding_lines(table), ["figures: ", "report:  "], ["ui", "confirm", "resume"]
    lines = resumed.stdout.splitlines()[-len(found) - 6 :]
    assert lines[: len(found)] == found
    assert [line[:9] for line in lines[len(found) : -4]] == files
    assert lines[-4] == "next:"
    assert [line.split()[:3] for line in lines[-3:]] == [["robust-study", name, "studies/small"] for name in commands]


def test_the_parents_charts_move_while_the_study_runs(finished):
    folder, _, resumed = finished
    with sqlite3.connect(folder / "mlflow.db") as store:
        query = "select run_uuid from tags where key = 'robust_study.trial_id' and value = 'study'"
        (parent,) = store.execute(query).fetchone()
        query = "select step, timestamp from metrics where run_uuid = ? and key = ? order by step"
        points = {name: store.execute(query, (parent, name)).fetchall() for name in ("hypervolume", "clean_floor")}
        points["best"] = store.execute(query, (parent, "best_robust_accuracy")).fetchall()
    for name, drawn in points.items():
        assert sorted({step for step, _ in drawn}) == list(range(1, 7)), (
            name
        )  # the resumed driver sends its first again
        assert len({time for _, time in drawn}) > 3, name  # sent as trials ended, not at the end
    assert re.search(r"hypervolume \d\.\d{3} · front \d · 0 failed", resumed.stderr)
    assert "http://127.0.0.1:5000/#/experiments/1/runs?" in resumed.stderr


def test_resuming_a_complete_study_shows_it_without_running_a_trial(finished):
    folder, _, resumed = finished
    again = robust_study(folder, "resume", "studies/small")
    assert again.returncode == 0
    assert "hypervolume" in again.stdout
    assert again.stdout.splitlines()[-9:] == resumed.stdout.splitlines()[-9:]
    assert read_results(folder / "studies/small").num_rows == 6


def test_training_a_trial_alone_reproduces_its_row(finished):
    folder, _, _ = finished
    rows = read_results(folder / "studies/small").to_pylist()
    attacked = next(row for row in rows if row["method"] != "natural")
    alone = robust_study(folder, "train", "studies/small", "--trial", attacked["trial_id"])
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert f"agrees with trial {attacked['trial_id']}" in alone.stdout


def test_status_reports_the_rows_on_disk(finished):
    folder, _, _ = finished
    status = json.loads(robust_study(folder, "status", "studies/small", "--json").stdout)
    assert (status["num_trials"], status["completed"], status["failed"], status["left"]) == (6, 6, 0, 0)
    assert status["hypervolume_reference"] == [0.0, 0.0]
