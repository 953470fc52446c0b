"""What a tracking URI may be: a server or a database, and never a place for a password."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

SERVERS = ("http", "https")
_SCHEMES = (*SERVERS, "sqlite", "postgresql", "mysql")
_SECRETS = ("pass", "pwd", "token", "secret")
_FROM_ENVIRONMENT = (
    "the config is stored with the results: give MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, "
    "or MLFLOW_TRACKING_TOKEN, in the environment"
)


def is_server(uri: str, /) -> bool:
    """Return whether a tracking URI names a server rather than a database."""
    return urlsplit(uri).scheme in SERVERS


def absolute(uri: str, /) -> str:
    """Return a URI that means the same from any working folder."""
    path = uri.removeprefix("sqlite:///")
    return uri if path == uri else f"sqlite:///{Path(path).expanduser().resolve()}"


def missing_file(uri: str, /) -> Path | None:
    """Return the file of a SQLite store that is not there; None of any other store."""
    path = Path(uri.removeprefix("sqlite:///"))
    return path if uri.startswith("sqlite:///") and not path.exists() else None


def unreadable(uri: str, /) -> str | None:
    """Return why a URI names no store to read from, or None; nothing is made or changed to find out.

    Opening a SQLite file makes it where it is not there, and MLflow's tables in it where it is another's.
    """
    if (problem := uri_problem(uri)) is not None:
        return problem
    if (gone := missing_file(uri)) is not None:
        return f"names {gone}, which does not exist"
    if not uri.startswith("sqlite:///"):
        return None
    path = Path(uri.removeprefix("sqlite:///"))
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            found = database.execute("select 1 from sqlite_master where name = 'experiments'").fetchone()
    except sqlite3.Error as error:
        return f"names {path}, which cannot be read ({error})"
    return None if found else f"names {path}, which is not MLflow's"


def uri_problem(uri: str, /) -> str | None:
    """Return what is wrong with a tracking URI, or None; the answer never repeats what may be secret."""
    parts = urlsplit(uri)
    scheme = parts.scheme.partition("+")[0]
    if scheme not in _SCHEMES:
        named = ", ".join(f"{name}://" for name in _SCHEMES)
        return f"must begin with one of {named}, got {parts.scheme or 'none'}; a file's is sqlite:///PATH"
    if parts.password is not None or (scheme in SERVERS and (parts.username is not None or parts.query)):
        return f"must not hold a user name, password or token; {_FROM_ENVIRONMENT}"
    if any(word in name.lower() for name, _ in parse_qsl(parts.query) for word in _SECRETS):
        return f"must not hold a user name, password or token; {_FROM_ENVIRONMENT}"
    if scheme in SERVERS and not parts.hostname:
        return "must name a host, such as http://tracking.example:5000"
    if scheme == "sqlite" and not uri.startswith("sqlite:///"):
        return "must be sqlite:/// and a path, such as sqlite:///mlflow.db"
    return None
