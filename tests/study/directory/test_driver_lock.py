"""The driver lock, stop signals, and restarts of the driver."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import ray

from study.config.loading import load_config, write_yaml
from study.directory import lock
from study.directory.layout import CONFIG_FILE
from study.directory.lock import (
    RECORD_FILE,
    SILENT_SECONDS,
    beat,
    living_driver,
    only_driver,
    process_start,
    running_driver,
)
from study.driver.signals import GRACE_SECONDS, StopSignals
from study.errors import UsageError
from study.lifecycle.background import interpreter, stop


def record(folder, **changes):
    driver = {"pid": os.getpid(), "host": socket.gethostname(), "begun": process_start(os.getpid()), "since": "now"}
    (folder / RECORD_FILE).write_text(json.dumps({**driver, **changes}))


def test_a_driver_is_found_while_it_runs(tmp_path):
    assert running_driver(tmp_path) is None
    with only_driver(tmp_path):
        driver = running_driver(tmp_path)
        assert driver.pid == os.getpid()
        assert driver.here
    assert running_driver(tmp_path) is None
    with only_driver(tmp_path):
        pass


def test_a_second_driver_is_refused_and_a_killed_one_does_not_block(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from study.directory.lock import only_driver\n"
        "with only_driver(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match=rf"is being run by process {other.pid} on .*robust-study stop"):
            with only_driver(tmp_path):
                pass
    finally:
        other.kill()
        other.wait()
    assert (tmp_path / RECORD_FILE).exists()
    assert running_driver(tmp_path) is None
    with only_driver(tmp_path):
        assert running_driver(tmp_path).pid == os.getpid()


def test_the_lock_works_without_the_record(tmp_path):
    with only_driver(tmp_path):
        (tmp_path / RECORD_FILE).unlink()
        with pytest.raises(UsageError, match="is being run by another process"), only_driver(tmp_path):
            pass


def test_a_pid_that_another_process_has_now_is_not_a_driver(tmp_path):
    record(tmp_path)
    assert running_driver(tmp_path) is not None
    record(tmp_path, begun="1")
    assert running_driver(tmp_path) is None
    (tmp_path / RECORD_FILE).write_text("{")
    assert running_driver(tmp_path) is None


def age(folder, seconds):
    """Make the driver's record older by the clock of the file system."""
    before = (folder / RECORD_FILE).stat().st_mtime - seconds
    os.utime(folder / RECORD_FILE, (before, before))


@pytest.mark.parametrize(("pid", "begun"), [(-os.getpgrp(), None), (1, "1"), (0, None), ("7", "x"), (True, "x")])
def test_a_forged_record_names_no_process_or_group_to_stop(tmp_path, monkeypatch, pid, begun):
    sent = []
    monkeypatch.setattr(os, "kill", lambda *given: sent.append(given))
    record(tmp_path, pid=pid, begun=begun)
    write_yaml(tmp_path / CONFIG_FILE, {"name": "s", "dataset": {"name": "digits"}, "search": {"space": "core"}})
    assert running_driver(tmp_path) is None
    stop(tmp_path, now=True)
    assert sent == []


def test_a_driver_on_another_host_counts_as_alive_while_it_beats(tmp_path):
    record(tmp_path, host="other", pid=1)
    assert not running_driver(tmp_path).here
    age(tmp_path, SILENT_SECONDS + 5)
    assert running_driver(tmp_path) is None
    beat(tmp_path)
    assert running_driver(tmp_path) is not None
    assert [path.name for path in tmp_path.iterdir()] == [RECORD_FILE]


@pytest.mark.parametrize("ahead", [600, -600])
def test_a_clock_that_differs_from_the_file_systems_does_not_bury_a_driver(tmp_path, monkeypatch, ahead):
    now = time.time
    monkeypatch.setattr(lock.time, "time", lambda: now() + ahead)
    record(tmp_path, host="other", pid=1)
    assert running_driver(tmp_path).pid == 1
    age(tmp_path, SILENT_SECONDS + 5)
    assert running_driver(tmp_path) is None


