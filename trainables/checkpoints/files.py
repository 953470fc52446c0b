"""Trials' files on a path that every node can reach, or in an object store behind a URL (s3://, gs://)."""

from __future__ import annotations

import errno
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

PAUSES = (1, 2, 4, 8, 15, 30, 60, 60, 60, 60)
"""Seconds between the attempts of `with_retries`: five minutes in all."""

# disk full, quota exceeded, read-only, not permitted: waiting does not help
_PERMANENT = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


class StoreDownError(Exception):
    """Checkpoint storage stayed unavailable for minutes; the trial that used it is not at fault."""


def physical_memory() -> int:
    """Return this machine's memory in bytes: files that hold more are refused before they are read."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def is_url(location: Path | str, /) -> bool:
    """Return whether a location is an object store's URL rather than a path."""
    return "://" in str(location)


def join(location: Path | str, /, *names: str) -> Path | str:
    """Return the location of a file or folder inside `location`."""
    return "/".join([str(location).rstrip("/"), *names]) if is_url(location) else Path(location, *names)


def parent(location: Path | str, /) -> Path | str:
    """Return the location of the folder that `location` is in."""
    return str(location).rstrip("/").rpartition("/")[0] if is_url(location) else Path(location).parent


def with_retries(action: Callable[[], None], /) -> None:
    """Read or write checkpoints, with retries after growing pauses while their storage is unavailable.

    Args:
        action: Called once per attempt; an OSError is retried.

    Raises:
        StoreDownError: The last attempt failed, or one failed for a reason that waiting does not remove.
    """
    waited = 0
    for pause in (*PAUSES, None):
        try:
            action()
        except OSError as error:
            if pause is None or error.errno in _PERMANENT:
                after = f" for {waited / 60:.0f} minutes" if waited else ""
                raise StoreDownError(
                    f"checkpoints could not be written or read{after}: "
                    f"{type(error).__name__}: {' '.join(str(error).split())}"
                ) from error
            time.sleep(pause)
            waited += pause
        else:
            return


def exists(location: Path | str, /) -> bool:
    """Return whether `location` is an existing file."""
    if not is_url(location):
        return Path(location).is_file()
    from pyarrow import fs

    system, path = _system(location)
    return bool(system.get_file_info(path).type == fs.FileType.File)


def read_bytes(location: Path | str, /) -> bytes:
    """Return a file's content.

    Raises:
        OSError: It cannot be read.
    """
    if not is_url(location):
        return Path(location).read_bytes()
    system, path = _system(location)
    with system.open_input_file(path) as file:
        return bytes(file.read())


def write_bytes(location: Path | str, content: bytes | memoryview, /) -> None:
    """Write a file atomically: readers see all of it or none, even if a process or the machine dies.

    On a path: a temporary name, fsync, rename. In an object store an object appears once its upload is complete.

    Args:
        location: Its folder is created if missing.
        content: The whole file; in memory before the upload starts, so that only the connection can fail midway.

    Raises:
        OSError: It cannot be written.
    """
    if is_url(location):
        system, key = _system(location)
        with system.open_output_stream(key) as stream:
            stream.write(content)
        return
    path = Path(location)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")  # mkstemp would keep other users from reading it
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_text(location: Path | str, text: str, /) -> None:
    """Write a text file atomically, in UTF-8; see `write_bytes`."""
    write_bytes(location, text.encode())


def remove(location: Path | str, /) -> None:
    """Delete a file, if it exists."""
    if not is_url(location):
        Path(location).unlink(missing_ok=True)
    elif exists(location):
        system, path = _system(location)
        system.delete_file(path)


def folders(location: Path | str, /) -> list[str]:
    """Return the names of the folders in a location, sorted; none if it does not exist.

    Raises:
        OSError: It cannot be listed.
    """
    if not is_url(location):
        return (
            sorted(path.name for path in Path(location).iterdir() if path.is_dir()) if Path(location).is_dir() else []
        )
    from pyarrow import fs

    system, path = _system(location)
    entries = system.get_file_info(fs.FileSelector(path, allow_not_found=True))
    return sorted(entry.base_name for entry in entries if entry.type == fs.FileType.Directory)


def remove_folder(location: Path | str, /) -> None:
    """Delete a folder and its content, if it exists."""
    if is_url(location):
        system, path = _system(location)
        from pyarrow import fs

        if system.get_file_info(path).type != fs.FileType.NotFound:
            system.delete_dir(path)
        return
    import shutil

    shutil.rmtree(location, ignore_errors=True)


def _system(location: Path | str) -> tuple[Any, str]:
    """Return the file system and the path in it; credentials come from the environment or the machine's role."""
    from pyarrow import fs

    system, path = fs.FileSystem.from_uri(str(location))
    return system, path
