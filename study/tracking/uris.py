"""What a tracking URI may be: a server or a database, and never a place for a password."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

SERVERS = ("http", "https")
_SCHEMES = (*SERVERS, "sqlite", "postgresql", "mysql")
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


def uri_problem(uri: str, /) -> str | None:
    """Return what is wrong with a tracking URI, or None; the answer never repeats what may be secret."""
    parts = urlsplit(uri)
    scheme = parts.scheme.partition("+")[0]
    if scheme not in _SCHEMES:
        return f"must begin with one of {', '.join(f'{name}://' for name in _SCHEMES)}, got {parts.scheme or 'none'}"
    if parts.password is not None or (scheme in SERVERS and (parts.username is not None or parts.query)):
        return f"must not hold a user name, password or token; {_FROM_ENVIRONMENT}"
    if scheme in SERVERS and not parts.hostname:
        return "must name a host, such as http://tracking.example:5000"
    if scheme == "sqlite" and not uri.startswith("sqlite:///"):
        return "must be sqlite:/// and a path, such as sqlite:///mlflow.db"
    return None
