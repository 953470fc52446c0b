"""The driver lock: one process at a time runs a study, identified by its host, pid and start time."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from study.console import notes, quoted
from study.errors import UsageError
from trainables.checkpoints.files import write_text

RECORD_FILE = "driver.json"
LOCK_FILE = "driver.lock"
LOG_FILE = "driver.log"

BEAT_SECONDS = 15.0
# A driver on another host counts as dead after this long without a beat, since not every file system shares locks.
SILENT_SECONDS = 120.0
# Its study is not taken over before it was watched for this long, even if by the clocks it is silent for longer.
WATCH_SECONDS = 3 * BEAT_SECONDS
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Driver:
    """A process that runs a study.

    Attributes:
        pid: Its process id.
        host: The name of its machine.
        begun: The process's start time as reported by its machine; together with the pid it identifies the process.
        since: When it took the lock, in UTC, ISO 8601.
    """

    pid: int
    host: str
    begun: str
    since: str

    @property
    def here(self) -> bool:
        """Whether its host is this machine."""
        return self.host == socket.gethostname()

    @property
    def alive(self) -> bool:
        """Whether the process runs, as only its own host can tell."""
        return process_start(self.pid) == self.begun

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


def running_driver(study_dir: Path, /) -> Driver | None:
    """Return the driver of a study, None when there is none or only the record of a dead one."""
    driver = recorded_driver(study_dir)
    if driver is None:
        return None
    alive = driver.alive if driver.here else _silence(study_dir) < SILENT_SECONDS
    return driver if alive else None


def living_driver(study_dir: Path, /) -> Driver | None:
    """Return the driver of a study as `running_driver` does, but watch for the next beat of one on another host.

    Its machine may be gone, such as a replaced pod or a spot instance, and the two clocks may differ. The watch ends at
    the next beat, or when the driver has been silent for so long that it counts as dead; its record is removed then.
    """
    driver, seen = recorded_driver(study_dir), last_beat(study_dir)
    if driver is None or driver.here:
        return running_driver(study_dir)
    wait = min(max(SILENT_SECONDS - _silence(study_dir), WATCH_SECONDS), SILENT_SECONDS)
    notes().print(f"waiting up to {wait:.0f} s to see whether {driver} is still alive: {_heard(study_dir)}")
    end = time.monotonic() + wait
    while time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
        if last_beat(study_dir) != seen:
            driver = recorded_driver(study_dir)
            return running_driver(study_dir) if driver is not None and driver.here else driver
    (study_dir / RECORD_FILE).unlink(missing_ok=True)
    return None


def last_beat(study_dir: Path, /) -> float | None:
    """Return the time of the last beat of a study's driver, in seconds since the epoch; None without a record."""
    try:
        # opened, because only then a network file system asks its server
        with (study_dir / RECORD_FILE).open("rb") as record:
            return os.fstat(record.fileno()).st_mtime
    except OSError:
        return None


def recorded_driver(study_dir: Path, /) -> Driver | None:
    """Return the driver that a study's folder names, which may be dead; None without a sound record."""
    try:
        driver = Driver(**json.loads((study_dir / RECORD_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    # a negative number names a group of processes, and a process that does not exist has no start time either
    sound = isinstance(driver.pid, int) and driver.pid > 0 and driver.begun and isinstance(driver.begun, str)
    return driver if sound else None


def _silence(study_dir: Path) -> float:
    """Return the seconds since the last beat by the clock that stamped it; endless without a record."""
    beat = last_beat(study_dir)
    return math.inf if beat is None else _clock(study_dir) - beat


def _clock(study_dir: Path) -> float:
    """Return the time by the clock of a folder's file system: this machine's may differ from the driver's."""
    probe = study_dir / f".clock-{uuid.uuid4().hex[:8]}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()  # the folder may only be read
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def remote_driver_hint(study_dir: Path, driver: Driver, /) -> str:
    """Return what to do about a driver on another host, which may be gone."""
    return (
        f"{_heard(study_dir)}; stop it there with `ssh {driver.host} robust-study stop {quoted(study_dir.resolve())}`, "
        f"or, if that machine is gone, run `robust-study resume {quoted(study_dir)}`, which takes over once the driver "
        f"has been silent for {SILENT_SECONDS:.0f} s"
    )


def _heard(study_dir: Path) -> str:
    silence = _silence(study_dir)
    return f"last heard from {silence:.0f} s ago" if math.isfinite(silence) else "its record was deleted"


@contextmanager
def only_driver(study_dir: Path, /) -> Iterator[None]:
    """Hold the study's driver lock for the length of the block; see `living_driver` for a driver on another host.

    Raises:
        UsageError: Another process holds it.
    """
    other = living_driver(study_dir)
    if other is not None and other.pid != os.getpid():
        raise refusal(study_dir, other)
    lock = FileLock(study_dir / LOCK_FILE)
    try:
        lock.acquire(timeout=1)
    except Timeout:
        raise refusal(study_dir, running_driver(study_dir)) from None
    except NotImplementedError:
        pass  # a file system without locks: the record has to be enough
    record = study_dir / RECORD_FILE
    try:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        pid, host = os.getpid(), socket.gethostname()
        write_text(record, json.dumps(asdict(Driver(pid=pid, host=host, begun=process_start(pid) or "", since=since))))
        yield
    finally:
        with suppress(OSError):
            record.unlink(missing_ok=True)
        lock.release()


def beat(study_dir: Path, /) -> None:
    """Show processes on other hosts that this driver is alive."""
    with suppress(OSError):
        os.utime(study_dir / RECORD_FILE)


def process_start(pid: int, /) -> str | None:
    """Return the start time of a process on this machine, None when it does not exist or is a zombie."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.parent.parent.joinpath("self").exists():
        try:
            state, *rest = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if state == "Z" else rest[18]
    ps = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return ps.stdout.strip() or None


def refusal(study_dir: Path, driver: Driver | None, /) -> UsageError:
    """Return the error for a second driver of a study."""
    who = str(driver or "another process")
    if driver is not None and not driver.here:
        return UsageError(f"study {study_dir} is being run by {who}: {remote_driver_hint(study_dir, driver)}")
    return UsageError(
        f"study {study_dir} is being run by {who}: follow it with `robust-study status {quoted(study_dir)}`, "
        f"or stop it with `robust-study stop {quoted(study_dir)}`"
    )
