"""The spool: a local file that every tracking event is appended to before it is sent.

One JSON object a line. Appending takes microseconds and never waits for a disk or a server. The uploader reads the
file, syncs to disk what it is about to send, and records how far it has sent it.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from study.directory.layout import TRACKING_FOLDER
from study.errors import UsageError
from study.tracking.row_mapping import plain
from trainables.checkpoints.files import write_text

logger = logging.getLogger(__name__)


class SpoolBusyError(UsageError):
    """Another process tracks this study."""


class Spool:
    """A study's spool; one process at a time can hold it.

    Args:
        study_dir: The study's folder; the spool lies in its `tracking/`.

    Raises:
        SpoolBusyError: Another process holds it.
    """

    def __init__(self, study_dir: Path, /) -> None:
        folder = study_dir / TRACKING_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / "lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise SpoolBusyError(
                f"another process is running or uploading the study in {study_dir}: wait for it, or stop it"
            ) from error
        self.path = folder / "spool.jsonl"
        self._position_path = folder / "position"
        self._remove_incomplete_line()
        self._file = self.path.open("ab", buffering=0)
        self._appending = threading.Lock()
        self._position = min(self._recorded_position(), self.path.stat().st_size)

    @property
    def waiting(self) -> int:
        """Bytes that are not uploaded yet."""
        return self.path.stat().st_size - self._position

    def append(self, event: dict[str, Any], /) -> None:
        """Append an event; it then survives this process, and after the next `pending` the machine.

        Raises:
            OSError: The event could not be written; the spool is unchanged.
        """
        line = json.dumps(event, separators=(",", ":"), default=plain).encode() + b"\n"
        with self._appending:
            end = os.fstat(self._file.fileno()).st_size
            if self._file.write(line) != len(line):
                self._file.truncate(end)  # or the next event would continue this line
                raise OSError(errno.ENOSPC, "only a part of an event was written", str(self.path))

    def pending(self, *, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Return at most `limit` events that are not uploaded, synced to disk, and the position after them."""
        os.fsync(self._file.fileno())
        events: list[dict[str, Any]] = []
        end = self._position
        with self.path.open("rb") as file:
            file.seek(end)
            # a line without its end is one that is being written: it is left whole for the next time
            while len(events) < limit and (line := file.readline()).endswith(b"\n"):
                events += _event(line)
                end += len(line)
        return events, end if events else self._position

    def uploaded(self, position: int, /) -> None:
        """Record that everything before `position` has arrived."""
        self._position = position
        write_text(self._position_path, str(position))

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield every complete event so far, uploaded or not."""
        with self.path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield from _event(line)

    def close(self) -> None:
        """Close the file and release the lock."""
        self._file.close()
        self._lock.release()

    def _recorded_position(self) -> int:
        try:
            return int(self._position_path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0  # sending everything again does no harm: what has arrived is recognised

    def _remove_incomplete_line(self) -> None:
        """Remove the incomplete last line that a crash leaves."""
        if not self.path.exists() or not self.path.stat().st_size:
            return
        with self.path.open("r+b") as file:
            content = file.read()
            whole = content.rfind(b"\n") + 1
            if whole != len(content):
                file.truncate(whole)


def _event(line: bytes) -> list[dict[str, Any]]:
    """Return a line's event, or none for a damaged line, which the read-back makes up for from the rows."""
    try:
        event = json.loads(line)
        if isinstance(event, dict) and "kind" in event:
            return [event]
    except ValueError:
        pass
    logger.warning("skipped a damaged line of the spool, %d bytes", len(line))
    return []