@pytest.fixture
def watch(tmp_path, monkeypatch):
    """Let time pass only in sleeps, of 40 s each; call `each` in them; return the lines printed and the time."""
    now, printed, each = [0.0], [], []

    def sleep(seconds):
        now[0] += 40
        for call in each:
            call()

    monkeypatch.setattr(lock.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(lock.time, "sleep", sleep)
    monkeypatch.setattr(lock, "notes", lambda: SimpleNamespace(print=printed.append))
    record(tmp_path, host="other", pid=7)
    return SimpleNamespace(now=now, printed=printed, each=each)


def test_a_driver_on_another_host_is_watched_until_it_beats_or_counts_as_dead(tmp_path, watch):
    watch.each.append(lambda: beat(tmp_path))
    assert living_driver(tmp_path).pid == 7
    assert watch.now == [40]
    assert watch.printed[0].startswith("waiting up to 120 s to see whether process 7 on other")
    watch.each.clear()
    assert living_driver(tmp_path) is None
    assert watch.now == [160]
    assert not (tmp_path / RECORD_FILE).exists()
    record(tmp_path)
    assert living_driver(tmp_path).here
    assert len(watch.printed) == 2


def test_beats_that_look_old_by_every_clock_still_keep_a_study(tmp_path, watch):
    """On a file system where each machine stamps its own files, and the driver's clock is ten minutes behind."""
    age(tmp_path, 600)
    assert running_driver(tmp_path) is None
    watch.each.append(lambda: age(tmp_path, -15))
    with pytest.raises(UsageError, match="is being run by process 7 on other"), only_driver(tmp_path):
        pass
    watch.each.clear()
    with only_driver(tmp_path):
        assert running_driver(tmp_path).here
    assert "waiting up to 45 s" in watch.printed[-1]


def test_the_error_for_a_driver_on_another_host_says_that_it_may_be_gone(study_folder, watch):
    record(study_folder, host="pod-7", pid=7)
    age(study_folder, 20)
    message = r"last heard from 2\d s ago; stop it there with `ssh pod-7 .*once the driver has been silent for 120 s"
    with pytest.raises(UsageError, match=message):
        stop(study_folder, now=False)
    watch.each.append(lambda: age(study_folder, -15))
    with (
        pytest.raises(UsageError, match=r"last heard from \d s ago; stop it there with `ssh pod-7 "),
        only_driver(study_folder),
    ):
        pass


@pytest.fixture
def study_folder(tmp_path):
    write_yaml(tmp_path / CONFIG_FILE, load_config("quickstart").to_dict())
    return tmp_path


def test_a_closed_terminal_stops_the_study_once_and_is_not_written_to(tmp_path):
    code = (
        "import fcntl, signal, termios, time\nfrom study.driver.signals import StopSignals\n"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # the tests themselves may run under nohup
        "with StopSignals() as interrupts:\n"
        "    print('ready', flush=True)\n"
        "    while not interrupts.requested: time.sleep(0.05)\n"
        "    signal.raise_signal(signal.SIGHUP)\n"
        "    print('to a closed terminal', flush=True)\n"
        f"    open({str(tmp_path / 'ended')!r}, 'w').write(str(interrupts.exit_code))"
    )
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    while b"ready" not in os.read(ours, 1000):
        pass
    os.close(ours)  # the kernel sends SIGHUP to the session's leader
    assert child.wait(60) == 0
    assert (tmp_path / "ended").read_text() == "129"


def test_an_ignored_hangup_stays_ignored():
    code = (
        "import signal\nfrom study.driver.signals import StopSignals\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with StopSignals() as interrupts:\n"
        "    signal.raise_signal(signal.SIGHUP); print(interrupts.requested)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_requests_a_stop(number, code, capfd):
    before = signal.getsignal(number)
    with StopSignals() as interrupts:
        assert (interrupts.requested, interrupts.exit_code) == (False, 0)
        signal.raise_signal(number)
        assert (interrupts.requested, interrupts.exit_code) == (True, code)
        assert not interrupts.grace_is_over
        interrupts._asked -= GRACE_SECONDS + 1
        assert interrupts.grace_is_over
    assert signal.getsignal(number) == before
    assert "stopping" in capfd.readouterr().err


def test_the_second_signal_ends_the_process_and_handlers_can_be_installed_again():
    code = (
        "import signal, sys, time\nfrom study.driver.signals import StopSignals\n"
        "with StopSignals() as interrupts:\n"
        "    signal.signal(signal.SIGTERM, lambda *_: sys.exit(15)); interrupts.listen()\n"
        "    signal.raise_signal(signal.SIGTERM); print('asked', flush=True)\n"
        "    signal.raise_signal(signal.SIGINT); print('never')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 130
    assert ended.stdout == "asked\n"
    assert "stopped immediately" in ended.stderr


def test_a_signal_while_ray_starts_gives_the_usual_exit_code(capfd):
    class Address(str):
        def __contains__(self, part):  # ray.init asks once it has its own handler
            signal.raise_signal(signal.SIGTERM)
            raise AssertionError("Ray has no handler that ends the process")

    with pytest.raises(SystemExit) as ended, StopSignals():
        ray.init(Address("127.0.0.1:1"))
    assert ended.value.code == 143
    assert "while Ray was starting" in capfd.readouterr().err


def test_a_background_driver_has_the_original_command_line(monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["python", "-X", "dev", "-m", "study", "launch", "a"])
    monkeypatch.setattr(sys, "argv", ["/somewhere/study/__main__.py", "launch", "a"])
    assert interpreter() == [sys.executable, "-X", "dev", "-m", "study"]
