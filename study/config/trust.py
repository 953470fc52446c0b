"""What a command may import and whom it may send credentials to, when a config comes from another person.

A config names code as `package.module:object`, and importing it runs it; it names a tracking server, and MLflow sends
that server the credentials of the environment. Only the command line installs these rules: a script that uses this
project as a library imports what it names itself.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import json
import os
import site
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from study.console import notes
from study.errors import UsageError
from trainables.registry import CodeRefusedError, guarded_by, is_import_string

FLAG = "--allow-code"

_LOCAL = {"localhost", "127.0.0.1", "::1"}


class _Rules:
    """What is known while one command runs.

    Attributes:
        reading: Nothing is imported.
        allowed: The user gave `--allow-code`.
        source: The YAML file or study folder that names code; None for the command line itself.
        names: Names of code accepted when the study was launched.
        hosts: Tracking servers that the user named.
    """

    def __init__(self, *, reading: bool, allowed: bool) -> None:
        self.reading, self.allowed = reading, allowed
        self.source: Path | None = None
        self.names: set[str] = set()
        self.hosts: set[str] = set()
        self.told: set[str] = set()


_rules: _Rules | None = None


@contextmanager
def rules(*, reading: bool, allowed: bool = False) -> Iterator[None]:
    """Apply the rules for the length of one command.

    Args:
        reading: The command only reads results, and imports nothing that a config names.
        allowed: The user allows code named by a file from outside the working folder.
    """
    global _rules
    _rules = _Rules(reading=reading, allowed=allowed)
    try:
        with guarded_by(_check):
            yield
    finally:
        _rules = None


def reading() -> bool:
    """Return whether the running command imports nothing that a config names."""
    return _rules is not None and _rules.reading


def named_by(source: Path, /) -> None:
    """Note which YAML file or study folder the names come from, and what was accepted when that study was launched."""
    if _rules is not None:
        _rules.source = source.resolve()
        for entry in _accepted():
            if entry["study"] == str(_rules.source):
                _rules.names |= set(entry["code"])
                _rules.hosts |= set(entry["hosts"])


def own_code(node: Any, /) -> set[str]:
    """Return what nested values name of the user's own, as `package.module:object`."""
    if isinstance(node, str):
        return {node} if is_import_string(node) else set()
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return set().union(*map(own_code, inner))


def accept_host(uri: str | None, /) -> None:
    """Note that the user named a tracking server: by a config given to `launch`, or on the command line."""
    if _rules is not None and uri is not None and (host := urlsplit(uri).hostname):
        _rules.hosts.add(host)


def remember(study_dir: Path, names: Iterable[str], /) -> None:
    """Keep what was accepted for a new study, so that `resume` does not ask again, in a file of the user's own."""
    if _rules is None:
        return
    entry = {"study": str(study_dir.resolve()), "code": sorted(names), "hosts": sorted(_rules.hosts)}
    if not entry["code"] and not entry["hosts"]:
        return
    file = _file()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_NOFOLLOW
        with open(os.open(file, flags, 0o600), "a", encoding="utf-8") as sink:
            sink.write(json.dumps(entry) + "\n")
    except OSError as error:
        notes().print(f"{file} cannot be written ({error.strerror}): `resume` from another folder will ask for {FLAG}")


def require_host(uri: str, /) -> None:
    """Check that MLflow may send its credentials to a server; a line tells of one without encryption.

    Raises:
        UsageError: Only the study's own folder names this host.
    """
    url = urlsplit(uri)
    host = url.hostname
    if _rules is None or url.scheme not in ("http", "https") or host is None or host in _LOCAL or not _credentials():
        return
    named = {urlsplit(os.environ.get("MLFLOW_TRACKING_URI", "")).hostname, *_rules.hosts}
    if host not in named:
        raise UsageError(
            f"the study names the tracking server {host}, and no credentials are sent there unless you name it too: "
            f"--set tracking.uri={url.scheme}://{url.netloc} or MLFLOW_TRACKING_URI"
        )
    if url.scheme == "http" and host not in _rules.told:
        _rules.told.add(host)
        notes().print(f"warning: MLflow's credentials go to {host} without encryption (http)")


def _credentials() -> bool:
    names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
    return any(os.environ.get(name) for name in names) or (Path.home() / ".mlflow/credentials").exists()


def _check(kind: str, name: str, /) -> None:
    """Raise `CodeRefusedError` unless the running command may import an object, and tell where it is from."""
    if _rules is None:
        return
    if _rules.reading:
        raise CodeRefusedError(f"{kind} {name!r} is not imported: this command only reads results")
    place = _place_of(name.partition(":")[0].partition(".")[0])
    if place is None:
        return  # the import says that there is none
    if (study := _study_around(place)) is not None:
        raise CodeRefusedError(
            f"{kind} {name!r} is {place}, in the output folder of study {study}, from which nothing is imported: move "
            "it to the working folder"
        )
    inside = _rules.source is None or _rules.source.is_relative_to(Path.cwd().resolve())
    trusted = inside or _rules.allowed or name in _rules.names
    if not trusted and not _is_installed(place, name):
        raise CodeRefusedError(
            f"{kind} {name!r} is {place}, code in no installed package, named by {_rules.source} outside the working "
            f"folder: look at both, then add {FLAG}"
        )
    if name not in _rules.told:
        _rules.told.add(name)
        notes().print(f"code: {kind} {name} from {place}")


def _place_of(top: str) -> Path | None:
    """Return where a top-level module lies, without importing it."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    found = spec.origin or next(iter(spec.submodule_search_locations or ()), None)
    return None if found is None else Path(found).resolve()


def _study_around(place: Path) -> Path | None:
    marks = ("study.yaml", "results")
    return next((folder for folder in place.parents if all((folder / mark).exists() for mark in marks)), None)


def _is_installed(place: Path, name: str) -> bool:
    paths = sysconfig.get_paths()
    homes = (*site.getsitepackages(), site.getusersitepackages(), paths["purelib"], paths["platlib"])
    if any(place.is_relative_to(Path(home).resolve()) for home in homes):
        return True
    return name.partition(":")[0].partition(".")[0] in _distributed()


@functools.cache
def _distributed() -> set[str]:
    """Return the top-level packages of what is installed, also of what is installed in place."""
    return set(importlib.metadata.packages_distributions())


def _file() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "robust-study" / "accepted.jsonl"


def _accepted() -> Iterator[dict[str, Any]]:
    try:
        lines = _file().read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            entry = json.loads(line)
            yield {"study": entry["study"], "code": list(entry["code"]), "hosts": list(entry["hosts"])}
        except (ValueError, TypeError, KeyError):
            continue
