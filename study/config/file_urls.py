"""URLs of SQLite files, for Optuna and MLflow; in a path, % and ? mean nothing, in a URL they do."""

from __future__ import annotations

import os.path
from pathlib import Path
from urllib.parse import unquote

from study.errors import UsageError

_SQLITE = "sqlite:///"
_FOR_MLFLOW = "sqlite+pysqlite:///"


def sqlite_url(path: Path, /) -> str:
    """Return the URL of a SQLite file, as Optuna and `tracking.uri` take it."""
    from sqlalchemy.engine import URL

    return URL.create("sqlite", database=str(path.resolve())).render_as_string()


def sqlite_path(url: str, /) -> Path | None:
    """Return the file that a URL names, with `~` replaced; None if it is not the URL of a SQLite file."""
    if not url.startswith((_SQLITE, _FOR_MLFLOW)):
        return None
    from sqlalchemy.engine import make_url

    return Path(os.path.expanduser(make_url(url).database or ""))


def sqlite_problem(url: str, /) -> str | None:
    """Return why the URL of a SQLite file, which begins with `sqlite:`, names none, or None."""
    if not url.startswith(_SQLITE):
        return "must be sqlite:/// and a path, such as sqlite:///mlflow.db"
    if "\0" in url:
        return f"must not hold a NUL character, got {url!r}"
    if "?" in url:
        return "must have no options, which begin with ?; a ? in a path is written %3F"
    try:
        path = unquote(url.removeprefix(_SQLITE), errors="strict")
    except UnicodeDecodeError:
        path = "\0"
    if "\0" in path:
        return f"has a % that encodes no character, got {url!r}; a % in a path is written %25"
    if path in ("", ":memory:") or path.endswith("/"):
        return f"must name a file, such as sqlite:///mlflow.db, got {url!r}"
    return None


def absolute(uri: str, /) -> str:
    """Return a tracking URI that does not depend on the working folder.

    Raises:
        UsageError: Only without its %20 and the like decoded does it name an existing folder.
    """
    path = sqlite_path(uri)
    if path is not None and "%" in uri and not path.parent.exists():
        as_typed = Path(os.path.expanduser(uri.removeprefix(_SQLITE)))
        if as_typed.parent.exists():
            raise UsageError(
                f"`tracking.uri` {uri} names {path}, whose folder does not exist; a % in a path is written %25: "
                f"{sqlite_url(as_typed)}"
            )
    return uri if path is None or path == path.resolve() else sqlite_url(path)


def for_mlflow(uri: str, /) -> str:
    """Return a tracking URI as MLflow is to open it.

    Where a URL begins with sqlite:/// MLflow creates the folder that it names before %20 and the like are decoded.
    """
    return uri.replace(_SQLITE, _FOR_MLFLOW, 1) if uri.startswith(_SQLITE) else uri


def default_uri() -> str:
    """Return MLflow's default store, a SQLite file in the working folder."""
    return sqlite_url(Path("mlflow.db"))


def missing_file(uri: str, /) -> Path | None:
    """Return the file of a SQLite store that does not exist; None for any other store."""
    path = sqlite_path(uri)
    return None if path is None or path.exists() else path
