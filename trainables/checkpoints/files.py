"""Files of trials on a path that every node sees, or in an object store behind a URL (s3://, gs://)."""

from __future__ import annotations

import errno
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

PAUSES = (1, 2, 4, 8, 15, 30, 60, 60, 60, 60)
"""Seconds between the attempts of `patiently`: five minutes in all."""

# full, over the quota, read-only, not allowed: nothing that passes while one waits
_LASTING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


class StoreDownError(Exception):
    """A place for checkpoints that could not be used for minutes, which is no fault of the trial that wanted it."""


def is_url(location: Path | str, /) -> bool:
    """Return whether a location is an object store's URL rather than a path."""
    return "://" in str(location)


def join(location: Path | str, /, *names: str) -> Path | str:
    """Return the location of something inside another."""
    return "/".join([str(location).rstrip("/"), *names]) if is_url(location) else Path(location, *names)


def patiently(action: Callable[[], None], /) -> None:
    """Do something with a place for checkpoints, again after growing pauses while it does not answer.

    Args:
        action: May be done more than once.

    Raises:
        StoreDownError: It failed for the last time, or for a reason that does not pass by itself.
    """
    waited = 0
    for pause in (*PAUSES, None):
        try:
            action()
        except OSError as error:
            if pause is None or error.errno in _LASTING:
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
    """Return whether a file is there."""
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
    """Write a file whole or not at all: no reader ever sees half of it, whatever dies meanwhile.

    On a path: a temporary name, fsync, rename. In an object store an object appears when its upload is complete.

    Args:
        location: Its folder is made if missing.
        content: All of it; it is in memory before the upload begins, so that only the connection can fail midway.

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
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")  # not mkstemp's: others may read the file
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
    """Write a text file whole or not at all, in UTF-8; see `write_bytes`."""
    write_bytes(location, text.encode())


def remove(location: Path | str, /) -> None:
    """Remove a file; none there is no error."""
    if not is_url(location):
        Path(location).unlink(missing_ok=True)
    elif exists(location):
        system, path = _system(location)
        system.delete_file(path)


def folders(location: Path | str, /) -> list[str]:
    """Return the names of the folders in a location, sorted; none where it is not there.

    Raises:
        OSError: It cannot be listed.
    """
    if not is_url(location):
        return (
            sorted(path.name for path in Path(location).iterdir() if path.is_dir()) if Path(location).is_dir() else []
        )
    from pyarrow import fs

    system, path = _system(location)
    found = system.get_file_info(fs.FileSelector(path, allow_not_found=True))
    return sorted(info.base_name for info in found if info.type == fs.FileType.Directory)


def remove_folder(location: Path | str, /) -> None:
    """Remove everything below a location; nothing there is no error."""
    if is_url(location):
        system, path = _system(location)
        from pyarrow import fs

        if system.get_file_info(path).type != fs.FileType.NotFound:
            system.delete_dir(path)
        return
    import shutil

    shutil.rmtree(location, ignore_errors=True)


def _system(location: Path | str) -> tuple[Any, str]:
    """Return the file system and the path in it; who we are comes from the environment or the machine's role."""
    from pyarrow import fs

    system, path = fs.FileSystem.from_uri(str(location))
    return system, path
