"""One fault in each test: what the user sees, and that no wait_for_end trial is lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from helpers.services.ray_cluster import cluster, descendants
from helpers.studies.small_study import SmallStudy

pytestmark = pytest.mark.chaos

# A user's network that fails in about a third of the trials, by the range of dropout in the search space.
FAULTY = """
from torch import nn
class Faulty(nn.Module):
    def __init__(self, inputs, classes, dropout):
        super().__init__()
        self.bad = dropout > 0.3
        self.layer = nn.Linear(inputs, classes)
    def forward(self, x):
        {fault}
        return self.layer(x.flatten(1))
def net(image_shape, num_classes, dropout):
    return Faulty(image_shape[0] * image_shape[1] * image_shape[2], num_classes, dropout)
"""


def wait_for_rows(study, driver, rows=1):
    """Wait until some rows are written and another trial is running; return the rows."""
    study.wait_until(lambda: len(study.written()) >= rows and study.running(), driver)
    return study.contents()


def check_unchanged(study, before):
    after = study.contents()
    assert before
    assert {name: after.get(name) for name in before} == before


def check_complete(study, statuses=("completed",)):
    rows = study.rows()
    assert [row["number"] for row in rows] == list(range(study.config["search"]["num_trials"]))
    assert {row["status"] for row in rows} <= set(statuses), study.output
    assert not [trial for trial in study.optuna().trials if trial.state.name in ("RUNNING", "WAITING")]
    return f"{len(rows)} of {len(rows)} rows, {sum(row['status'] == 'failed' for row in rows)} failed"


def line(study, *words):
    """Return the last line of the drivers' output that contains all of these words."""
    lines = [text.strip() for text in study.output.splitlines() if all(word in text for word in words)]
    assert lines, f"no line with {words} in:\n{study.output}"
    return lines[-1]


def check_no_traceback(study):
    assert "Traceback" not in study.output, study.output


def launch_and_kill(study, rows=1):
    """Launch a study and kill its driver during the study; return the rows."""
    driver = study.launch()
    before = wait_for_rows(study, driver, rows)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    return before


def wait_for_end(driver, study):
    assert driver.wait(600) == 0, study.output


@pytest.mark.parametrize(
    ("fault", "code", "seen"),
    [
        ("worker exception", "if self.bad: raise RuntimeError('the net broke')", "the net broke"),
        ("NaN loss", "if self.bad: return self.layer(x.flatten(1)) * float('nan')", "diverged"),
    ],
    ids=["worker-exception", "nan-loss"],
)
def test_trials_that_fail(tmp_path, note, fault, code, seen):
    changes = {"model": {"name": "faulty:net"}, "search": {"num_trials": 8, "random_fraction": 1.0}}
    study = SmallStudy(tmp_path, changes)
    (tmp_path / "faulty.py").write_text(FAULTY.format(fault=code))
    wait_for_end(study.launch(), study)
    outcome = check_complete(study, ("completed", "failed"))
    failed = [row for row in study.rows() if row["status"] == "failed"]
    assert failed
    assert len(failed) < 8
    assert all(seen in row["reason"] for row in failed)
    check_no_traceback(study)
    note(fault, line(study, seen), outcome)


def workers(driver):
    """Return the processes that are running a trial, whose titles contain the class."""
    pids = []
    for pid in descendants(driver.pid):
        with contextlib.suppress(OSError):
            if b"Trainable" in Path(f"/proc/{pid}/cmdline").read_bytes():
                pids.append(pid)
    return pids


def test_killed_worker(tmp_path, note):
    study = SmallStudy(tmp_path)
    driver = study.launch()
    before = wait_for_rows(study, driver)
    os.kill(study.wait_until(lambda: workers(driver), driver)[0], signal.SIGKILL)
    wait_for_end(driver, study)
    check_unchanged(study, before)
    check_no_traceback(study)
    note("killed worker process", line(study, "from its last checkpoint"), check_complete(study))


@pytest.mark.parametrize("fault", ["killed node", "frozen node"])
def test_lost_node(tmp_path, note, fault):
    with cluster(2, "--num-cpus", "1", impatient=True) as ray:
        study = SmallStudy(tmp_path, {"search": {"num_trials": 6}}, environment=ray.driver_environment)
        driver = study.launch("--address", ray.address)
        study.wait_until(lambda: study.written() and len(study.running()) == 2, driver)
        before = study.contents()
        started = time.monotonic()
        if fault == "killed node":
            ray.nodes[1].kill()
        else:
            ray.nodes[1].signal(signal.SIGSTOP)
        study.wait_until(lambda: "from its last checkpoint" in study.output, driver)
        seconds = time.monotonic() - started
        wait_for_end(driver, study)
    assert seconds < 30
    check_unchanged(study, before)
    seen = line(study, "from its last checkpoint")
    note(fault, f"after {seconds:.0f} s: {seen}", check_complete(study))


