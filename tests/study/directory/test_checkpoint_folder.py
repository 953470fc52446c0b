"""Studies with one `storage.checkpoints`: each has a folder of its own there, and uses no other's."""

from __future__ import annotations

import shutil

import pytest
from helpers.studies.trained_study import trained_study

from analysis.data.results import read_results
from study.directory.checkpoint_folder import OWNER_FILE, checkpoint_root, claim, new_owner, owner_of, write_owner
from study.directory.layout import open_config
from study.driver import tune_run
from study.driver.checkpoint_retention import Deletions
from study.errors import UsageError
from study.evaluation import confirm
from study.evaluation.trial_weights import weights_of
from study.lifecycle.front_members import publish_members
from study.search.optuna_study import open_search
from study.search.trial_specs import specs_of


def row_of(folder):
    return read_results(folder).to_pylist()[0]


def claimed(folder):
    config = open_config(folder)
    study = open_search(config, folder)
    return claim(config, folder, study_id="1f3c", specs=lambda: specs_of(config, folder, study))


@pytest.fixture
def shared(tmp_path):
    return tmp_path / "shared"


def test_two_studies_with_one_storage_keep_and_delete_only_their_own(tmp_path, shared):
    first, second = (trained_study(tmp_path, name, shared=shared) for name in "ab")
    roots = [claimed(folder) for folder in (first, second)]
    assert roots == [shared / f"{folder.name}-{owner_of(folder).id}" for folder in (first, second)]
    with Deletions(roots[1]) as deletions:
        deletions("00000")
    assert weights_of(first, open_config(first), row_of(first), "last") == str(roots[0] / "00000/last.pt")
    assert (roots[0] / "00000/last.pt").exists()
    assert not (roots[1] / "00000").exists()
    shutil.rmtree(first)
    assert claimed(trained_study(tmp_path, "a", shared=shared, trials=0)) not in roots  # no leftovers


def test_without_the_key_checkpoints_stay_in_the_studys_folder(tmp_path):
    folder = trained_study(tmp_path, "a", shared=None)
    assert claimed(folder) == folder / "checkpoints"
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["00000"]


def test_a_renamed_moved_or_copied_study_finds_its_own(tmp_path, shared):
    folder = trained_study(tmp_path, "a", shared=shared)
    own = checkpoint_root(open_config(folder), folder)
    shutil.copytree(folder, tmp_path / "copy")
    moved = folder.rename(tmp_path / "renamed")
    assert {claimed(moved), claimed(tmp_path / "copy")} == {own}


def test_the_folder_of_another_study_is_refused_by_every_use(tmp_path, shared, monkeypatch):
    folder = trained_study(tmp_path, "a", shared=shared)
    config, row = open_config(folder), row_of(folder)
    write_owner(checkpoint_root(config, folder), new_owner("other"))
    open_search(config, folder).set_user_attr("study_id", "1f3c")
    monkeypatch.setattr(tune_run, "started_tracker", lambda *words, **options: None)
    uses = {
        "launch and resume, before anything is kept or deleted": lambda: tune_run.run_study(config, folder),
        "evaluate": lambda: weights_of(folder, config, row, "last"),
        "confirm": lambda: confirm._claim(config, folder),
    }
    for use in uses.values():
        with pytest.raises(UsageError, match=rf"the checkpoints in .* belong to study other .*, not to {folder}"):
            use()


def test_an_earlier_versions_study_claims_the_folder_if_all_checkpoints_there_are_its_own(tmp_path, shared):
    first = trained_study(tmp_path, "a", shared=shared, trials=2, earlier=True)
    second = trained_study(tmp_path, "b", shared=tmp_path / "other", earlier=True)
    assert claimed(first) == shared == claimed(first)
    assert owner_of(first).id == "1f3c"
    config = open_config(second)
    storage = config.storage.model_copy(update={"checkpoints": str(shared)})
    assert checkpoint_root(config.model_copy(update={"storage": storage}), first) == shared
    assert claimed(second) == tmp_path / "other"
    moved = shared.rename(tmp_path / "moved")  # the mount has another name now
    storage = config.storage.model_copy(update={"checkpoints": str(moved)})
    assert claim(config.model_copy(update={"storage": storage}), first, study_id="", specs=dict) == moved


def test_an_earlier_versions_study_leaves_a_folder_with_others_checkpoints(tmp_path, shared, capsys):
    first = trained_study(tmp_path, "a", shared=shared, trials=2, earlier=True)
    second = trained_study(tmp_path, "b", shared=shared, earlier=True)  # overwrites the first's 00000
    for folder in (first, second):
        assert claimed(folder) == shared / f"{folder.name}-1f3c"
        assert "shared has checkpoints of another study (" in capsys.readouterr().err
    assert not (shared / OWNER_FILE).exists()


def test_a_checkpoint_is_measured_only_with_the_spec_of_the_row(command, tmp_path, shared):
    """Both trials have the same number and so the same seed; only their dropout differs."""
    first = trained_study(tmp_path, "a", shared=shared, earlier=True)
    trained_study(tmp_path, "b", shared=shared, earlier=True)
    code, _, err = command("evaluate", first.name, "--trial", "0", "--limit", "5")
    assert code == 1
    assert "00000/last.pt belongs to another spec: `model.dropout` is 0.3" in err
    assert not list(first.glob("evaluations/*.parquet"))
    publish_members(open_config(first), first, read_results(first), tracker=None)
    _, _, err = command("status", first.name)
    assert "MLflow gets no model of it: CheckpointError: " in err
