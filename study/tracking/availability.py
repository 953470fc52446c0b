"""Whether a tracking store can be used and keeps its data: checks that take seconds and do not load MLflow."""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
from pathlib import Path

from study.config.file_urls import sqlite_path
from study.config.trust import require_server
from study.config.values import is_server
from study.directory.mounts import network_mount
from study.errors import UsageError

TIMEOUT_SECONDS = 5.0
_SEARCH = "api/2.0/mlflow/experiments/search?max_results=1"
_VARIABLES = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"

_JOB_FOLDER = "working_dir_files"
"""Where Ray unpacks the folder that a job is submitted with."""


def access_problem(uri: str, /) -> str | None:
    """Return why the store at a tracking URI cannot be used and what to do, or None if it can.

    Args:
        uri: `http(s)://` of a server or `sqlite:///` of a file; the URI of another database is not checked.
    """
    if is_server(uri):
        return _server_problem(uri)
    if (path := sqlite_path(uri)) is not None:
        folder = path.parent
        if not folder.is_dir():
            return f"needs the folder {folder}, which does not exist: create it, or set tracking.uri"
        if not os.access(path if path.exists() else folder, os.W_OK):
            return "is not writable by this user: set tracking.uri to a file that is"
        if path.is_dir():
            return "is a folder: set tracking.uri to a file in it"
        if path.exists() and not _is_sqlite(path):
            return "is not a SQLite file: set tracking.uri to another"
    return None


def _is_sqlite(path: Path) -> bool:
    """Return whether a file is empty, as a new database is, or begins as SQLite's do."""
    with path.open("rb") as file:
        return file.read(16) in (b"", b"SQLite format 3\0")


def durability_problem(uri: str, /) -> str | None:
    """Return why the data of the store at a tracking URI may be lost and what to do, or None if it is safe.

    Args:
        uri: As in `access_problem`; only a SQLite file is checked.
    """
    path = sqlite_path(uri)
    if path is None:
        return None
    if _JOB_FOLDER in path.absolute().parts:
        return (
            "is in Ray's copy of the folder that the job was submitted with, and is deleted with it: "
            "set tracking.uri to a server, or to a file beside the results"
        )
    mount = network_mount(path)
    if mount is None:
        return None
    return (
        f"is on {mount[0]}, a network mount ({mount[1]}), where SQLite may lose or damage data: "
        "set tracking.uri to a server, or to a file on a local disk"
    )


def _server_problem(uri: str) -> str | None:
    try:
        require_server(uri)
    except UsageError as error:
        return str(error)
    # a request that studies make: a server's health is shown to every user and under every host name
    request = urllib.request.Request(f"{uri.rstrip('/')}/{_SEARCH}")
    for name, value in _credentials().items():
        request.add_unredirected_header(name, value)  # not sent on to another server
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            json.load(answer)
    except urllib.error.HTTPError as error:
        return _refusal(error)
    except ValueError:
        return "does not answer like an MLflow server, but perhaps with a sign-in page: check the address"
    except OSError as error:
        return f"does not answer ({getattr(error, 'reason', error)}): start it, or set tracking.uri"
    return None


def _refusal(error: urllib.error.HTTPError) -> str:
    if error.code == 401 and not _credentials():
        return f"requires credentials: set {_VARIABLES}, in the environment"
    if error.code == 401:
        return f"rejects the credentials: correct {_VARIABLES}, in the environment"
    if error.code == 403 and b"host header" in error.read(1000).lower():
        return "refuses this host name: start the server with --allowed-hosts NAME:PORT"
    if error.code == 403:
        return "does not let this user list experiments: ask its administrator for permission"
    return f"answers with status {error.code}: is it an MLflow server?"


def _credentials() -> dict[str, str]:
    """Return the authorisation header that MLflow's client sends, from the environment; empty without credentials."""
    name, password = (os.environ.get(f"MLFLOW_TRACKING_{part}") for part in ("USERNAME", "PASSWORD"))
    if name and password:
        return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}
