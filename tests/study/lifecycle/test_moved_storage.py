"""`resume` with another `storage.optuna`: refused, or the trials are copied there first."""

from __future__ import annotations

import optuna
import pytest
from helpers.studies.plain_study import leave_out_pictures
from helpers.studies.trained_study import trained_study
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from study.directory.layout import open_config
from study.search.optuna_study import enqueue, open_search

JOURNAL = ("--set", "storage.optuna=journal")

COMPLETE = ("--set", "search.num_trials=1")
"""So that nothing is run."""


@pytest.fixture
def folder(tmp_path):
    """A study of one completed trial, an open one and one that waits."""
    folder = trained_study(tmp_path, "a", shared=None)
    config = open_config(folder)
    search = open_search(config, folder)
    search.set_user_attr("config", config.to_dict())
    config.space().draw(search.ask())
    search.enqueue_trial({"dropout": 0.15}, user_attrs={"proposal": "start_point"})
    return folder


def content(search):
    trials = [
        (one.state, one.params, one.values, one.user_attrs, one.system_attrs, one.constraints, one.distributions)
        for one in search.trials
    ]
    return trials, search.user_attrs, search.metric_names, search.directions


def test_another_storage_is_refused_before_it_is_made(command, folder):
    code, _, err = command("resume", "a", *JOURNAL)
    assert code == 2
    assert "`storage.optuna` is null (optuna.db in the study's folder) in a/study.yaml, where the trials are" in err
    assert "would be journal: add --move-storage to copy them there" in err
    assert not (folder / "optuna.journal").exists()
    assert "--move-storage needs the new place" in command("resume", "a", "--move-storage")[2]


def test_the_trials_are_copied_to_the_new_storage_and_the_study_goes_on_there(command, folder, uri, monkeypatch):
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    leave_out_pictures(monkeypatch)
    before = content(open_search(open_config(folder), folder))
    options = (*JOURNAL, *COMPLETE, "--set", f"tracking.uri={uri}", "--set", "tracking.models=0")
    code, _, err = command("resume", "a", *options, "--move-storage")
    assert (code, "Optuna's trials are copied to journal; those in null (" in err) == (0, True), err
    config = open_config(folder)
    assert config.storage.optuna == "journal"
    search = open_search(config, folder)
    trials, attributes, *others = content(search)
    # the open trial is beyond the one that the study has now; of the study's attributes some are added by the driver
    assert [trials[0], trials[2]] == [before[0][0], before[0][2]]
    assert trials[1][1:] == before[0][1][1:]
    assert attributes.items() >= {key: value for key, value in before[1].items() if key != "config"}.items()
    assert tuple(others) == before[2:]
    assert enqueue(search, config) == []
    code, _, err = command("resume", "a", "--set", "storage.optuna=null", "--move-storage")
    assert (code, "has a study 'a' already" in err) == (2, True)


def test_nothing_is_copied_before_the_checks(command, folder):
    before = (folder / "study.yaml").read_text()
    for change, problem in (
        ("training.lr=0.3", "`training.lr` was 0.1 when the study started and is 0.3 now"),
        ("resources.cpus=1000", "this machine has"),
    ):
        code, _, err = command("resume", "a", *JOURNAL, "--move-storage", "--set", change)
        assert (code, problem in err) == (2, True), err
        assert not (folder / "optuna.journal").exists()
        assert (folder / "study.yaml").read_text() == before


@pytest.mark.long
@pytest.mark.parametrize("others", [False, True])
def test_a_copy_that_fails_leaves_nothing_and_the_study_as_it_was(command, folder, tmp_path, monkeypatch, others):
    place, before = tmp_path / "shared.journal", (folder / "study.yaml").read_text()
    storage = JournalStorage(JournalFileBackend(str(place))) if others else None
    if storage is not None:
        optuna.create_study(study_name="other", storage=storage)
    create, done = JournalStorage.create_new_trial, []

    def full(self, *words, **options):
        if done:
            raise OSError(28, "No space left on device")
        done.append(1)
        return create(self, *words, **options)

    monkeypatch.setattr(JournalStorage, "create_new_trial", full)
    code, _, err = command("resume", "a", "--set", f"storage.optuna=journal:{place}", "--move-storage", *COMPLETE)
    assert (code, err.count("\n")) == (2, 1), err
    assert "cannot be copied to journal:" in err
    assert "No space left on device); the study still uses its former storage" in err
    assert place.exists() is others
    if storage is not None:
        assert optuna.get_all_study_names(storage) == ["other"]
    assert (folder / "study.yaml").read_text() == before


def test_a_lost_storage_does_not_hide_a_change_of_meaning(command, folder):
    (folder / "optuna.db").unlink()
    code, _, err = command("resume", "a", "--set", "training.lr=0.3")
    assert code == 2
    assert "`training.lr` was 0.1 when the study started and is 0.3 now" in err
