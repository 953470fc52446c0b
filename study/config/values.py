"""Checks and parses addresses, URIs, checkpoint locations, durations and fractions."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from urllib.parse import unquote, urlsplit

from study.config.file_urls import missing_file, sqlite_path, sqlite_problem

AUTO = "auto"

OBJECT_STORES = ("s3", "gs")

_CREDENTIAL = re.compile(
    r"pass(word|wd|phrase)?$|pwd|token|secret|(access|api|private|session)_?key|credential|signature|^(key|sig|sas|auth.*)$",
    re.IGNORECASE,
)
"""Names in a query whose values open something; `passfile` and `sslkey` name files, and are none."""


def holds_secret(url: str, /) -> bool:
    """Return whether a URL holds a password, a fragment, or a value in its query that is named like a credential.

    What comes before the last @ is the user, with a password after a colon, even if it has a slash, where parsers end
    the host and take the rest for a path.
    """
    rest = url.partition("://")[2]
    user, _, place = rest.rpartition("@")
    names = (part.partition("=")[0] for text in (user, place) for part in re.split(r"[?&;#]", text)[1:])
    return ":" in user or "#" in rest or any(_CREDENTIAL.search(unquote(name)) for name in names)


def check_address(address: str | None, /) -> None:
    """Check the form of `cluster.address`: None, `auto`, or HOST:PORT of the head.

    Raises:
        ValueError: Any other form. Ray Client (`ray://`) is refused because it runs the driver in a process on the
            head node, where the results and the SQLite files would then be written.
    """
    if address is None or address == AUTO:
        return
    if "://" in address:
        raise ValueError(
            f"`address` must be auto or HOST:PORT, got {address!r}: with a URL the study would run on the head node "
            "and write its results there. From a laptop, submit the study instead: "
            "ray job submit --address http://HEAD:8265 --working-dir . -- robust-study launch CONFIG --address auto "
            "--out DIR --set tracking.uri=URI (docs/cluster.md)"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"`address` must be auto or HOST:PORT of the cluster's head, got {address!r}")


def check_location(location: str | None, /) -> None:
    """Check the form of `storage.checkpoints`: None, a path, or an s3:// or gs:// URL without credentials.

    Raises:
        ValueError: Another scheme, no bucket, or credentials, which belong in the workers' environment or role.
    """
    if location is not None and "://" not in location and re.match(r"(s3|gs):|[^/]*:[^/]*@", location):
        raise ValueError("`checkpoints` must be a path, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX")
    if location is None or "://" not in location:
        return
    url = urlsplit(location)
    # the rest of a URL that may hold a secret is not repeated
    if url.scheme not in OBJECT_STORES:
        raise ValueError(
            f"`checkpoints` must be a path, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, got '{url.scheme}://...'"
        )
    if "@" in url.netloc or holds_secret(location):
        raise ValueError(
            f"`checkpoints` must hold no credentials, got some in '{url.scheme}://...': give them to the workers "
            "through their environment (AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS) or role"
        )
    if not url.hostname:
        raise ValueError(f"`checkpoints` must name a bucket, such as {url.scheme}://BUCKET/PREFIX, got {location!r}")


SERVERS = ("http", "https")

_SCHEMES = (*SERVERS, "sqlite", "postgresql", "mysql")

_FROM_ENVIRONMENT = (
    "the config is stored with the results: give MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, "
    "or MLFLOW_TRACKING_TOKEN, in the environment"
)


def is_server(uri: str, /) -> bool:
    """Return whether a tracking URI names a server rather than a database."""
    return urlsplit(uri).scheme in SERVERS


def unreadable(uri: str, /) -> str | None:
    """Return why no store can be read at a URI, or None; the check creates and changes nothing.

    MLflow itself would create a missing SQLite file, and its own tables in a file that is not MLflow's.
    """
    if (problem := uri_problem(uri)) is not None:
        return problem
    if (missing := missing_file(uri)) is not None:
        return f"names {missing}, which does not exist"
    if (path := sqlite_path(uri)) is None:
        return None
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            table = database.execute("select 1 from sqlite_master where name = 'experiments'").fetchone()
    except sqlite3.Error as error:
        return f"names {path}, which cannot be read ({error})"
    return None if table else f"names {path}, which is not an MLflow store"


def uri_problem(uri: str, /) -> str | None:
    """Return what is wrong with a tracking URI, or None; the message never includes what may be secret."""
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        return f"is no URL ({error})"
    scheme = parts.scheme.partition("+")[0]
    if scheme not in _SCHEMES or "://" not in uri:
        schemes = ", ".join(f"{name}://" for name in _SCHEMES)
        return f"must begin with one of {schemes}, got {parts.scheme or 'none'}; for a file use sqlite:///PATH"
    secret = scheme != "sqlite" and holds_secret(uri)
    if secret or (scheme in SERVERS and (parts.username is not None or parts.query)):
        return f"must not hold a user name, password or token; {_FROM_ENVIRONMENT}"
    if scheme in SERVERS and not parts.hostname:
        return "must name a host, such as http://tracking.example:5000"
    return sqlite_problem(uri) if scheme == "sqlite" else None


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: object, /) -> float:
    """Return the seconds in a duration such as `90m`, `8h` or `1d12h30m`.

    Raises:
        ValueError: The text has another form, or the duration is 0.
    """
    if not isinstance(text, str) or not re.fullmatch(r"(?:\d+(?:\.\d+)?[dhms])+", text):
        raise ValueError(f"a duration must read like 90m, 8h or 1d12h (d, h, m, s), got {text!r}")
    seconds = sum(float(count) * _UNITS[unit] for count, unit in re.findall(r"([\d.]+)([dhms])", text))
    if seconds <= 0:
        raise ValueError(f"a duration must be longer than 0, got {text!r}")
    return seconds


_FRACTION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)\s*")

_EXPONENT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")


def parsed_number(text: str, /) -> float | None:
    """Return the number in text such as `8/255`, `5e-4` or `1e3` (text in YAML 1.1); None for any other text.

    A whole one such as `1e3` is an int, which is legal for every setting.
    """
    fraction = _FRACTION.fullmatch(text)
    if fraction and float(fraction[2]) > 0:
        return float(fraction[1]) / float(fraction[2])
    if not _EXPONENT.fullmatch(text.strip()):
        return None
    number = float(text)
    return int(number) if number.is_integer() else number


def storage_problem(storage: str, /) -> str | None:
    """Return what is wrong with `storage.optuna`, or None; the message never includes a password."""
    scheme, separator, _ = storage.partition("://")
    if not separator:
        if storage == "journal" or (storage.startswith("journal:") and storage != "journal:"):
            return None
        got = "..." if "@" in storage else storage
    elif scheme in ("postgresql", "postgresql+psycopg"):
        if holds_secret(storage):
            return "must not hold a password: leave it out, and set PGPASSWORD or write it to ~/.pgpass"
        return None
    else:
        got = f"{scheme}://..."
    return (
        "must be null (SQLite in the study's folder), journal, journal:PATH or "
        f"postgresql://USER@HOST/DATABASE, got {got!r}"
    )
