"""A digits study's front measured on test, trained again with new seeds, and shown everywhere with its uses counted."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest
from helpers.studies.plain_study import leave_out_pictures, run_plain

from analysis.data.results import examples_file, read_evaluations, read_examples, read_results
from study.cli import main
from study.directory.layout import open_config
from study.directory.seed_plan import read_plan
from study.errors import UsageError
from study.evaluation.confirm import measured_enough
from study.evaluation.jobs import only_evaluation
from study.evaluation.selection import read_choice
from study.evaluation.study_trials import EvaluationRequest, data_with_test, job_of
from study.tracking.export import export

pytestmark = pytest.mark.e2e

CONFIG = """
name: tiny
dataset: {name: digits, train_size: 300}
model: {name: mlp}
training: {epochs: 2, batch_size: 100, lr: 0.05, attack_steps: 2}
evaluation: {epsilon: 0.1, steps: 2, examples: 60, lipschitz: {steps: 2, examples: 10}}
search: {space: core, num_trials: 3, methods: [natural, adversarial_training], random_fraction: 0.5}
resources: {max_concurrent: 1}
tracking: {models: 0}
front: {strong_images: 2}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory, empty_store):
    """The folder of a finished study of three trials, run without Ray."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "tiny.yaml").write_text(CONFIG)
    shutil.copy(empty_store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        leave_out_pictures(patch)
        return run_plain(folder / "tiny.yaml", Path("studies")).resolve()


@pytest.fixture
def command(study, monkeypatch, capsys):
    monkeypatch.chdir(study.parent.parent)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["robust-study", *map(str, words)])
        try:
            code = main() or 0
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def refused(command, *words):
    """Return the one line that a command refuses with."""
    code, _, err = command(*words)
    assert code == 2, err
    assert len(err.strip().splitlines()) == 1, err
    return err


def refused_last(command, *words):
    """Return the last line of a refusal that comes after notes."""
    code, _, err = command(*words)
    assert code == 2, err
    return err.strip().splitlines()[-1]


# The tests below tell one story, in this order: what is refused before anything is measured, then ever more of it.


def test_before_anything_is_measured_each_command_says_what_to_do(command, study) -> None:
    assert "run `robust-study evaluate studies/tiny --front`" in refused(
        command, "pareto", "studies/tiny", "--split", "test"
    )
    assert "needs --front, or --trial ID" in refused(command, "evaluate", "studies/tiny")
    assert "no result of trial '7'; it has: 00000 to 00002" in refused(
        command, "evaluate", "studies/tiny", "--trial", "7"
    )
    assert "--model has no use with studies/tiny" in refused(command, "evaluate", "studies/tiny", "--model", "mlp")
    wide = ("evaluate", "studies/tiny", "--trial", "0", "--epsilon", "8")
    assert "--epsilon must be in (0, 1] for linf, got 8 (did you mean 8/255?)" in refused(command, *wide)
    assert "must be last or best" in refused(command, "evaluate", "studies/tiny", "--front", "--checkpoint", "x.pt")
    assert "test_uses" in command("status", "studies/tiny", "--json")[1]
    assert not (study / "chosen.json").exists()


def test_lost_weights_name_the_command_that_brings_them_back(command, study) -> None:
    lost, kept = study / "checkpoints/00000/last.pt", study / "kept.pt"
    lost.rename(kept)
    said = refused(command, "evaluate", "studies/tiny", "--trial", "0")
    assert "the weights of trial 00000 are gone" in said
    assert said.rstrip().endswith("studies/tiny/checkpoints/00000/last.pt`")
    assert "train it again with `robust-study train studies/tiny --trial 00000 --save " in said
    kept.rename(lost)


def test_another_trials_weights_are_no_result_and_end_with_code_1(command, study) -> None:
    own, kept = study / "checkpoints/00000/last.pt", study / "kept.pt"
    own.rename(kept)
    shutil.copy(study / "checkpoints/00001/last.pt", own)
    code, _, err = command("evaluate", "studies/tiny", "--trial", "0", "--limit", "5")
    kept.replace(own)
    assert code == 1
    assert "CheckpointError" in err
    assert "last.pt belongs to another spec: `" in err
    assert not read_evaluations(study).num_rows


def test_other_images_than_the_trials_had_and_a_second_command_are_refused(command, study) -> None:
    config, row = open_config(study), read_results(study).to_pylist()[0]
    assert len(data_with_test(config, [row]).test) == 360
    with pytest.raises(UsageError, match="holds other images than when trial 00000 was run"):
        data_with_test(config, [row | {"split_hash": "other"}])
    with only_evaluation(study):
        assert "another command measures" in refused_last(command, "evaluate", "studies/tiny", "--trial", "0")


def test_a_measurement_is_named_by_what_it_depends_on_and_not_by_where_the_weights_lie(study) -> None:
    config, row = open_config(study), read_results(study).to_pylist()[0]
    ask = EvaluationRequest(front=False, trials=("0",), most=1, attacks=())

    def key(**changes):
        row_changes = {name: changes.pop(name) for name in ("checkpoint_path", "seed") if name in changes}
        asked = dataclasses.replace(ask, **changes)
        return job_of(study, config, row | row_changes, asked, attack="pgd", size=360, chosen_by="trial").key

    assert key() == key(checkpoint_path="/elsewhere") == key(limit=60) == key(epsilon=0.1)
    names = [
        key(), key(limit=59), key(epsilon=0.2), key(steps=9), key(restarts=2), key(checkpoint="best"), key(seed=3)
    ]  # fmt: skip
    assert len(set(names)) == len(names)


def test_a_member_without_a_lipschitz_estimate_on_test_is_measured_again(study) -> None:
    row = read_results(study).to_pylist()[0]
    names = {"epsilon": "eval_epsilon", "checkpoint": "checkpoint_kind"}
    same = {
        name: row[names.get(name, name)]
        for name in ("study", "trial_id", "norm", "attack", "steps", "restarts", "epsilon", "checkpoint")
    }
    known = {
        **same,
        "split": "test",
        "examples": 60,
        "checks": "cheap",
        "lipschitz_examples": 10,
        "lipschitz_mean": 3.0,
    }
    assert measured_enough(row, [known], examples=60)
    assert not measured_enough(row, [known], examples=61)
    assert not measured_enough(row, [known | {"lipschitz_mean": None}], examples=60)
    assert not measured_enough(row, [], examples=60)


def test_the_front_is_measured_once_and_again_only_where_something_is_new(command, study) -> None:
    code, out, err = command("evaluate", "studies/tiny", "--front", "--limit", "40")
    assert code == 0, err
    front = read_choice(study).members
    rows = read_evaluations(study).to_pylist()
    assert {row["trial_id"] for row in rows} == set(front)
    for row in rows:
        assert (row["split"], row["examples"], row["attack"], row["checks"]) == (
            "test",
            40,
            "reachable_targets",
            "full",
        )
        outcomes = read_examples(examples_file(study, row["evaluation"]))
        assert outcomes["split"].to_pylist() == ["test"] * 40
        assert outcomes["index"].to_pylist() == list(range(40))
        for kind in ("clean", "robust"):
            assert sum(outcomes[f"{kind}_correct"].to_pylist()) / 40 == pytest.approx(row[f"{kind}_accuracy"])
    assert f"{len(front)} measurements, 0 already there" in err or len(front) == 1
    assert "on 1 occasion" in out
    code, _, err = command("evaluate", "studies/tiny", "--front", "--limit", "40", "--attack", "multi_targeted")
    assert f"{2 * len(front)} measurements, {len(front)} already there" in err
    again = json.loads(command("evaluate", "studies/tiny", "--front", "--limit", "40", "--json")[1])
    assert again["test_uses"] == 2 * len(front)
    targeted = [row for row in read_evaluations(study).to_pylist() if row["attack"] == "multi_targeted"]
    assert len(targeted) == len(front)


def test_search_files_hold_nothing_of_test(study) -> None:
    assert set(read_examples(study)["split"].to_pylist()) == {"train", "val"}
    assert not [name for name in read_results(study).column_names if "test" in name]


def test_a_trial_that_is_not_on_the_front_is_measured_by_name_alone(command, study) -> None:
    front = read_choice(study).members
    other = next((trial for trial in ("00000", "00001", "00002") if trial not in front), None)
    if other is None:
        pytest.skip("every trial is on the front")
    said = refused(command, "evaluate", "studies/tiny", "--front", "--trial", other)
    assert f"trial {other} is not on the front" in said
    assert command("evaluate", "studies/tiny", "--trial", other, "--limit", "20")[0] == 0
    code, out, _ = command("pareto", "studies/tiny", "--split", "test", "--format", "svg")
    assert code == 0
    assert "by name" in out


@pytest.mark.cluster
def test_confirm_trains_new_seeds_measures_them_and_is_not_done_twice(command, study) -> None:
    code, out, err = command("confirm", "studies/tiny", "--seeds", "2", "--limit", "40", "--max", "2", "--json")
    assert code == 0, err
    found = json.loads(out)
    front = [entry["trial_id"] for entry in found["members"]]
    assert set(front) <= set(read_choice(study).members)
    rows, parents = (
        read_results(study / "confirm").to_pylist(),
        {r["trial_id"]: r for r in read_results(study).to_pylist()},
    )
    assert {row["trial_id"] for row in rows} == {f"{trial}-s{n}" for trial in front for n in (1, 2)}
    plan = {replica.trial_id: replica for replica in read_plan(study / "confirm").replicas}
    same = ("method", "train_epsilon", "model", "options", "param.dropout", "param.lr", "split_hash", "steps")
    for row in rows:
        parent = parents[row["trial_id"].partition("-")[0]]
        assert row["status"] == "completed"
        assert row["seed"] == plan[row["trial_id"]].seed
        assert row["replicate_of"] == parent["number"]
        assert row["config_hash"] == parent["config_hash"] is not None
        assert {name: row[name] for name in same} == {name: parent[name] for name in same}
    seeds = [row["seed"] for row in rows]
    assert len({*seeds, *(parent["seed"] for parent in parents.values())}) == len(seeds) + 3
    tested = {row["trial_id"]: row for row in read_evaluations(study / "confirm").to_pylist()}
    for entry in found["members"]:
        shares = [tested[f"{entry['trial_id']}-s{n}"]["robust_accuracy"] for n in (1, 2)]
        assert entry["robust"]["seeds"]["mean"] == pytest.approx(sum(shares) / 2)
        assert entry["robust"]["val"] == parents[entry["trial_id"]]["val_robust_accuracy"]
        estimates = [tested[f"{entry['trial_id']}-s{n}"] for n in (1, 2)]
        assert [row["lipschitz_examples"] for row in estimates] == [10, 10]
        assert entry["lipschitz"]["seeds"] == [row["lipschitz_mean"] for row in estimates]
        assert entry["lipschitz"]["test"] is not None
        curse = entry["robust"]["winners_curse"]
        assert curse["value"] == pytest.approx(entry["robust"]["val"] - entry["robust"]["test"])
    assert set(read_examples(study / "confirm")["split"].to_pylist()) == {"train", "val"}
    code, _, err = command("confirm", "studies/tiny", "--seeds", "2", "--limit", "40", "--max", "2")
    assert code == 0
    assert f"{len(rows)} trained already" in err
    assert "0 measurements to do" in err
    assert "robust-study confirm studies/tiny" in refused(command, "resume", "studies/tiny/confirm")


def test_everything_on_test_is_shown_with_its_uses(command, study) -> None:
    uses = sum(read_evaluations(folder).num_rows for folder in (study, study / "confirm"))
    code, out, _ = command("pareto", "studies/tiny", "--split", "test", "--format", "svg,html")
    assert code == 0
    assert f"test data was used {uses} times" in out
    assert (study / "figures/pareto_test.svg").stat().st_size > 0
    assert {path.suffix for path in (study / "figures").glob("table_test.*")} == {".md", ".tex", ".csv", ".parquet"}
    assert "leave them out on test" in refused(command, "pareto", "studies/tiny", "--split", "test", "--skip-damaged")
    assert "test: clean" in (study / "figures/pareto_test.html").read_text()
    assert json.loads(command("status", "studies/tiny", "--json")[1])["test_uses"] == uses
    assert command("report", "studies/tiny")[0] == 0
    page = (study / "report.html").read_text()
    for words in ("The front chosen on validation", "Winner&#x27;s curse", "new seeds of these settings on test"):
        assert words in page
    assert "multi_targeted, 2 steps, 1 restart" in page


def test_tracking_shows_test_values_and_the_new_seeds_beneath_the_study(study) -> None:
    tested = {row["trial_id"]: row for row in read_evaluations(study).to_pylist() if row["attack"] == "multi_targeted"}
    with sqlite3.connect(study.parent.parent / "mlflow.db") as store:
        names = dict(store.execute("select run_uuid, name from runs").fetchall())
        parents = dict(store.execute("select run_uuid, value from tags where key = 'mlflow.parentRunId'").fetchall())
        query = "select run_uuid, value from metrics where key = 'test_robust_accuracy_multi_targeted'"
        shown = {names[run].split()[0]: value for run, value in store.execute(query)}
        statuses = {status for (status,) in store.execute("select status from runs")}
    assert shown == {trial: row["robust_accuracy"] for trial, row in tested.items()}
    above = {name: names.get(parents.get(run)) for run, name in names.items()}
    assert (above["tiny"], above["tiny-confirm"]) == (None, "tiny")
    assert {above[name] for name in names.values() if "-s" in name} == {"tiny-confirm"}
    assert statuses == {"FINISHED"}
    export(None, uri=f"sqlite:///{study.parent.parent}/mlflow.db", experiment="robust-study", out=study / "all.parquet")
    assert read_results(study / "all.parquet")["trial_id"].to_pylist() == ["00000", "00001", "00002"]