def test_killed_driver(tmp_path, note):
    study = SmallStudy(tmp_path)
    before = launch_and_kill(study)
    wait_for_end(study.resume(), study)
    check_unchanged(study, before)
    note("killed driver", "no message; then `resume`: " + line(study, "trials"), check_complete(study))


@contextlib.contextmanager
def mounted(folder, options):
    """Mount a small file system on a folder; skip the test if that is not permitted."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip(f"no file system can be mounted here: {mount.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_full_disk(tmp_path, note):
    study = SmallStudy(tmp_path, {"search": {"num_trials": 6}})
    with mounted(tmp_path / "studies", "size=24m"):
        driver = study.launch()
        before = wait_for_rows(study, driver)
        filler = tmp_path / "studies" / "filler"
        with contextlib.suppress(OSError):
            filler.write_bytes(b"\0" * 30_000_000)
        assert driver.wait(600) == 1, study.output
        check_unchanged(study, before)
        seen = line(study, "No space left on device")
        check_no_traceback(study)
        filler.unlink()
        wait_for_end(study.resume(), study)
        check_unchanged(study, before)
        note("full disk", seen, "space freed, then `resume`: " + check_complete(study))


@contextlib.contextmanager
def read_only(folder):
    """Mount a read-only copy over a folder, as a folder with open files cannot be made read-only itself."""
    copy = folder.parent / "copy"
    # a file that is deleted meanwhile is not a failure
    subprocess.run(["cp", "-a", folder, copy], capture_output=True, check=False)
    with mounted(folder, "size=60m"):
        shutil.copytree(copy, folder, dirs_exist_ok=True)
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        yield


def test_storage_read_only(tmp_path, note):
    study = SmallStudy(tmp_path, {"search": {"num_trials": 6}})
    driver = study.launch()
    before = wait_for_rows(study, driver)
    with read_only(tmp_path / "studies"):
        assert driver.wait(600) == 1, study.output
        check_unchanged(study, before)
        seen = line(study, "Read-only file system")
        check_no_traceback(study)
    wait_for_end(study.resume(), study)
    check_unchanged(study, before)
    note("storage read-only", seen, "made writable, then `resume`: " + check_complete(study))


def test_truncated_checkpoint(tmp_path, note):
    study = SmallStudy(tmp_path)
    before = launch_and_kill(study)
    trials = study.running()
    for trial in trials:
        path = study.dir / "checkpoints" / trial / "last.pt"
        path.write_bytes(path.read_bytes()[:1000])
    wait_for_end(study.resume(), study)
    check_unchanged(study, before)
    outcome = check_complete(study)
    for trial in trials:
        assert [row["epoch"] for row in study.epoch_rows(trial)] == list(range(1, study.epochs + 1))
    seen = [text for text in study.output.splitlines() if "cannot be read as a checkpoint" in text]
    note("truncated checkpoint", seen[-1] if seen else "no message: the trial restarts", outcome)


def test_rays_experiment_folder_deleted(tmp_path, note):
    # the paths of pytest's own folders are too long for Ray's sockets
    with tempfile.TemporaryDirectory(prefix="rs-", dir="/tmp") as scratch:
        study = SmallStudy(tmp_path, environment={"TMPDIR": scratch})
        driver = study.launch()
        before = wait_for_rows(study, driver)
        for folder in Path(scratch).glob("robust-study-*"):
            shutil.rmtree(folder, ignore_errors=True)
        code = driver.wait(600)
    check_unchanged(study, before)
    last_line = [text for text in study.output.splitlines() if text.strip()][-1]
    wait_for_end(study.resume(), study)
    check_unchanged(study, before)
    check_no_traceback(study)
    note("Ray's experiment folder deleted", f"exit code {code}: {last_line}", "then `resume`: " + check_complete(study))


def test_unreadable_parquet(tmp_path, note):
    study = SmallStudy(tmp_path)
    before = launch_and_kill(study, rows=2)
    lost = min(before)
    damaged = study.dir / "results" / f"{lost}.parquet"
    damaged.write_bytes(damaged.read_bytes()[:500])
    refused = study.call("resume", str(study.dir))
    assert refused.returncode == 2, refused.stderr
    assert damaged.name in refused.stderr
    assert "Traceback" not in refused.stderr
    damaged.unlink()
    wait_for_end(study.resume(), study)
    check_unchanged(study, {trial: row for trial, row in before.items() if trial != lost})
    note("unreadable Parquet", refused.stderr.strip(), "moved away, then `resume`: " + check_complete(study))


def test_tracking_server_down(tmp_path, note):
    with socket.socket() as unanswered:
        unanswered.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        uri = f"http://127.0.0.1:{unanswered.getsockname()[1]}"
        study = SmallStudy(tmp_path, {"tracking": {"uri": uri}})
        wait_for_end(study.launch(), study)
    check_no_traceback(study)
    note("tracking server down", line(study, "MLflow is missing"), check_complete(study))
