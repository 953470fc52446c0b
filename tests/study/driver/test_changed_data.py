"""A study whose data set or code changed: refused or said before the first trial, and shown in a line ever after."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from helpers.studies.searching import study_config
from helpers.studies.synthetic_results import result_row

from analysis.data.results import trial_file, write_rows
from analysis.data.schema import RESULT
from study.config.loading import write_yaml
from study.driver import tune_run
from study.errors import UsageError
from study.search.optuna_study import open_search

MIXED = "these results differ in split_hash (0123abcd, 4567), so they share no front"
DATA = SimpleNamespace(name="digits", split_hash="4567")


def study_of(folder, *rows):
    for row in rows:
        write_rows(trial_file(folder, row["trial_id"]), [row | {"study": "quickstart", "param.epochs": 5}], RESULT)
    write_yaml(folder / "study.yaml", study_config().to_dict())


def test_resume_compares_the_data_set_with_the_rows_before_the_first_trial(command, tmp_path):
    study_of(tmp_path / "toy", result_row(0))
    code, _, err = command("resume", "toy")
    assert code == 2
    assert err.startswith("robust-study: data set digits holds other images than when trial t00000 was run (split hash")
    assert err.rstrip().endswith(", 0123abcd then): name the folder of the same files by --set dataset.root=FOLDER")


def test_the_driver_compares_it_also_with_trials_that_have_no_row(tmp_path, monkeypatch):
    study_of(tmp_path)
    monkeypatch.setattr(tune_run, "started_tracker", lambda *words, **options: "tracker")
    monkeypatch.setattr(tune_run, "claim", lambda *words, **options: pytest.fail("the driver went on"))
    search = open_search(study_config(), tmp_path)
    search.set_user_attr("study_id", "1f3c")
    search.set_user_attr("split_hash", "0123abcd")
    search.ask()
    with pytest.raises(UsageError, match="other images than when trial 00000 was run"):
        tune_run.run_study(study_config(), tmp_path, data=DATA)


def test_the_first_start_records_the_data_set(tmp_path):
    search = open_search(study_config(), tmp_path)
    run = SimpleNamespace(study=search, result_writer=SimpleNamespace(rows={}))
    tune_run._Run._require_same_images(run, DATA)
    assert search.user_attrs["split_hash"] == DATA.split_hash


def test_a_mixed_study_is_shown_and_resumed_with_a_line(command, tmp_path, uri, monkeypatch):
    study_of(tmp_path / "toy", result_row(0), result_row(1, split_hash="4567"))
    code, out, err = command("status", "toy")
    assert (code, MIXED in out, err) == (0, True, "")
    shown = json.loads(command("status", "toy", "--json")[1])
    assert (shown["mixed"], shown["front"], shown["hypervolume"]) == (MIXED, [], None)
    for verb in ("pareto", "report"):
        code, out, err = command(verb, "toy")
        assert (code, out, err.startswith(f"robust-study: {MIXED}; ")) == (2, "", True)
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    code, out, err = command("resume", "toy", "--set", "search.num_trials=2", "--set", f"tracking.uri={uri}")
    assert (code, MIXED in out, "Traceback" in err) == (0, True, False)


def test_resume_says_that_the_code_changed(tmp_path, monkeypatch, capsys):
    study_of(tmp_path, result_row(0, trial_id="00000", code_revision="aaaa"))
    monkeypatch.setattr(tune_run, "code_revision", lambda: "bbbb")
    monkeypatch.setattr(tune_run, "started_tracker", lambda *words, **options: "tracker")
    monkeypatch.setattr(tune_run._Run, "run", lambda *words, **options: None)
    tune_run.run_study(study_config(num_trials=2), tmp_path)
    assert "the code is at revision bbbb; earlier trials ran at aaaa" in capsys.readouterr().err


def test_confirm_compares_the_data_set_before_it_trains(command, tmp_path):
    study_of(tmp_path / "toy", result_row(0))
    code, out, err = command("confirm", "toy", "--seeds", "1")
    assert (code, out) == (2, "")
    assert "digits holds other images than when trial t00000 was run" in err
    assert not (tmp_path / "toy/confirm/plan.json").exists()
