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
import re
import site
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from study.console import notes
from study.errors import UsageError
from trainables.registry import CodeRefusedError, guarded_by, is_import_string

FLAG = "--allow-code"

_LOCAL = {"localhost", "127.0.0.1", "::1"}

_PORTS = {"http": 80, "https": 443}


class _Rules:
    """What is known while one command runs.

    Attributes:
        reading: Nothing is imported.
        allowed: The user gave `--allow-code`.
        source: The YAML file or study folder that names code; None for the command line itself.
        names: Names of code accepted when the study was launched.
        servers: Tracking servers that the user named, as `_server` returns them.
    """

    def __init__(self, *, reading: bool, allowed: bool) -> None:
        self.reading, self.allowed = reading, allowed
        self.source: Path | None = None
        self.names: set[str] = set()
        self.servers: set[str] = set()
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


def named_by(source: Path, node: Any, /, *, study_id: str | None = None) -> None:
    """Check all code that a YAML file or a study's folder names, before anything of it is used.

    Args:
        source: The file or folder.
        node: Its nested values.
        study_id: The id of the folder's study; None for a file, and for a study of an earlier version.

    Raises:
        CodeRefusedError: The running command may not import some of it.
    """
    if _rules is None:
        return
    _rules.source = source.resolve()
    # new seeds lie in the folder of their study, and have its id
    places = {str(_rules.source)} if study_id is None else {str(_rules.source), str(_rules.source.parent)}
    for entry in _accepted():
        if entry["study"] in places and entry["id"] == study_id:
            _rules.names |= set(entry["code"])
            _rules.servers |= set(entry["servers"])
    if not _rules.reading:
        for name in sorted(own_code(node)):
            _check("code", name)


def typed(node: Any, /) -> None:
    """Note code that the user named on the command line."""
    if _rules is not None:
        _rules.names |= own_code(node)


def allowed() -> bool:
    """Return whether the user gave `--allow-code`."""
    return _rules is not None and _rules.allowed


def own_code(node: Any, /) -> set[str]:
    """Return what nested values name of the user's own, as `package.module:object`."""
    if isinstance(node, str):
        return {node} if is_import_string(node) else set()
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return set().union(*map(own_code, inner))


def accept_server(uri: str | None, /) -> None:
    """Note that the user named a tracking server: by a config given to `launch`, or on the command line."""
    if _rules is not None and (server := _server(uri)) is not None:
        _rules.servers.add(server)


def remember(study_dir: Path, names: Iterable[str], /, *, study_id: str | None) -> None:
    """Keep what was accepted for a study, so that `resume` does not ask again, in a file of the user's own.

    It holds for the study of this id in this folder: not for another that takes its place, nor for a copy elsewhere.
    """
    if _rules is None:
        return
    entry = {
        "study": str(study_dir.resolve()), "id": study_id, "code": sorted(names), "servers": sorted(_rules.servers)
    }  # fmt: skip
    if not (entry["code"] or entry["servers"]) or entry in _accepted():
        return
    file = _file()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_NOFOLLOW
        with open(os.open(file, flags, 0o600), "a", encoding="utf-8") as sink:
            sink.write(json.dumps(entry) + "\n")
    except OSError as error:
        notes().print(f"{file} cannot be written ({error.strerror}): `resume` from another folder will ask for {FLAG}")


def require_server(uri: str, /) -> None:
    """Check that MLflow may send its credentials to a server; a line tells of one without encryption.

    Those of another scheme or port of a host may be another user's, on this machine too.

    Raises:
        UsageError: Only the study's own folder names this server.
    """
    server = _server(uri)
    if _rules is None or server is None or not _credentials():
        return
    if server not in {_server(os.environ.get("MLFLOW_TRACKING_URI")), *_rules.servers}:
        raise UsageError(
            f"only the study's folder names the server {server}, so no credentials are sent there: name it too, by "
            f"MLFLOW_TRACKING_URI={server} or by `resume --set tracking.uri=...`"
        )
    if server.startswith("http://") and urlsplit(server).hostname not in _LOCAL and server not in _rules.told:
        _rules.told.add(server)
        notes().print(f"warning: MLflow's credentials go to {server} without encryption")


def _server(uri: str | None) -> str | None:
    """Return the scheme, host and port of a server's URL, without a port that is the scheme's own; None for others."""
    try:
        url = urlsplit(uri or "")
        port = url.port
    except ValueError:
        return None
    if url.scheme not in _PORTS or not url.hostname:
        return None
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    return f"{url.scheme}://{host}" + ("" if port in (None, _PORTS[url.scheme]) else f":{port}")


