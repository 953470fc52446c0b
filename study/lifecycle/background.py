"""Drivers in the background: how they are started and stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from study.config.trust import FLAG, allowed
from study.console import notes, quoted, results
from study.directory.layout import open_config
from study.directory.lock import LOG_FILE, Driver, process_start, remote_driver_hint, running_driver
from study.directory.rows import count_rows
from study.errors import UsageError

START_SECONDS = 120.0
STOP_SECONDS = 180.0
NOW_SECONDS = 10.0


def detach(study_dir: Path, /) -> None:
    """Start a driver of the study in a session of its own, so that it outlives this terminal.

    Args:
        study_dir: The study's folder, with its config in it.

    Raises:
        SystemExit: The driver ended before it had locked the study; its log is shown.
    """
    log = study_dir / LOG_FILE
    with log.open("ab") as sink:
        start = sink.tell()
        child = subprocess.Popen(
            [*interpreter(), "resume", str(study_dir), *([FLAG] if allowed() else [])],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_SECONDS
    while (driver := running_driver(study_dir)) is None or driver.pid != child.pid:
        if child.poll() is not None:
            notes().print(log.read_bytes()[start:].decode(errors="replace").rstrip())
            raise SystemExit(child.returncode)
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    console = results()
    console.print(f"study {study_dir} runs in the background as process {child.pid}")
    console.print(f"  follow it: robust-study status {quoted(study_dir)} --watch")
    console.print(f"             robust-study ui {quoted(study_dir)}")
    console.print(f"             tail -f {quoted(log)}")
    console.print(f"  stop it:   robust-study stop {quoted(study_dir)}")


def interpreter() -> list[str]:
    """Return the start of this process's command line, up to the command's name: what comes before `launch`."""
    num_arguments = len(sys.argv) - 1
    line = sys.orig_argv[: len(sys.orig_argv) - num_arguments]
    return [sys.executable, *line[1:]]


def stop(study_dir: Path, /, *, now: bool) -> None:
    """Stop the study's driver and print how many trials are done.

    Args:
        study_dir: The study's folder.
        now: Do not wait for running trials to save.

    Raises:
        UsageError: There is no study in the folder, or its driver runs on another machine or belongs to another user.
        SystemExit: The driver is still running.
    """
    config = open_config(study_dir)
    driver = running_driver(study_dir)
    console = results()
    if driver is None:
        console.print(f"no driver runs study {study_dir}")
    else:
        if not driver.here:
            raise UsageError(f"study {study_dir} is run by {driver}: {remote_driver_hint(study_dir, driver)}")
        if not _end(driver, now=now):
            console.print(f"{driver} is still stopping: wait, or run `robust-study stop {quoted(study_dir)} --now`")
            raise SystemExit(1)
        console.print(f"stopped {driver}")
    done = count_rows(study_dir)
    console.print(f"{done} of {config.num_trials} trials are done")
    if done < config.num_trials:
        console.print(f"resume with: robust-study resume {quoted(study_dir)}")


def _end(driver: Driver, *, now: bool) -> bool:
    _send(driver, signal.SIGTERM)
    if now:
        time.sleep(0.2)  # two signals that are pending at once may be delivered in either order
        _send(driver, signal.SIGINT)
    else:
        notes().print(f"asked {driver} to stop ...")
    if _has_ended(driver, within=NOW_SECONDS if now else STOP_SECONDS):
        return True
    if now:
        _send(driver, signal.SIGKILL)
    return _has_ended(driver, within=NOW_SECONDS)


def _send(driver: Driver, number: signal.Signals) -> None:
    if process_start(driver.pid) != driver.begun:
        return
    try:
        os.kill(driver.pid, number)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise UsageError(f"{driver} belongs to another user, who has to stop it") from error


def _has_ended(driver: Driver, *, within: float) -> bool:
    deadline = time.monotonic() + within
    while process_start(driver.pid) == driver.begun:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
