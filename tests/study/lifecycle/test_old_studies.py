"""Studies of an earlier version still work: they are shown, exported, tracked, measured and finished.

`old_studies/` has two of them, made by the code of commit 9c09c40 from the configs beside them, with the original file
times. Large files that can be made again are left out: figures, reports, MLflow's store, and all checkpoints except
those named here.

* `finished`: `launch finished.yaml`, `evaluate --front --limit 50`, `confirm --seeds 1`. Eight trials, two of them
  `diverged` and one flagged; a front of 00004 and 00002, with their checkpoints (the best one of 00004 is of an earlier
  epoch than its last); six measurements on test.
* `killed`: `launch killed.yaml`; its workers were killed until a trial had failed, later its driver, all by SIGKILL.
  Three rows, that of 00002 `failed` with its traceback; 00004 after two of six epochs, with its checkpoints; 00001
  started and without a row, marked as failed in Optuna because its worker died before its first step; 00005 not yet
  proposed.

These files are never regenerated: a change that cannot read them breaks the studies of users too.
"""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from study.directory.seed_plan import read_plan

pytestmark = [pytest.mark.e2e, pytest.mark.long]

ARCHIVES = Path(__file__).with_name("old_studies")
FINISHED, KILLED = "finished-9c09c40", "killed-9c09c40"
ROWS = {FINISHED: 8, KILLED: 3}
FRONT = {FINISHED: ["00004", "00002"], KILLED: ["00000", "00003"]}
DIED = "The actor is dead because its worker process has died."
# The measured columns, the only ones in which another kind of machine may round differently.
MEASURED = re.compile(r"(best_)?(train|val)_(clean_accuracy|robust_accuracy|loss|lipschitz_\w+)|clean_gap|robust_gap")


