"""Another person's study or config: what it names is not imported, sent to, uploaded or written through."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from helpers.studies.synthetic_results import result_row
from helpers.studies.tracked import close, row, run_trial, runs, tracker
from mlflow import MlflowClient

from analysis.data.compaction import compact
from analysis.data.results import trial_file, write_rows
from analysis.data.schema import RESULT
from study.cli import _find_own_code, main
from study.config.loading import write_yaml
from study.config.trust import rules
from study.tracking.artifacts import own_file
from trainables.attacks import ATTACKS
from trainables.data import DATASETS
from trainables.methods import METHODS
from trainables.models import MODELS
from trainables.registry import CodeRefusedError, UnknownNameError

EVIL = "from pathlib import Path\nPath('ran').touch()\n\n\ndef thing(*a, **k):\n    return []\n"
CONFIG = {"name": "s", "dataset": {"name": "digits"}, "search": {"space": "evil:thing", "num_trials": 2}}


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Return a function that runs a command in a working folder and returns its exit code and what it printed."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def run(*words, cwd):
        sys.modules.pop("evil", None)
        monkeypatch.chdir(cwd)
        monkeypatch.syspath_prepend(str(cwd))
        monkeypatch.setattr("sys.argv", ["robust-study", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


@pytest.fixture
def study(tmp_path):
    """A study of another person: its folder holds the code that its config names."""
    folder = tmp_path / "theirs/s"
    rows = [
        result_row(n, study="s", val_clean_accuracy=0.9 - 0.1 * n, val_robust_accuracy=0.5 + 0.1 * n) for n in (0, 1)
    ]
    for each in rows:
        write_rows(trial_file(folder, each["trial_id"]), [each], RESULT)
    write_yaml(folder / "study.yaml", CONFIG)
    (folder / "evil.py").write_text(EVIL)
    return folder


@pytest.mark.long
@pytest.mark.parametrize(
    "words",
    [
        ("status", "."), ("pareto", ".", "--format", "png"), ("report", "."), ("export", ".", "--out", "rows.csv"),
        ("compare", ".", "."), ("figures", ".", "--format", "png"), ("stop", "."),
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_a_command_that_reads_imports_nothing(command, study, words):
    code, _, err = command(*words, cwd=study)
    assert not (study / "ran").exists()
    assert code == 0 or words[0] == "compare", err


def test_what_could_be_imported_is_not_by_a_command_that_reads(tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text(EVIL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("evil", None)
    with rules(reading=True), pytest.raises(CodeRefusedError, match="this command only reads results"):
        MODELS.load("evil:thing")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("words", [("resume", "."), ("launch", "study.yaml", "--dry-run")], ids=lambda words: words[0])
def test_nothing_is_imported_from_a_studys_output_folder_even_inside_it(command, study, words):
    code, _, err = command(*words, cwd=study)
    assert (code, (study / "ran").exists()) == (2, False)
    assert "in the output folder of study" in err
    assert err.count("\n") == 1


def test_code_of_the_working_folder_named_from_outside_it_needs_the_flag(command, study, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    shutil.move(study / "evil.py", mine / "evil.py")
    code, _, err = command("resume", study, cwd=mine)
    assert (code, (mine / "ran").exists()) == (2, False)
    assert "then add --allow-code" in err
    code, _, err = command("resume", study, "--allow-code", cwd=mine)
    assert (mine / "ran").exists()
    assert f"code: evil:thing from {mine / 'evil.py'}" in err


def test_code_of_the_working_folder_named_inside_it_needs_none(command, tmp_path):
    write_yaml(tmp_path / "study.yaml", CONFIG)
    (tmp_path / "evil.py").write_text(EVIL)
    command("launch", "study.yaml", "--dry-run", cwd=tmp_path)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("registry", "name", "problem"),
    [
        (DATASETS, "os:system", "is of Python's standard library"),
        (DATASETS, "builtins:exec", "is of Python's standard library"),
        (MODELS, "torch:relu", "must be a Python function or class"),
        (MODELS, "torch.nn:Linear", "must take image_shape, num_classes, dropout"),
        (DATASETS, "helpers.networks.masked:_before", "must take one positional argument"),
        (ATTACKS, "helpers.networks.masked:_before", "must take"),
        (METHODS, "helpers.networks.masked:_before", "must be a dataclass"),
        (METHODS, "trainables.spec:ModelSpec", "must have `attacks` and `__call__`"),
    ],
)
def test_what_is_loaded_is_checked_before_it_is_called(registry, name, problem):
    with pytest.raises(UnknownNameError, match=problem):
        registry.load(name)


def test_a_data_set_of_the_standard_library_runs_no_command_even_in_a_dry_run(command, tmp_path):
    tree = {**CONFIG, "dataset": {"name": "os:system", "root": "."}, "search": {"space": "core"}}
    write_yaml(tmp_path / "study.yaml", tree)
    code, _, err = command("launch", "study.yaml", "--dry-run", cwd=tmp_path)
    assert (code, (tmp_path / "ran").exists()) == (2, False)
    assert "is of Python's standard library" in err


def test_a_forged_line_of_the_spool_and_a_link_upload_no_other_file(tmp_path, uri):
    secret, folder = tmp_path / "id_rsa", tmp_path / "study"
    secret.write_text("private")
    folder.mkdir()
    tracking = tracker(folder, uri)
    tracking.start({}, {"study": "s"})
    run_trial(tracking, folder, row(0))
    tracking._append("artifact", trial="study", path=str(secret), folder="config")
    tracking._append("artifact", trial="study", path="../id_rsa", folder="config")
    (folder / "errors").mkdir(exist_ok=True)
    (folder / "errors/00001.txt").symlink_to(secret)
    run_trial(tracking, folder, row(1, status="failed", reason="x"))
    problem = close(tracking)
    assert "artifacts are taken from the study's own folder only" in problem
    client, found = MlflowClient(tracking_uri=uri), runs(uri)[0]
    uploaded = [item.path for run in found.values() for item in client.list_artifacts(run.info.run_id, "config")]
    assert uploaded == []
    assert client.list_artifacts(found["00001"].info.run_id, "error") == []


def test_no_file_is_written_through_a_link(command, study, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    names = ("report.html", "figures/pareto.csv", "figures/pareto.png", "results/.compacted.parquet.tmp")
    (study / "figures").mkdir()
    for name in names:
        (study / name).symlink_to(victim)
    assert command("report", study, cwd=tmp_path)[0] == 0
    assert command("pareto", study, "--format", "png", cwd=tmp_path)[0] == 0
    compact(study)
    assert victim.read_text() == "mine"
    assert Path(study / "report.html").read_text().startswith("<!doctype html>")
    temporary = trial_file(tmp_path / "new", "00000").with_name(".00000.parquet.tmp")
    temporary.parent.mkdir(parents=True)
    temporary.symlink_to(victim)
    write_rows(trial_file(tmp_path / "new", "00000"), [result_row(0)], RESULT)
    assert victim.read_text() == "mine"
    assert os.listdir(temporary.parent) == ["00000.parquet"]


@pytest.mark.parametrize(("cwd", "name"), [(".", "theirs.s.evil:thing"), ("theirs", "s.evil:thing")])
def test_a_package_that_leads_into_an_output_folder_is_not_imported(command, study, tmp_path, cwd, name):
    write_yaml(study / "study.yaml", {**CONFIG, "search": {"space": name, "num_trials": 2}})
    code, _, err = command("resume", study, cwd=tmp_path / cwd)
    assert (code, (tmp_path / cwd / "ran").exists()) == (2, False)
    assert "in the output folder of study" in err


def test_a_library_that_loads_files_is_not_named_from_outside_the_working_folder(command, tmp_path):
    (tmp_path / "mine").mkdir()
    tree = {**CONFIG, "dataset": {"name": "mlflow.pyfunc:load_model", "root": "."}, "search": {"space": "core"}}
    write_yaml(tmp_path / "theirs.yaml", tree)
    code, _, err = command("launch", tmp_path / "theirs.yaml", "--dry-run", cwd=tmp_path / "mine")
    assert code == 2
    assert "mlflow.pyfunc:load_model" in err
    assert "then add --allow-code" in err


def test_all_code_of_a_study_is_checked_before_anything_of_it_is_used(command, study, tmp_path):
    tree = {**CONFIG, "search": {"space": "core", "num_trials": 2}, "model": {"name": "evil:thing"}}
    write_yaml(study / "study.yaml", tree)
    commands = ("confirm --seeds 1", "evaluate --front", "train --trial 0", "sync")
    for name, *options in (words.split() for words in commands):
        (tmp_path / "mine").mkdir(exist_ok=True)
        shutil.copy(study / "evil.py", tmp_path / "mine/evil.py")
        code, _, err = command(name, study, *options, cwd=tmp_path / "mine")
        assert (code, err.count("\n")) == (2, 1), err
        assert "then add --allow-code" in err


def test_a_spec_from_outside_the_working_folder_needs_the_flag(command, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/evil.py").write_text(EVIL)
    write_yaml(
        tmp_path / "spec.yaml", {"dataset": {"name": "digits"}, "method": "natural", "model": {"name": "evil:thing"}}
    )
    code, _, err = command("train", tmp_path / "spec.yaml", cwd=tmp_path / "mine")
    assert (code, (tmp_path / "mine/ran").exists()) == (2, False)
    assert "then add --allow-code" in err


def test_a_name_that_the_user_typed_needs_no_flag(command, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/evil.py").write_text(EVIL)
    write_yaml(tmp_path / "theirs.yaml", {**CONFIG, "search": {"space": "core"}})
    words = ("launch", tmp_path / "theirs.yaml", "--dry-run", "--set", "model.name=evil:thing")
    _, _, err = command(*words, cwd=tmp_path / "mine")
    assert "--allow-code" not in err
    assert (tmp_path / "mine/ran").exists()


def test_a_study_in_the_working_folder_runs_none_of_its_files_that_libraries_would_look_for(
    command, study, monkeypatch
):
    monkeypatch.chdir(study)
    before = list(sys.path)
    monkeypatch.setattr(sys, "path", [str(study), "", *before])
    _find_own_code()
    assert not {str(study), ""} & set(sys.path)
    monkeypatch.chdir(study.parent)
    _find_own_code()
    assert sys.path[-1] == str(study.parent)


def test_a_folder_with_a_link_is_not_uploaded(tmp_path):
    secret = tmp_path / "id_rsa"
    secret.write_text("private")
    (tmp_path / "study/figures").mkdir(parents=True)
    (tmp_path / "study/figures/x.txt").symlink_to(secret)
    refused = []
    assert not own_file(tmp_path / "study", "figures", refused=refused).exists()
    assert "not by way of links" in refused[0]
