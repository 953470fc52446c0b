"""Which process drives a study: one at a time, known by its host, pid and start."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from study.errors import UsageError
from trainables.checkpoints.files import write_text

RECORD_FILE = "driver.json"
LOCK_FILE = "driver.lock"
LOG_FILE = "driver.log"

BEAT_SECONDS = 15.0
# A driver on another host is taken for dead after so long without a beat, where the file system passes no locks on.
SILENT_SECONDS = 120.0
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Driver:
    """A process that drives a study.

    Attributes:
        pid: Its process id.
        host: The machine it runs on.
        begun: When the process began, as its machine tells it: with the pid it names one process only.
        since: When it took the study, UTC, ISO 8601.
    """

    pid: int
    host: str
    begun: str
    since: str

    @property
    def here(self) -> bool:
        """Whether it runs, or ran, on this machine."""
        return self.host == socket.gethostname()

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


def running_driver(study_dir: Path, /) -> Driver | None:
    """Return the driver of a study, None when none is alive; what a killed one left behind is recognised."""
    path = study_dir / RECORD_FILE
    try:
        driver = Driver(**json.loads(path.read_text(encoding="utf-8")))
        silent = time.time() - path.stat().st_mtime
    except (OSError, ValueError, TypeError):
        return None
    alive = process_begun(driver.pid) == driver.begun if driver.here else silent < SILENT_SECONDS
    return driver if alive else None


def living_driver(study_dir: Path, /, *, say: Callable[[str], None]) -> Driver | None:
    """Return the driver of a study as `running_driver` does, but one on another host only once it has shown itself.

    Its machine may be gone: a pod that is made again, a spot instance. So its next beat is waited for, until it has
    been silent for so long that it counts as dead.

    Args:
        study_dir: The study's folder.
        say: Prints a line for the user.
    """
    driver, seen = running_driver(study_dir), last_beat(study_dir)
    if driver is None or driver.here:
        return driver
    say(f"waiting at most {SILENT_SECONDS:.0f} s to see whether {driver} still runs the study: {_heard(study_dir)}")
    while (driver := running_driver(study_dir)) is not None and last_beat(study_dir) == seen:
        time.sleep(_LOOK_SECONDS)
    return driver


def last_beat(study_dir: Path, /) -> float | None:
    """Return when the study's driver last showed that it is alive, seconds since the epoch; None without a record."""
    try:
        return (study_dir / RECORD_FILE).stat().st_mtime
    except OSError:
        return None


def elsewhere(study_dir: Path, driver: Driver, /) -> str:
    """Return what to do about a driver on another host, which may be gone with it."""
    return (
        f"{_heard(study_dir)}; stop it there with `ssh {driver.host} robust-study stop {study_dir.resolve()}`, or, "
        f"if that machine is gone, `robust-study resume {study_dir}` goes on once it has been silent for "
        f"{SILENT_SECONDS:.0f} s"
    )


def _heard(study_dir: Path) -> str:
    beat = last_beat(study_dir)
    return "its record is gone" if beat is None else f"last heard from {time.time() - beat:.0f} s ago"


@contextmanager
def only_driver(study_dir: Path, /) -> Iterator[None]:
    """Be the study's one driver for the length of the block.

    Raises:
        UsageError: Another one drives it.
    """
    other = running_driver(study_dir)
    if other is not None and other.pid != os.getpid():
        raise refusal(study_dir, other)
    lock = FileLock(study_dir / LOCK_FILE)
    try:
        lock.acquire(timeout=1)
    except Timeout:
        raise refusal(study_dir, running_driver(study_dir)) from None
    except NotImplementedError:
        pass  # a file system without locks: the record alone has to do
    record = study_dir / RECORD_FILE
    try:
        _write(record)
        yield
    finally:
        with suppress(OSError):
            record.unlink(missing_ok=True)
        lock.release()


def beat(study_dir: Path, /) -> None:
    """Show drivers on other hosts that this one is alive."""
    with suppress(OSError):
        os.utime(study_dir / RECORD_FILE)


def process_begun(pid: int, /) -> str | None:
    """Return when a process of this machine began, None when there is none; a zombie counts as gone."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.parent.parent.joinpath("self").exists():
        try:
            state, *rest = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if state == "Z" else rest[18]
    shown = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip() or None


def _write(record: Path) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    pid = os.getpid()
    driver = Driver(pid=pid, host=socket.gethostname(), begun=process_begun(pid) or "", since=since)
    write_text(record, json.dumps(asdict(driver)))


def refusal(study_dir: Path, driver: Driver | None, /) -> UsageError:
    """Return what a second driver of a study is told."""
    who = f"{driver}" if driver else "another process"
    if driver is not None and not driver.here:
        return UsageError(f"study {study_dir} is being run by {who}: {elsewhere(study_dir, driver)}")
    return UsageError(
        f"study {study_dir} is being run by {who}: follow it with `robust-study status {study_dir}`, "
        f"or end it with `robust-study stop {study_dir}`"
    )
