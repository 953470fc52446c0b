"""One driver a study, recognised as alive or dead; signals; what hands over to what."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time

import pytest

from study.config.loading import load_config, write_yaml
from study.directory import lock
from study.directory.layout import CONFIG_FILE
from study.directory.lock import (
    RECORD_FILE,
    SILENT_SECONDS,
    beat,
    living_driver,
    only_driver,
    process_begun,
    running_driver,
)
from study.driver.restarts import TRIALS, WAVES, DriverRestart, inherited, interpreter, peak_memory_mb, size
from study.driver.signals import GRACE_SECONDS, StopSignals
from study.errors import UsageError
from study.lifecycle.background import stop


def record(folder, **changes):
    driver = {"pid": os.getpid(), "host": socket.gethostname(), "begun": process_begun(os.getpid()), "since": "now"}
    (folder / RECORD_FILE).write_text(json.dumps({**driver, **changes}))


def test_a_driver_is_known_while_it_runs(tmp_path):
    assert running_driver(tmp_path) is None
    with only_driver(tmp_path):
        driver = running_driver(tmp_path)
        assert driver.pid == os.getpid()
        assert driver.here
    assert running_driver(tmp_path) is None
    with only_driver(tmp_path):
        pass


def test_a_second_driver_is_refused_and_a_killed_one_is_not_in_the_way(tmp_path):
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


def test_the_lock_holds_where_the_record_is_gone(tmp_path):
    with only_driver(tmp_path):
        (tmp_path / RECORD_FILE).unlink()
        with pytest.raises(UsageError, match="is being run by another process"), only_driver(tmp_path):
            pass


def test_a_pid_that_was_given_to_another_process_is_no_driver(tmp_path):
    record(tmp_path)
    assert running_driver(tmp_path) is not None
    record(tmp_path, begun="1")
    assert running_driver(tmp_path) is None
    (tmp_path / RECORD_FILE).write_text("{")
    assert running_driver(tmp_path) is None


def test_a_driver_elsewhere_lives_as_long_as_it_beats(tmp_path):
    record(tmp_path, host="elsewhere", pid=1)
    assert not running_driver(tmp_path).here
    before = time.time() - SILENT_SECONDS - 5
    os.utime(tmp_path / RECORD_FILE, (before, before))
    assert running_driver(tmp_path) is None
    beat(tmp_path)
    assert running_driver(tmp_path) is not None


def test_a_driver_elsewhere_is_waited_for_until_it_shows_itself_or_counts_as_dead(tmp_path, monkeypatch):
    now, said = [time.time()], []

    def passes(seconds):
        now[0] += 40

    monkeypatch.setattr(lock.time, "time", lambda: now[0])
    monkeypatch.setattr(lock.time, "sleep", passes)
    record(tmp_path, host="elsewhere", pid=7)
    os.utime(tmp_path / RECORD_FILE, (now[0] - 1, now[0] - 1))
    begun = now[0]
    assert living_driver(tmp_path, say=said.append) is None
    assert now[0] - begun == 120
    assert said[0].startswith("waiting at most 120 s to see whether process 7 on elsewhere")
    monkeypatch.setattr(lock.time, "sleep", lambda seconds: os.utime(tmp_path / RECORD_FILE, (now[0], now[0] + 1)))
    os.utime(tmp_path / RECORD_FILE, (now[0], now[0]))
    assert living_driver(tmp_path, say=said.append).pid == 7
    record(tmp_path)
    assert living_driver(tmp_path, say=said.append).here
    assert len(said) == 2


def test_whoever_finds_a_driver_elsewhere_is_told_that_it_may_be_gone(study_folder):
    record(study_folder, host="pod-7", pid=7)
    before = time.time() - 20
    os.utime(study_folder / RECORD_FILE, (before, before))
    wanted = r"last heard from 2\d s ago; stop it there with `ssh pod-7 .*goes on once it has been silent for 120 s"
    with pytest.raises(UsageError, match=wanted), only_driver(study_folder):
        pass
    with pytest.raises(UsageError, match=wanted):
        stop(study_folder, now=False)


@pytest.fixture
def study_folder(tmp_path):
    write_yaml(tmp_path / CONFIG_FILE, load_config("quickstart").to_dict())
    return tmp_path


def test_a_closed_terminal_asks_once_and_is_not_written_to(tmp_path):
    code = (
        "import fcntl, signal, termios, time\nfrom study.driver.signals import StopSignals\n"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # the tests themselves may run under nohup
        "with StopSignals() as interrupts:\n"
        "    print('ready', flush=True)\n"
        "    while not interrupts.requested: time.sleep(0.05)\n"
        "    signal.raise_signal(signal.SIGHUP)\n"
        "    print('nobody reads this', flush=True)\n"
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


def test_nohup_stays_nohup():
    code = (
        "import signal\nfrom study.driver.signals import StopSignals\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with StopSignals() as interrupts:\n"
        "    signal.raise_signal(signal.SIGHUP); print(interrupts.requested)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_asks(number, code, capfd):
    before = signal.getsignal(number)
    with StopSignals() as interrupts:
        assert (interrupts.requested, interrupts.exit_code) == (False, 0)
        signal.raise_signal(number)
        assert (interrupts.requested, interrupts.exit_code) == (True, code)
        assert not interrupts.patience_over
        interrupts._asked -= GRACE_SECONDS + 1
        assert interrupts.patience_over
    assert signal.getsignal(number) == before
    assert "stopping" in capfd.readouterr().err


def test_the_second_signal_ends_the_process_and_handlers_can_be_taken_back():
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
    assert "stopped now" in ended.stderr


def test_a_generation_is_handed_on_once(monkeypatch):
    assert inherited() is None
    monkeypatch.setenv("ROBUST_STUDY_GENERATION", "2:1000.5:7")
    assert inherited() == DriverRestart(2, 1000.5, 7)
    assert inherited() is None


def test_the_next_driver_is_the_same_process_and_signals_wait_for_it(tmp_path):
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom study.driver import restarts\n"
        "if 'resume' in sys.argv:\n"
        "    from study.driver.signals import StopSignals\n"
        "    with StopSignals() as interrupts:\n"
        "        print(os.getpid(), restarts.inherited(), sys.argv[1:], interrupts.requested)\n"
        "else:\n"
        "    print(os.getpid(), flush=True)\n"
        "    restarts.hold_back(); os.kill(os.getpid(), signal.SIGTERM)\n"
        "    restarts.hand_over(Path('there'), restarts.DriverRestart(1, 5.0, 3))\n"
    )
    script = tmp_path / "drive.py"
    script.write_text(code)
    ended = subprocess.run([sys.executable, str(script), "launch", "x"], capture_output=True, text=True, check=True)
    first, second = ended.stdout.splitlines()
    assert second == f"{first} DriverRestart(number=2, started=5.0, done=3) ['resume', 'there'] True"


def test_a_generation_has_so_many_trials():
    assert size(None, slots=2) == TRIALS
    assert size(None, slots=1000) == WAVES * 1000
    assert size(7, slots=1000) == 7


def test_the_command_is_repeated_as_it_was_started(monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["python", "-X", "dev", "-m", "study", "launch", "a"])
    monkeypatch.setattr(sys, "argv", ["/somewhere/study/__main__.py", "launch", "a"])
    assert interpreter() == [sys.executable, "-X", "dev", "-m", "study"]
    assert peak_memory_mb() > 10
