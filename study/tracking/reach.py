"""Whether a tracking store answers, and lies where it lasts, found out in seconds and without loading MLflow."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

from study.mounts import network_mount

SECONDS = 5.0

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
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=SECONDS) as answer:
            return None if answer.status == 200 else f"answered with status {answer.status}"
    except urllib.error.HTTPError as error:
        if error.code == 403:
            return "refuses this host name: start the server with --allowed-hosts NAME:PORT"
        if error.code == 401:
            return None  # it is there, and asks who we are: MLFLOW_TRACKING_USERNAME and _PASSWORD say so
        return f"answered with status {error.code}: is it an MLflow server?"
    except OSError as error:
        return f"does not answer ({getattr(error, 'reason', error)}): start it, or set tracking.uri"
