"""The batch script, unmodified, in a real Slurm of one node: a user's job ends, is requeued, preempted, or refused."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from helpers.services.slurm import Slurm, missing, slurm, wait_until
from helpers.services.unprivileged import USER, Unprivileged
from helpers.studies.small_study import SmallStudy

pytestmark = pytest.mark.slurm

SCRIPT = str(resources.files("study") / "cluster" / "templates" / "slurm.sbatch")
PATIENCE_SECONDS = 1200
# what an operator gives besides; Ray starts a worker for each CPU, of which a test machine has few
OPTIONS = ("--partition=low", "--nodes=1", "--cpus-per-task=2")
# long enough that a study is always interrupted during a trial
LONG = {"training": {"epochs": 24}}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    reason = missing()
    if reason:
        pytest.skip(reason)
    # pytest's own folders are closed to other users
    folder = Path(tempfile.mkdtemp(prefix="rs-slurm-", dir="/tmp"))
    try:
        folder.chmod(0o755)
        user = Unprivileged(folder)
        reason = user.install()
        if reason:
            pytest.skip(reason)
        user.variables |= {"OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with slurm(user) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Job:
    """A study in a folder of the user's own, and the job that runs it."""

    def __init__(self, cluster: Slurm, name: str, changes: dict[str, object]) -> None:
        self.cluster = cluster
        self.folder = cluster.user.home / name
        self.study = SmallStudy(self.folder, changes)
        for path in (self.folder, self.folder / "study.yaml"):
            shutil.chown(path, USER)
        (self.folder / ".venv").symlink_to(cluster.user.venv)
        self.id = ""

    def submit(self) -> None:
        script = shutil.copy(SCRIPT, self.folder / "slurm.sbatch")
        self.id = self.cluster.submit(self.folder, *OPTIONS, script, "study.yaml")

    @property
    def output(self) -> str:
        return "".join(path.read_text(errors="replace") for path in self.folder.glob("*.out"))

    def wait_for_half(self) -> dict[str, dict[str, object]]:
        """Wait until one trial has a row and another runs; return the rows."""
        while not (self.study.written() and self.study.running()):
            assert self.cluster.state(self.id) in {"PENDING", "RUNNING"}, self.output
            time.sleep(0.5)
        return self.study.contents()

    def check_complete(self, *, restarts: int, before: dict[str, dict[str, object]]) -> None:
        """Wait for the job's end, and check the study, its messages, and that nothing stays behind."""
        end = self.cluster.wait(self.id, PATIENCE_SECONDS)
        assert (end["JobState"], int(end["Restarts"])) == ("COMPLETED", restarts), f"{end}\n{self.output}"
        rows = self.study.contents()
        assert len(rows) == self.study.config["search"]["num_trials"]
        assert {trial: rows[trial] for trial in before} == before
        assert (self.study.dir / "figures" / "pareto.png").exists()
        for noise in ("Traceback", "srun: error", "Killed"):
            assert noise not in self.output, self.output
        assert not list(Path("/tmp").glob(f"ray-{self.id}.*"))
        assert not list(self.folder.glob(".ray-token-*"))
        wait_until(lambda: self.cluster.node() == "IDLE", seconds=15)


def test_a_job_runs_a_study_to_its_end_and_leaves_nothing_behind(cluster):
    job = Job(cluster, "whole", {})
    job.submit()
    job.check_complete(restarts=0, before={})


def test_at_its_time_limit_a_job_saves_the_study_requeues_itself_and_resumes(cluster):
    job = Job(cluster, "limited", LONG)
    job.submit()
    before = job.wait_for_half()
    cluster.user.run("scancel", "--batch", "--signal=TERM", job.id)
    job.check_complete(restarts=1, before=before)
    assert "stopping: no new trials start" in job.output
    assert "trials finished (0 failed)" in job.output


def test_a_preempted_job_requeues_itself_within_its_grace_time_and_resumes(cluster):
    job = Job(cluster, "preempted", LONG)
    job.submit()
    before = job.wait_for_half()
    urgent = cluster.submit(job.folder, "--partition=high", "--cpus-per-task=2", "--mem=1G", "--wrap=sleep 5")
    assert cluster.wait(urgent, 110)["JobState"] == "COMPLETED", job.output
    job.check_complete(restarts=1, before=before)


def test_without_its_environment_a_job_says_so_and_ends_at_once(cluster):
    job = Job(cluster, "bare", {})
    (job.folder / ".venv").unlink()
    job.submit()
    end = cluster.wait(job.id, 60)
    assert (end["JobState"], end["ExitCode"]) == ("FAILED", "2:0")
    (line,) = job.output.splitlines()
    assert line.startswith(f"slurm.sbatch: no virtual environment in .venv (in {job.folder})")
    assert not (job.folder / "studies").exists()
    wait_until(lambda: cluster.node() == "IDLE", seconds=15)


def test_a_cancelled_job_stays_cancelled(cluster):
    job = Job(cluster, "cancelled", LONG)
    job.submit()
    job.wait_for_half()
    cluster.user.run("scancel", job.id)
    end = cluster.wait(job.id, 120)
    assert (end["JobState"], end["Restarts"]) == ("CANCELLED", "0")
    wait_until(lambda: cluster.node() == "IDLE", seconds=60)
    assert cluster.state(job.id) == "CANCELLED"
