"""Optuna's storage: SQLite on a local disk only, a journal, a server."""

from __future__ import annotations

from functools import partial

import pytest
from helpers.services.ports import free_port

from study.config.loading import load_config
from study.directory import mounts as table_of_mounts
from study.directory.mounts import network_mount
from study.errors import UsageError
from study.search.optuna_study import open_search
from study.search.storage import check_storage, open_storage

TABLE = """\
overlay / overlay rw 0 0
server:/export {folder}/shared nfs4 rw 0 0
//box/odd {folder}/a\\043b\\134c cifs rw 0 0
tmpfs {folder}/shared/local tmpfs rw 0 0
//box/data {folder}/my\\040share cifs rw 0 0
none {folder}/twice lustre rw 0 0
tmpfs {folder}/twice tmpfs rw 0 0
me@host: {folder}/ssh fuse.sshfs rw 0 0
mountpoint-s3 {folder}/bucket fuse rw 0 0
bucket: {folder}/cone fuse.rclone rw 0 0
"""


@pytest.fixture
def mounts(tmp_path, monkeypatch):
    table = tmp_path / "mounts"
    table.write_text(TABLE.format(folder=tmp_path))
    monkeypatch.setattr(table_of_mounts, "MOUNTS", table)
    for name in ("shared/local", "my share", "a#b\\c", "twice", "ssh", "bucket", "cone", "sharedness"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("shared", "nfs4"),
        ("shared/not/there/yet", "nfs4"),
        ("shared/local/study", None),
        ("my share/study", "cifs"),
        ("a#b\\c/study", "cifs"),
        ("ssh", "fuse.sshfs"),
        ("bucket/study", "fuse"),
        ("cone", "fuse.rclone"),
        ("twice", None),
        ("sharedness", None),
        ("", None),
    ],
)
def test_the_mount_of_a_folder_is_found(mounts, place, kind):
    mount = network_mount(mounts / place)
    assert (mount and mount[1]) == kind


def test_a_link_to_a_network_mount_is_followed(mounts):
    (mounts / "link").symlink_to(mounts / "shared")
    assert network_mount(mounts / "link" / "study") == (str(mounts / "shared"), "nfs4")


def test_without_a_mount_table_nothing_is_refused(mounts, monkeypatch):
    monkeypatch.setattr(table_of_mounts, "MOUNTS", mounts / "none")
    assert network_mount(mounts / "shared") is None


def config(**changes):
    return load_config("quickstart", assignments=[f"{key}={value}" for key, value in changes.items()])


def test_sqlite_is_refused_on_a_network_mount_and_a_journal_is_not(mounts):
    folder = mounts / "shared" / "study"
    for use in (partial(check_storage, is_new=False), open_storage):
        with pytest.raises(UsageError, match=r"network mount \(nfs4\).*--set storage\.optuna=journal"):
            use(config(), folder)
    journal = config(**{"storage.optuna": "journal"})
    check_storage(journal, folder, is_new=True)
    folder.mkdir()
    open_search(journal, folder)
    assert (folder / "optuna.journal").exists()
    assert not (folder / "optuna.db").exists()


@pytest.mark.parametrize("kind", [None, "journal", "journal:PATH"])
def test_a_storage_stores_trials(tmp_path, kind):
    assignments = {} if kind is None else {"storage.optuna": kind.replace("PATH", str(tmp_path / "other" / "journal"))}
    search = config(**assignments)
    check_storage(search, tmp_path, is_new=True)
    study = open_search(search, tmp_path)
    study.tell(study.ask(), [0.9, 0.4])
    again = open_search(search, tmp_path)
    assert [trial.values for trial in again.trials] == [[0.9, 0.4]]
    assert again.metric_names == search.search.objectives


@pytest.mark.parametrize("kept", [0.5, 0.1, None])
def test_a_torn_copy_of_sqlite_is_one_clear_line(tmp_path, kept):
    study = open_search(config(), tmp_path)
    study.tell(study.ask(), [0.9, 0.4])
    path = tmp_path / "optuna.db"
    content = path.read_bytes()
    path.write_bytes(b"no database" * 99 if kept is None else content[: int(kept * len(content))])
    with pytest.raises(UsageError, match=r"optuna\.db is damaged \(.*\): put a backup back, or move the file away"):
        open_storage(config(), tmp_path)


def test_a_name_that_is_taken_in_a_shared_storage_is_refused(tmp_path):
    shared = config(**{"storage.optuna": f"journal:{tmp_path / 'journal'}"})
    open_search(shared, tmp_path / "first")
    with pytest.raises(UsageError, match=r"already has a study 'quickstart': .* --set name=NEW_NAME"):
        check_storage(shared, tmp_path / "second", is_new=True)
    check_storage(shared, tmp_path / "first", is_new=False)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("postgresql://me:s3cret@host/db", r"`storage\.optuna`: must not hold a password: .*PGPASSWORD"),
        ("postgresql://host/db?user=me&password=s3cret", "must not hold a password"),
        ("mysql://me:s3cret@host/db", r"postgresql://USER@HOST/DATABASE, got 'mysql://\.\.\.'"),
        ("sqlite:///x.db", "must be null"),
        ("jurnal", "got 'jurnal'"),
    ],
)
def test_another_storage_is_one_clear_line_without_secrets(value, message):
    with pytest.raises(UsageError, match=message) as caught:
        config(**{"storage.optuna": value})
    assert "s3cret" not in str(caught.value)


def test_a_server_that_does_not_answer_is_one_clear_line(tmp_path):
    url = f"postgresql://me@127.0.0.1:{free_port()}/none"
    with pytest.raises(UsageError, match=r"`storage\.optuna` postgresql://me@127.*(cannot be used: |needs the extra)"):
        check_storage(config(**{"storage.optuna": url}), tmp_path, is_new=True)
