"""Where Optuna keeps a study's trials: SQLite in its folder, a journal file, or a PostgreSQL server.

A URL must not hold a password: libpq reads `PGPASSWORD` or `~/.pgpass` itself.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from study.config.file_urls import sqlite_url
from study.directory.mounts import network_mount
from study.errors import UsageError, short
from trainables.data.roots import expanded

if TYPE_CHECKING:
    import optuna

    from study.config.schema import StudyConfig

JOURNAL = "journal"
CONNECT_SECONDS = 10


def study_url(study_dir: Path, /) -> str:
    """Return the SQLAlchemy URL of a study's own storage, a SQLite file in its folder."""
    return sqlite_url(study_dir / "optuna.db")


def check_storage(config: StudyConfig, study_dir: Path, /, *, is_new: bool) -> None:
    """Check, before a study starts, that its storage can be used and, for a new study, that its name is free.

    Args:
        config: The study's config.
        study_dir: Its folder, which need not exist yet.
        is_new: Whether the study is new.

    Raises:
        UsageError: SQLite on a network mount, a server that does not answer, or a name that is taken.
    """
    kind = config.storage.optuna
    if kind is None:
        _require_local(study_dir)
    elif kind != JOURNAL:
        import optuna

        storage = open_storage(config, study_dir)
        if is_new and config.name in optuna.get_all_study_names(storage):
            raise UsageError(
                f"{kind} already has a study {config.name!r}: choose another name with --set name=NEW_NAME, "
                "or another database"
            )


def open_storage(config: StudyConfig, study_dir: Path, /) -> optuna.storages.BaseStorage:
    """Open a study's storage, creating it on first use.

    Raises:
        UsageError: SQLite on a network mount, a damaged file, or a server that cannot be used; the message says why.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    kind = config.storage.optuna
    if kind is None:
        _require_local(study_dir)
        _require_whole(study_dir / "optuna.db")
        return optuna.storages.get_storage(study_url(study_dir))
    if kind == JOURNAL or kind.startswith(f"{JOURNAL}:"):
        path = _journal(kind, study_dir)
        path.parent.mkdir(parents=True, exist_ok=True)
        return optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    return _open_server(kind)


def move_trials(config: StudyConfig, study_dir: Path, /, *, to: StudyConfig) -> None:
    """Copy a study's trials, with their states and attributes, to another storage; the former one is unchanged.

    Args:
        config: The study's config, with the former storage.
        study_dir: Its folder.
        to: The same config with the new storage.

    Raises:
        UsageError: The former storage has no such study, the new one has one, or one of them cannot be used. Nothing
            is left in the new one then.
    """
    import optuna

    source, place = open_storage(config, study_dir), to.storage.optuna or study_dir / "optuna.db"
    if config.name not in optuna.get_all_study_names(source):
        raise UsageError(f"the storage of {study_dir} has no study {config.name!r}: leave out --move-storage")
    file = _file(to.storage.optuna, study_dir)
    is_new = file is not None and not file.exists()
    try:
        target = open_storage(to, study_dir)
        if config.name in optuna.get_all_study_names(target):
            raise UsageError(
                f"{place} has a study {config.name!r} already, perhaps of a copy that was interrupted: "
                "delete it there, or name another place"
            )
        _copy(config.name, source, target)
    except BaseException as error:
        if is_new and file is not None:
            file.unlink(missing_ok=True)
        if isinstance(error, UsageError) or not isinstance(error, Exception):
            raise
        raise UsageError(
            f"Optuna's trials cannot be copied to {place} ({short(error)}); the study still uses its former storage"
        ) from error


def _copy(name: str, source: optuna.storages.BaseStorage, target: optuna.storages.BaseStorage) -> None:
    """Copy a study to a storage that has none of its name, whole or not at all."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        optuna.copy_study(from_study_name=name, from_storage=source, to_storage=target)
    except optuna.exceptions.DuplicatedStudyError:
        raise  # another process's
    except BaseException:
        with suppress(Exception):
            optuna.delete_study(study_name=name, storage=target)
        raise


def restoring(config: StudyConfig, study_dir: Path, /) -> str:
    """Return what to do about a storage that contradicts a study's rows."""
    kind = config.storage.optuna
    file = _file(kind, study_dir)
    if file is None:
        place = f"delete study {config.name} there (`optuna delete-study --study-name {config.name} --storage {kind}`)"
    else:
        place = f"move {file} away"
    return f"Optuna's storage is not the one of these rows: put that one back, or {place} and resume from the rows"


def _file(kind: str | None, study_dir: Path) -> Path | None:
    """Return the file of a storage; None for a server."""
    if kind is None:
        return study_dir / "optuna.db"
    return None if "://" in kind else _journal(kind, study_dir)


def _journal(kind: str, study_dir: Path) -> Path:
    return study_dir / "optuna.journal" if kind == JOURNAL else expanded(kind.partition(":")[2])


def _require_local(study_dir: Path) -> None:
    mount = network_mount(study_dir)
    if mount is not None:
        raise UsageError(
            f"{study_dir} is on {mount[0]}, a network mount ({mount[1]}), where SQLite loses or damages data: choose "
            "--out on a local disk, --set storage.optuna=journal, or PostgreSQL"
        )


def _require_whole(path: Path) -> None:
    """Check that an SQLite file is no torn copy, such as one made while the study ran."""
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(path)) as database:
            verdict = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError:
        return  # locked by the driver that writes to it
    except sqlite3.DatabaseError as error:
        verdict = str(error)
    if verdict != "ok":
        raise UsageError(
            f"{path} is damaged ({verdict.splitlines()[-1]}): put a backup back, or move the file away and resume: "
            "its trials are then put back from the study's rows"
        )


def _open_server(url: str) -> optuna.storages.BaseStorage:
    import optuna

    try:
        import psycopg
    except ModuleNotFoundError as error:
        raise UsageError(
            f"`storage.optuna` {url} needs the extra `postgres`: in this project's clone, pip install '.[postgres]'"
        ) from error
    rest = url.partition("://")[2]
    try:
        psycopg.connect(f"postgresql://{rest}", connect_timeout=CONNECT_SECONDS).close()
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[-1].strip()
        hint = "" if os.environ.get("PGPASSWORD") else "; a password is read from PGPASSWORD or ~/.pgpass"
        raise UsageError(f"`storage.optuna` {url} cannot be used: {reason}{hint}") from error
    # psycopg is named, because SQLAlchemy's default driver is another one
    return optuna.storages.get_storage(f"postgresql+psycopg://{rest}")
