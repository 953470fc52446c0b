"""Ray's environment: none of its output on the user's screen, none of its ports open to the network.

Errors reach the user through the study's own messages.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path

from study.console import notes
from study.errors import UsageError

_SETTINGS = {
    # Tune's tables would break the study's progress display
    "RAY_AIR_NEW_OUTPUT": "0",
    # no stack traces of failed attempts: the study reports which trial failed and why, and keeps the trace in errors/
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # neither TensorBoard logs nor three log files for each trial
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # reports between two measurements have no new objective values
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # the study handles signals itself, SIGTERM too
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # nothing is resumed from Tune's own state, and writing it takes longer with every trial
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    # the study limits pending trials as nodes come and go; Tune reads its own limit only once
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


def quiet_ray() -> None:
    """Set the variables that Ray reads when it is imported, but for those that the user has set."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"ray\..*")
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"ray\..*")
    for name in ("ray", "ray.tune", "ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # it repeats which trials failed, without the reason
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)


def keep_token_private() -> None:
    """Make the token of a Ray on this machine readable by its owner alone; must be called before Ray starts.

    Ray itself creates it readable by everyone, and whoever has it can have the study's processes run any code.

    Raises:
        UsageError: Others can read a token that is not ours to change.
    """
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(given or Path.home() / ".ray/auth_token")
    try:
        if not given and not path.exists():
            _create_token(path)
        if not path.stat().st_mode & 0o077:
            return
        path.chmod(0o600)
    except OSError as error:
        raise UsageError(
            f"Ray's token {path} must be readable by you alone, or others run code in this study ({error.strerror}): "
            f"have its owner run `chmod 600 {path}`, or name another one by RAY_AUTH_TOKEN_PATH"
        ) from error
    notes().print(
        f"others could read Ray's token {path}; now only you can (delete it while no Ray runs to have a new one)"
    )


def _create_token(path: Path) -> None:
    """Create a token that appears whole; one that another process creates meanwhile is kept."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    number, new = tempfile.mkstemp(prefix=".auth_token-", dir=path.parent)  # 0600, and no link is followed
    try:
        with open(number, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
        try:
            os.link(new, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            if not path.exists():
                os.rename(new, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(new)


_SOCKET = "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""The longest path of a socket that Ray makes in its temporary folder."""

MAX_FOLDER_BYTES = 107 - len(_SOCKET)
"""Longest temporary folder: Linux takes sockets' paths of 107 bytes."""

_PLAIN = re.compile(r"/[^\x00-\x1f\x7f-\U0010ffff'\"\\$`]*")


def temporary_folder() -> tuple[str, str | None]:
    """Return the folder of Ray's temporary files, and why it is not the one that the environment names, or None.

    Raises:
        UsageError: No folder can be used.
    """
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), None)
    first = "/tmp" if name is None else os.environ[name]
    why = _unusable(first)
    if why is None:
        return first, None
    problem = f"{name or 'the folder'}={first} {why}"
    for other in ("/tmp", "/var/tmp"):
        if _unusable(other) is None:
            return other, problem
    raise UsageError(
        f"Ray has no folder for its temporary files, {problem}, and /tmp and /var/tmp cannot be used: set RAY_TMPDIR "
        f"to a folder on a local disk whose path has at most {MAX_FOLDER_BYTES} bytes"
    )


def _unusable(folder: str) -> str | None:
    if len(os.fsencode(folder)) > MAX_FOLDER_BYTES:
        return f"is longer than {MAX_FOLDER_BYTES} bytes, too long for Ray's sockets"
    if not _PLAIN.fullmatch(folder):
        return "is not an absolute path, or has quotes or letters beyond ASCII, with which Ray does not start"
    try:
        path = Path(folder, "ray")
        place = next(each for each in (path, *path.parents) if os.path.exists(each))  # Ray makes what is missing
        with tempfile.TemporaryDirectory(prefix="ray-", dir=place) as scratch, socket.socket(socket.AF_UNIX) as probe:
            probe.bind(f"{scratch}/s")
    except OSError as error:
        return f"cannot hold Ray's sockets ({error.strerror or error})"
    return None


def listen_locally() -> None:
    """Make a Ray that is started here listen on 127.0.0.1 only; must be called before Ray is imported.

    The variable is Ray's own switch for machines that must not join a cluster, which is the default on Windows and
    macOS. Given 127.0.0.1 as its address, Ray would use the machine's external address instead.
    """
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