def unpack(name: str, folder: Path, uri: str) -> Path:
    """Unpack a study and set its tracking store to `uri`; its original store is not in the archive."""
    with tarfile.open(ARCHIVES / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    for config in (folder / name).rglob("study.yaml"):
        tree = yaml.safe_load(config.read_text())
        tree["tracking"]["uri"] = uri
        tree.setdefault("front", {})["strong_images"] = 0  # so that its end takes seconds
        config.write_text(yaml.safe_dump(tree, sort_keys=False))
    return folder / name


def read(folder: Path, *keys: str) -> dict[Any, dict[str, Any]]:
    """Return the rows of a folder's files by their keys, which are unique."""
    rows = [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    by_key = {tuple(row[key] for key in keys) if len(keys) > 1 else row[keys[0]]: row for row in rows}
    assert len(by_key) == len(rows)
    return by_key


def lost(old: dict[Any, dict[str, Any]], new: dict[Any, dict[str, Any]], *, but: str = "") -> list[str]:
    """Return where values of old rows have changed: a later version may only add columns and rows."""
    return [
        f"{key}: {column} was {value!r}, is {new.get(key, {}).get(column)!r}"
        for key, row in old.items()
        for column, value in row.items()
        if column != but and not equal(value, new.get(key, {}).get(column, "no column"))
    ]


def equal(old: Any, new: Any) -> bool:
    both = isinstance(old, float) and isinstance(new, float)
    return old == new or (both and math.isnan(old) and math.isnan(new))


def former(tree: dict[str, Any]) -> bool:
    """Return whether a config or spec names what was done before there was a choice."""
    off = {"warmup": 0.0, "ramp": 0.0, "clip_norm": None, "give_up_after": None, "awp": 0.0, "extra": None}
    was = {
        "training": off | {"ema_warmup": True, "bounds_power": 1.0},
        "evaluation": {"attack": "pgd", "margin_check": False, "certify": "none"},
    }
    return all(tree[part].items() >= values.items() for part, values in was.items())


@pytest.fixture(scope="module", autouse=True)
def resuming(tmp_path_factory, empty_store) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """Start to resume the killed study: most of the time it waits for Ray, so the other tests run meanwhile."""
    root = tmp_path_factory.mktemp("resumed")
    shutil.copy(empty_store, root / "mlflow.db")
    study = unpack(KILLED, root, f"sqlite:///{root / 'mlflow.db'}")
    line = [sys.executable, "-m", "study", "resume", KILLED]
    with (root / "log.txt").open("wb") as log:
        driver = subprocess.Popen(line, cwd=root, stdout=log, stderr=log, start_new_session=True)
    yield study, driver
    if driver.poll() is None:
        driver.terminate()
        driver.wait(120)


@pytest.fixture(params=[FINISHED, KILLED])
def either(request, tmp_path, uri) -> Path:
    return unpack(request.param, tmp_path, uri)


@pytest.fixture
def finished(tmp_path, uri) -> Path:
    return unpack(FINISHED, tmp_path, uri)


def test_the_configs_beside_the_archives_match_the_studies(either) -> None:
    def contains(tree: Any, part: Any) -> bool:
        if isinstance(part, dict):
            return all(key in tree and contains(tree[key], value) for key, value in part.items())
        return bool(tree == part)

    (source,) = (path for path in ARCHIVES.glob("*.yaml") if path.stem == either.name.partition("-")[0])
    assert contains(yaml.safe_load((either / "study.yaml").read_text()), yaml.safe_load(source.read_text()))


def test_status_counts_trials_failures_and_uses_of_test(either, command) -> None:
    code, out, _ = command("status", either.name, "--json")
    status = json.loads(out)
    assert code == 0
    failures = [(cause["reason"], cause["count"], cause["first"]) for cause in status["failures"]]
    counts = {key: status[key] for key in ("num_trials", "completed", "stopped_early", "failed", "left", "test_uses")}
    assert status["driver"] is None
    assert status["front"] == FRONT[either.name]
    if either.name == FINISHED:
        done = {"num_trials": 8, "completed": 6, "stopped_early": 0, "failed": 2, "left": 0, "test_uses": 6}
        assert failures == [("diverged", 2, "00003")]
        assert status["flags"] == {"zero_gradient": 1}
        assert status["hypervolume"] == pytest.approx(0.92 * 0.76 + 0.04 * 0.72)
    else:
        done = {"num_trials": 6, "completed": 2, "stopped_early": 0, "failed": 1, "left": 3, "test_uses": 0}
        ((reason, count, first),) = failures
        assert reason.startswith(DIED)
        assert (count, first) == (1, "00002")
        assert DIED in Path(status["failures"][0]["traceback"]).read_text()
    assert counts == done


def test_status_prints_why_trials_failed_and_how_to_resume(either, command) -> None:
    code, out, _ = command("status", either.name)
    assert code == 0
    text = " ".join(out.replace("│", " ").split())
    if either.name == FINISHED:
        assert "8 of 8 trials done" in text
        assert "2 diverged 00003 -" in text
        assert "1 flagged, never on the front: zero_gradient" in text
        assert "test data was used 6 times: 4 networks measured on 2 occasions" in text
        assert json.loads(command("status", f"{FINISHED}/confirm", "--json")[1])["completed"] == 2
    else:
        assert "3 of 6 trials done" in text
        assert "The actor is dead" in text
        assert f"robust-study resume {KILLED}" in text


def test_export_has_every_row_and_every_example(either, command, tmp_path) -> None:
    old = read(either / "results", "trial_id")
    assert len(old) == ROWS[either.name]
    assert command("export", either.name, "--out", "out/x.parquet")[0] == 0
    (tmp_path / "examples").mkdir()
    (tmp_path / "out/x.examples.parquet").rename(tmp_path / "examples/x.parquet")
    assert lost(old, read(tmp_path / "out", "trial_id")) == []
    keys = ("trial_id", "checkpoint", "split", "index")
    examples = read(either / "examples", *keys)
    assert len(examples) >= 600
    assert lost(examples, read(tmp_path / "examples", *keys)) == []


def test_pareto_draws_the_front(either, command) -> None:
    code, out, _ = command("pareto", either.name, "--format", "svg")
    assert (code, f"2 members of {ROWS[either.name]} trials" in out) == (0, True)
    assert re.findall(r"^(\d{5}) \w+", out, re.MULTILINE) == FRONT[either.name]
    drawn = (either / "figures/pareto.csv").read_text()
    assert all(trial in drawn for trial in FRONT[either.name])
    assert (either / "figures/pareto.svg").stat().st_size > 0


def test_the_front_is_shown_on_test_with_its_new_seeds(finished, command) -> None:
    code, out, err = command("pareto", FINISHED, "--split", "test", "--format", "svg")
    assert code == 0, err
    assert "winner's curse, mean of 2 members" in out
    measured = read(finished / "evaluations", "trial_id", "examples")
    new_seeds = read(finished / "confirm/evaluations", "trial_id")
    with (finished / "figures/pareto_test.csv").open(newline="") as file:
        members = {row["trial_id"]: row for row in csv.DictReader(file)}
    assert list(members) == FRONT[FINISHED]
    plan = read_plan(finished / "confirm")
    assert plan is not None
    assert all(former(plan.trial(number)["spec"]) for number in range(len(plan)))
    for trial, row in members.items():
        assert (row["chosen"], row["examples"], row["robust_seeds"]) == ("front", "100", "1")
        assert float(row["robust_test"]) == measured[trial, 100]["robust_accuracy"]
        assert float(row["robust_seeds_mean"]) == new_seeds[f"{trial}-s1"]["robust_accuracy"]


def test_the_report_shows_how_trials_ended(finished, command) -> None:
    code, _, err = command("report", FINISHED)
    assert code == 0, err
    page = (finished / "report.html").read_text()
    assert "The front has 2 members. Its clean end is trial 00004" in page
    assert "1 failed, natural: diverged" in page
    assert "Retrained with n new seeds, robust accuracy on test went" in page


@pytest.mark.chaos  # for its length
def test_a_finished_study_is_tracked_again_and_then_shown(finished, command, tmp_path, uri, monkeypatch) -> None:
    """`sync` fills an empty store from the old spool and rows; `resume` has no trial to run."""
    old = read(finished / "results", "trial_id")
    code, out, err = command("sync", FINISHED)
    assert code == 0, err
    assert out.count("tracking verified: ") == 2  # of the study, and of its new seeds
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        statuses = store.execute("select status, count(*) from runs group by status").fetchall()
        named = "select distinct experiments.name from experiments join runs using (experiment_id)"
        ((experiment,),) = store.execute(named).fetchall()
    assert dict(statuses) == {"FINISHED": 10, "FAILED": 2}  # eight trials and two new seeds, each study's own run
    assert command("export", "--mlflow", uri, "--experiment", experiment, "--out", "out/x.parquet")[0] == 0
    (tmp_path / "out/x.examples.parquet").unlink()
    assert lost(old, read(tmp_path / "out", "trial_id"), but="mlflow_run_id") == []
    # `resume` sets this variable for its own process; later tests must not inherit it
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    code, out, err = command("resume", FINISHED)
    assert (code, "tracking verified" in err) == (0, True), err
    assert re.findall(r"^(\d{5}) \w+", out, re.MULTILINE) == FRONT[FINISHED]
    assert read(finished / "results", "trial_id") == old


def test_a_trial_trained_alone_is_compared_with_its_row(finished, command) -> None:
    """Equal specs give equal rows on the same kind of machine; on another, what is measured may round differently."""
    code, out, err = command("train", FINISHED, "--trial", "1", "--json")
    row, end = json.JSONDecoder().raw_decode(out)
    differing = re.findall(r"^differs: (\S+)", out[end:], re.MULTILINE)
    # one image of a hundred, fooled or not, can raise a flag
    assert {column for column in differing if not MEASURED.fullmatch(column)} <= {"flags"}
    assert code == (1 if differing else 0), err
    assert ("agrees with trial 00001" in out[end:]) == (not differing)
    old = read(finished / "results", "trial_id")["00001"]
    for column in filter(MEASURED.fullmatch, old):
        assert row[column] == pytest.approx(old[column], rel=0.05, abs=0.03), column


def test_evaluate_measures_old_weights_and_skips_existing_measurements(finished, command) -> None:
    old = read(finished / "evaluations", "evaluation")
    code, _, err = command("evaluate", FINISHED, "--front", "--limit", "50")
    assert (code, "2 measurements, 2 already there" in err) == (0, True)
    for words in (["--front"], ["--trial", "4", "--checkpoint", "best"]):
        code, _, err = command("evaluate", FINISHED, *words, "--limit", "30")
        assert (code, " 0 already there" in err) == (0, True), err
    new = read(finished / "evaluations", "evaluation")
    assert {name: new[name] for name in old} == old
    added = {(row["trial_id"], row["checkpoint"]): name for name, row in new.items() if name not in old}
    assert set(added) == {("00002", "last"), ("00004", "last"), ("00004", "best")}

    def clean(name: str) -> list[tuple[int, bool]]:
        rows = pq.read_table(finished / f"evaluations/examples/{name}.parquet").to_pylist()
        return [(row["index"], row["clean_correct"]) for row in rows]

    for name in old:
        again = clean(added[old[name]["trial_id"], "last"])
        assert len(again) == 30
        assert again == clean(name)[:30]


def test_a_killed_study_is_finished_from_its_old_rows_and_checkpoint(resuming, tmp_path) -> None:
    study, driver = resuming
    code = driver.wait(400)
    log = (study.parent / "log.txt").read_text()
    assert code == 0, log
    assert "3 trials finished (1 failed), 2 to retry, 1 new" in log
    before = unpack(KILLED, tmp_path, "sqlite:///mlflow.db")
    rows = read(study / "results", "trial_id")
    assert sorted(rows) == [f"{number:05d}" for number in range(6)]
    assert lost(read(before / "results", "trial_id"), rows) == []
    for folder, keys in (("epochs", ("trial_id", "epoch")), ("examples", ("trial_id", "checkpoint", "split", "index"))):
        assert lost(read(before / folder, *keys), read(study / folder, *keys)) == []
    assert (study / "errors/00002.txt").read_bytes() == (before / "errors/00002.txt").read_bytes()
    assert f"1 failed, TRADES: {DIED}" in (study / "report.html").read_text()

    half = torch.load(before / "checkpoints/00004/last.pt", weights_only=True)
    row, epochs = rows["00004"], read(study / "epochs", "trial_id", "epoch")
    assert (half["epoch"], row["epochs"], row["attempts"], row["started_at"]) == (2, 6, 2, half["started_at"])
    for epoch in half["history"]:  # its seconds too: these epochs were not trained again
        assert lost({0: epoch}, {0: epochs["00004", epoch["epoch"]]}) == []
    proposed = optuna.load_study(study_name=KILLED, storage=f"sqlite:///{before}/optuna.db").trials
    for number in (1, 4):
        row, params = rows[f"{number:05d}"], proposed[number].params
        assert (row["method"], row["param.dropout"]) == (params["method"], params["dropout"])
        assert (row["status"], row["train_epsilon"]) == ("completed", params["train_epsilon"])
    for number in (1, 4, 5):  # with what was proposed only now
        spec = torch.load(study / f"checkpoints/{number:05d}/last.pt", weights_only=True)["spec"]
        assert former(json.loads(spec))
        assert rows[f"{number:05d}"]["attack"] == "pgd"
    assert not former(json.loads(half["spec"]))
    resumed = optuna.load_study(study_name=KILLED, storage=f"sqlite:///{study}/optuna.db")
    assert former(resumed.user_attrs["config"])
    trials = resumed.trials
    assert [trial.number for trial in trials if not trial.state.is_finished()] == []
    assert len(trials) == 6
