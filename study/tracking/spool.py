"""The spool: every event of tracking, appended to a local file before anything is sent anywhere.

One JSON object a line. Appending costs microseconds and never waits for a disk or a server; the
uploader reads behind, brings what it sends to the disk first, and notes how far it came.
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
    """A study's spool; one process at a time may hold it.

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
                f"another process runs or uploads the study in {study_dir}: wait for it, or stop it"
            ) from error
        self.path = folder / "spool.jsonl"
        self._position_path = folder / "position"
        self._drop_torn_line()
        self._file = self.path.open("ab", buffering=0)
        self._appending = threading.Lock()
        self._position = min(self._noted_position(), self.path.stat().st_size)

    @property
    def waiting(self) -> int:
        """Bytes that are not uploaded yet."""
        return self.path.stat().st_size - self._position

    def append(self, event: dict[str, Any], /) -> None:
        """Add an event; it survives this process from here on, and the machine after the next `pending`.

        Raises:
            OSError: The disk did not take it; the spool is as it was.
        """
        line = json.dumps(event, separators=(",", ":"), default=plain).encode() + b"\n"
        with self._appending:
            end = os.fstat(self._file.fileno()).st_size
            if self._file.write(line) != len(line):
                self._file.truncate(end)  # or the next line would join what a full disk took of this one
                raise OSError(errno.ENOSPC, "the disk took only a part of it", str(self.path))

    def pending(self, *, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Return at most `limit` events that are not uploaded, safe on disk, and the position behind them."""
        os.fsync(self._file.fileno())
        events: list[dict[str, Any]] = []
        with self.path.open("rb") as file:
            file.seek(self._position)
            while len(events) < limit and (line := file.readline()).endswith(b"\n"):
                events += _event(line)
            end = file.tell()
        return events, end if events else self._position

    def uploaded(self, position: int, /) -> None:
        """Note that everything before `position` has arrived."""
        self._position = position
        write_text(self._position_path, str(position))

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield every whole event so far, uploaded or not."""
        with self.path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield from _event(line)

    def close(self) -> None:
        """Let go of the file and the lock."""
        self._file.close()
        self._lock.release()

    def _noted_position(self) -> int:
        try:
            return int(self._position_path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0  # sending everything again changes nothing: what has arrived is recognised

    def _drop_torn_line(self) -> None:
        """Cut off what a crash left of a line that was being written."""
        if not self.path.exists() or not self.path.stat().st_size:
            return
        with self.path.open("r+b") as file:
            content = file.read()
            whole = content.rfind(b"\n") + 1
            if whole != len(content):
                file.truncate(whole)


def _event(line: bytes) -> list[dict[str, Any]]:
    """Return a line's event; none of a line that the disk damaged, which the read-back makes up for from the rows."""
    try:
        event = json.loads(line)
        if isinstance(event, dict) and "kind" in event:
            return [event]
    except ValueError:
        pass
    logger.warning("left out a damaged line of the spool, %d bytes", len(line))
    return []
