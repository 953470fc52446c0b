"""Whether a tracking store answers, and lies where it lasts, found out in seconds and without loading MLflow."""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

from study.directory.mounts import network_mount

SECONDS = 5.0
_ASKED = "api/2.0/mlflow/experiments/search?max_results=1"
_NAMES = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN,"

_JOB_FOLDER = "working_dir_files"
"""Where Ray unpacks the folder that a job is submitted with."""


def unreachable(uri: str, /) -> str | None:
    """Return why the store at a tracking URI cannot be used and what to do, or None where it answers.

    Args:
        uri: `http(s)://` of a server, `sqlite:///` of a file, or another database's, which is left to MLflow.
    """
    url = urlsplit(uri)
    if url.scheme in ("http", "https"):
        return _server(uri)
    if url.scheme == "sqlite":
        path = _file(uri)
        folder = path if path.is_dir() else path.parent
        if not folder.is_dir():
            return f"folder {folder} does not exist: make it, or set tracking.uri"
        if not os.access(path if path.exists() else folder, os.W_OK):
            return "cannot be written by this user: set tracking.uri to a file that can"
    return None


def endangered(uri: str, /) -> str | None:
    """Return why what a store at a tracking URI holds may be lost and what to do, or None where nothing speaks for it.

    Args:
        uri: As in `unreachable`; only a SQLite file can be in danger.
    """
    if urlsplit(uri).scheme != "sqlite":
        return None
    path = _file(uri)
    if _JOB_FOLDER in path.absolute().parts:
        return (
            "lies in Ray's copy of the folder that the job was submitted with, and goes with it: "
            "set tracking.uri to a server, or to a file beside the results"
        )
    mount = network_mount(path)
    if mount is None:
        return None
    return (
        f"is on {mount[0]}, a network mount ({mount[1]}), where SQLite loses or damages what it writes: "
        "set tracking.uri to a server, or to a file on this machine's own disk"
    )


def _file(uri: str) -> Path:
    return Path(unquote(urlsplit(uri).path).removeprefix("/") or ".")


def _server(uri: str) -> str | None:
    # a request like a study's own: a server lets anybody under any host name see whether it is healthy
    request = urllib.request.Request(f"{uri.rstrip('/')}/{_ASKED}")
    for name, value in _credentials().items():
        request.add_unredirected_header(name, value)  # another server is not told
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            json.load(answer)
    except urllib.error.HTTPError as error:
        return _refusal(error)
    except ValueError:
        return "answered with something that is not MLflow's, such as a sign-in page: is the address right?"
    except OSError as error:
        return f"does not answer ({getattr(error, 'reason', error)}): start it, or set tracking.uri"
    return None


def _refusal(error: urllib.error.HTTPError) -> str:
    if error.code == 401 and not _credentials():
        return f"asks who we are: set {_NAMES} in the environment"
    if error.code == 401:
        return f"does not know the user: what {_NAMES} say in the environment is not right"
    if error.code == 403 and b"host header" in error.read(1000).lower():
        return "refuses this host name: start the server with --allowed-hosts NAME:PORT"
    if error.code == 403:
        return "forbids this user to list experiments: ask who runs it for permission"
    return f"answered with status {error.code}: is it an MLflow server?"


def _credentials() -> dict[str, str]:
    """Return the header by which MLflow's client says who it is, from the environment; empty where that is silent."""
    name, password = (os.environ.get(f"MLFLOW_TRACKING_{what}") for what in ("USERNAME", "PASSWORD"))
    if name and password:
        return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}