def _credentials() -> bool:
    names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
    return any(os.environ.get(name) for name in names) or (Path.home() / ".mlflow/credentials").exists()


def _check(kind: str, name: str, /) -> None:
    """Raise `CodeRefusedError` unless the command may import an object; tell where one is from that a file names."""
    if _rules is None:
        return
    if _rules.reading:
        raise CodeRefusedError(f"{kind} {name!r} is not imported: this command only reads results")
    module = name.partition(":")[0]
    places = _places_of(module)
    if not places and (study := output_folder(Path.cwd())) is not None:
        raise CodeRefusedError(
            f"{kind} {name!r} is not looked for in the output folder of study {study}, from which nothing is imported: "
            "run the command in the working folder"
        )
    if not places:
        return  # the import says that there is none
    if study := next((study for place in places if (study := output_folder(place)) is not None), None):
        raise CodeRefusedError(
            f"{kind} {name!r} is {places[-1]}, in the output folder of study {study}, from which nothing is imported: "
            "move it to the working folder"
        )
    inside = _rules.source is None or _rules.source.is_relative_to(Path.cwd().resolve())
    if not (inside or _rules.allowed or name in _rules.names or _is_own_package(places[-1], module)):
        raise CodeRefusedError(
            f"{kind} {name!r} is {places[-1]}, in no installed package of your own, named by {_rules.source} outside "
            f"the working folder: look at both, then add {FLAG}"
        )
    if _rules.source is not None and name not in _rules.told:
        _rules.told.add(name)
        notes().print(f"code: {name} from {places[-1]}")


def _places_of(module: str) -> list[Path]:
    """Return where a module and the packages around it lie, outermost first, without importing any."""
    places: list[str] = []
    inside: list[str] | None = None
    parts = module.split(".")
    for depth, part in enumerate(parts, start=1):
        name = ".".join(parts[:depth])
        try:
            spec = importlib.util.find_spec(name) if inside is None else PathFinder.find_spec(name, inside)
        except KeyError:  # a namespace package in one that is not imported
            inside = [str(Path(place) / part) for place in inside or () if (Path(place) / part).is_dir()]
            places += inside
            continue
        except (ImportError, ValueError):
            return []
        if spec is None:
            return []
        inside = _locations(spec)
        places += [spec.origin] if spec.origin and spec.has_location else inside
    return [Path(place).absolute() for place in places]


def _locations(spec: Any) -> list[str]:
    """Return where a package's modules lie; a namespace package's list looks its parent up among what is imported."""
    return list(getattr(spec.submodule_search_locations, "_path", spec.submodule_search_locations) or ())


def output_folder(place: Path, /) -> Path | None:
    """Return the study's output folder that a path lies in or is, also by way of links; None for none."""
    marks = ("study.yaml", "results")
    around = (folder for path in (place, place.resolve()) for folder in (path, *path.parents))
    return next((folder for folder in around if all((folder / mark).exists() for mark in marks)), None)


def _is_own_package(place: Path, module: str) -> bool:
    """Return whether a module is of an installed package that this project does not bring along.

    What this project needs has functions that load and run files, pickles for example.
    """
    top = module.partition(".")[0]
    paths = sysconfig.get_paths()
    homes = (*site.getsitepackages(), site.getusersitepackages(), paths["purelib"], paths["platlib"])
    at_home = any(place.resolve().is_relative_to(Path(home).resolve()) for home in homes)
    distributions = importlib.metadata.packages_distributions().get(top, [])
    return (at_home or bool(distributions)) and not set(map(_plain, distributions)) & _brought_along()


@functools.cache
def _brought_along() -> set[str]:
    """Return the names of all distributions that this project depends on, and of those that install packages."""
    found, left = {"pip", "setuptools", "wheel", "uv"}, ["robust-study"]
    while left:
        with suppress(importlib.metadata.PackageNotFoundError):
            for requirement in importlib.metadata.requires(left.pop()) or ():
                name = _plain(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0])
                if name not in found:
                    found.add(name)
                    left.append(name)
    return found | {"robust-study"}


def _plain(distribution: str) -> str:
    return re.sub("[-_.]+", "-", distribution).lower()


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
            texts = {name: [str(text) for text in entry[name]] for name in ("code", "servers")}
            yield {"study": entry["study"], "id": entry["id"], **texts}
        except (ValueError, TypeError, KeyError):
            continue
