"""Whether a tracking store answers, found out in seconds and without loading MLflow."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

SECONDS = 5.0


def unreachable(uri: str, /) -> str | None:
    """Return why the store at a tracking URI cannot be used and what to do, or None where it answers.

    Args:
        uri: `http(s)://` of a server, `sqlite:///` of a file, or another database's, which is left to MLflow.
    """
    url = urlsplit(uri)
    if url.scheme in ("http", "https"):
        return _server(uri)
    if url.scheme == "sqlite":
        path = Path(unquote(url.path).removeprefix("/") or ".")
        folder = path if path.is_dir() else path.parent
        if not folder.is_dir():
            return f"folder {folder} does not exist: make it, or set tracking.uri"
        if not os.access(path if path.exists() else folder, os.W_OK):
            return "cannot be written by this user: set tracking.uri to a file that can"
    return None


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
