"""The batch script with stand-ins for Slurm, Ray and the study: the order of its steps, and what follows each end."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

import pytest
from ray.scripts.scripts import start

import study.cluster

SCRIPT = resources.files(study.cluster) / "templates" / "slurm.sbatch"
TEXT = SCRIPT.read_text(encoding="utf-8")
# Ray's folders in /tmp are named by it
JOB = 1_000_000 + os.getpid()
BASE = 10000 + JOB % 88 * 256
HEAD = f"10.0.0.7:{BASE}"

FAKES = {
    # a step is a group of processes, named by its number, to which scancel sends the signal
    "srun": """
while [[ $1 == --* ]]; do options+=" $1"; shift; done
until mkdir "$BOX/steps/${step:=0}" 2>/dev/null; do step=$((step + 1)); done
echo "srun$options" >>"$LOG"
SLURM_STEP_ID=$step setsid "$@" &
echo $! >"$BOX/steps/$step/pid"
wait $!""",
    "scancel": """
step=${2#*.}
[[ -f $BOX/steps/$step/pid ]] || exit 1
echo "scancel $1 step $step" >>"$LOG"
kill "${1/--signal=/-}" -- "-$(cat "$BOX/steps/$step/pid")" """,
    # a node has joined while its Ray runs
    "ray": """
echo "$@" >>"$LOG"
[[ $* == *--address=* && -f $BOX/no-workers ]] && exit 1
[[ $* == *--head* && -f $BOX/no-head ]] && exit 1
for option; do [[ $option == --temp-dir=* ]] && mkdir -p "${option#*=}"; done
touch "$BOX/nodes/$SLURM_STEP_ID"
trap 'echo "step $SLURM_STEP_ID: ended" >>"$LOG"; rm "$BOX/nodes/$SLURM_STEP_ID"; exit 1' TERM
for i in $(seq 600); do sleep 0.1; done""",
    "python": """
case "$2" in
    *ray.init*) count=$(ls "$BOX/nodes" | wc -l); echo "barrier $3 $count" >>"$LOG"; echo "$count" ;;
    *yaml*) sed -n 's/^name: //p' "$3" | grep . ;;
    *grpc*) [[ -f $BOX/grpc ]] ;;
    *) echo a-token ;;
esac""",
    "scontrol": 'if [[ $1 == show ]]; then printf "node1\\nnode2\\n"; else echo "scontrol $*" >>"$LOG"; fi',
    "squeue": 'cat "$BOX/state"',
    # the script's own waits are seconds long
    "sleep": "exec /bin/sleep 0.1",
    "hostname": "echo 10.0.0.7 172.17.0.1",
    # the line that tests wait for is logged last, once the folder exists and the signal handler is set
    "robust-study": """
trap 'echo "study: finishing" >>"$LOG"; exit 143' TERM
[[ $1 == launch ]] && mkdir -p studies/small/results && echo name: small >studies/small/study.yaml
[[ -f $BOX/progress ]] && touch studies/small/results/00000.parquet
echo "robust-study $* at $RAY_ADDRESS" >>"$LOG"
[[ -f $BOX/code ]] && exit "$(cat "$BOX/code")"
for i in $(seq 600); do sleep 0.1; done""",
}


class Batch:
    """A job of two nodes in a folder of its own.

    Args:
        folder: Its working folder, which is also the user's home.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("bin", "steps", "nodes", ".venv/bin"):
            (folder / name).mkdir(parents=True)
        for name, code in FAKES.items():
            (folder / "bin" / name).write_text(f"#!/bin/bash\n{code}\n")
            (folder / "bin" / name).chmod(0o755)
        (folder / ".venv" / "bin" / "activate").touch()
        (folder / "study.yaml").write_text("name: small\n")
        (folder / "state").write_text("RUNNING\n")
        settings = {
            "ENVIRONMENT": "BATCH",
            "SLURM_JOB_ID": str(JOB),
            "SLURM_JOB_NODELIST": "node[1-2]",
            "SLURM_CPUS_PER_TASK": "8",
            "SLURM_GPUS_PER_TASK": "a100:2",
            "HOME": str(folder),
            "BOX": str(folder),
            "LOG": str(folder / "log"),
            "PATH": f"{folder}/bin:/usr/bin:/bin",
        }
        self.environment = os.environ | settings
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def lines(self) -> list[str]:
        log = self.folder / "log"
        return log.read_text().splitlines() if log.exists() else []

    @property
    def messages(self) -> str:
        return (self.folder / "stderr").read_text()

    @property
    def token(self) -> Path:
        return self.folder / ".ray" / f"token-{JOB}"

    def start(self, *words: str) -> None:
        with (self.folder / "stderr").open("wb") as stderr:
            line = ["bash", str(SCRIPT), *(words or ["study.yaml"])]
            self.process = subprocess.Popen(line, cwd=self.folder, env=self.environment, stderr=stderr)

    def start_study(self, *words: str) -> None:
        self.start(*words)
        wait_for(lambda: any(line.startswith("robust-study") for line in self.lines))

    def end(self) -> int:
        """Wait for the script, check that nothing stays behind, and return its exit code."""
        assert self.process is not None
        code = self.process.wait(timeout=40)
        assert not self.token.exists()
        assert not any(self.folder.joinpath("nodes").iterdir())
        assert not list(Path("/tmp").glob(f"ray-{JOB}.*"))
        return code

    def end_step(self, number: int) -> None:
        """Send SIGTERM to all processes of a step, as Slurm does."""
        os.killpg(int((self.folder / "steps" / str(number) / "pid").read_text()), signal.SIGTERM)


def wait_for(condition: Callable[[], object], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Batch]:
    batch = Batch(tmp_path)
    yield batch
    for pid in [path.read_text() for path in (tmp_path / "steps").glob("*/pid")]:
        with_group = ["kill", "-KILL", "--", f"-{pid.strip()}"]
        subprocess.run(with_group, capture_output=True, check=False)
    if batch.process is not None and batch.process.poll() is None:
        batch.process.kill()


def bash(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=False, timeout=60)


def test_the_script_is_valid_bash():
    assert bash(f"bash -n {shlex.quote(str(SCRIPT))}").returncode == 0
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed here (the dev extra brings it)")
    check = subprocess.run([shellcheck, str(SCRIPT)], capture_output=True, text=True, check=False, timeout=60)
    assert check.returncode == 0, check.stdout


def ports(job: int) -> list[int]:
    names = "GCS_PORT RAYLET_PORT OBJECT_PORT AGENT_GRPC_PORT AGENT_HTTP_PORT ENV_AGENT_PORT METRICS_PORT CLIENT_PORT"
    shown = " ".join(f"${name}" for name in (*names.split(), "DASHBOARD_PORT", "WORKER_MIN_PORT", "WORKER_MAX_PORT"))
    output = bash(f"source {shlex.quote(str(SCRIPT))}; job_ports {job}; echo {shown}")
    assert output.returncode == 0, output.stderr
    *single, low, high = map(int, output.stdout.split())
    return [*single, *range(low, high + 1)]


def test_each_job_has_its_own_ports_below_those_that_linux_assigns():
    ports_of_jobs = [ports(job) for job in (1_000_000, 1_000_001, 1_000_043, 1_000_087)]
    together = [port for of_job in ports_of_jobs for port in of_job]
    assert len(together) == len(set(together))
    assert all(1024 < port < 32768 for port in together)
    assert all(len(of_job) == 256 for of_job in ports_of_jobs)


def test_the_job_starts_ray_on_every_node_waits_and_requeues_itself_at_its_time_limit(job):
    job.start_study("study.yaml", "--set", "search.num_trials=9")
    assert job.token.stat().st_mode & 0o077 == 0
    job.process.send_signal(signal.SIGTERM)
    assert job.end() == 0
    lines = job.lines
    (head,) = [line for line in lines if line.startswith("start") and "--head" in line]
    (worker,) = [line for line in lines if line.startswith("start") and f"--address={HEAD}" in line]
    assert f"--port={BASE}" in head
    options = {option for parameter in start.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for line in (head, worker):
        assert "--num-cpus=8 --num-gpus=2 " in line
        assert set(re.findall(r"(?<= )--[a-z-]+", line)) <= options
    assert all("--cpus-per-task=8" in line for line in lines if line.startswith("srun"))
    launched = "launch study.yaml --address auto --set storage.optuna=journal --set search.num_trials=9"
    steps = [head, f"barrier {HEAD} 1", worker, f"barrier {HEAD} 2", f"robust-study {launched} at {HEAD}"]
    steps += ["study: finishing", "scancel --signal=TERM step 1", "step 1: ended"]
    steps += ["scancel --signal=TERM step 0", "step 0: ended"]
    places = [lines.index(step) for step in steps]
    assert places == sorted(places)
    assert lines[-1] == f"scontrol requeue {JOB}"


def test_a_requeued_job_resumes_the_study_it_launched(job):
    (job.folder / "studies" / "small").mkdir(parents=True)
    (job.folder / "studies" / "small" / "study.yaml").write_text("name: small\n")
    job.start_study()
    assert f"robust-study resume studies/small at {HEAD}" in job.lines


def test_a_study_that_ends_well_ends_the_job_workers_first(job):
    (job.folder / "code").write_text("0")
    job.start()
    assert job.end() == 0
    assert [line for line in job.lines if line.startswith("step")] == ["step 1: ended", "step 0: ended"]
    assert f"scontrol requeue {JOB}" not in job.lines
    assert "slurm.sbatch:" not in job.messages


def test_preemption_ends_ray_first_and_the_job_is_requeued(job):
    job.start_study()
    for step in (1, 0):
        job.end_step(step)
    assert job.end() == 0
    assert job.lines[-1] == f"scontrol requeue {JOB}"


def test_a_job_preempted_before_its_study_started_is_requeued(job):
    job.start()
    wait_for(lambda: f"barrier {HEAD} 1" in job.lines)
    job.end_step(0)
    assert job.end() == 0
    assert job.lines[-1] == f"scontrol requeue {JOB}"
    assert not (job.folder / "studies").exists()


def test_a_time_limit_that_leaves_no_time_for_the_study_is_one_line(job):
    job.start()
    wait_for(lambda: f"barrier {HEAD} 1" in job.lines)
    job.process.send_signal(signal.SIGTERM)
    assert job.end() == 1
    assert "time limit before the study started: not requeued" in job.messages
    assert f"scontrol requeue {JOB}" not in job.lines


def test_a_cancelled_job_is_not_requeued(job):
    job.start_study()
    (job.folder / "state").write_text("COMPLETING\n")
    job.end_step(0)
    assert job.end() == 1
    assert "the job is cancelled: not requeued" in job.messages
    assert f"scontrol requeue {JOB}" not in job.lines


@pytest.mark.parametrize(("code", "progress", "outcome"), [(2, False, 2), (137, True, 0), (143, True, 143)])
def test_a_study_that_ends_with_an_error_is_requeued_if_it_made_progress(job, code, progress, outcome):
    (job.folder / "code").write_text(str(code))
    if progress:
        (job.folder / "progress").touch()
    job.start()
    assert job.end() == outcome
    assert (f"scontrol requeue {JOB}" in job.lines) == (outcome == 0)


def test_a_worker_where_ray_does_not_start_is_tried_again_and_left_out(job):
    (job.folder / "no-workers").touch()
    job.start_study()
    assert len([line for line in job.lines if line.startswith("start") and "--address=" in line]) == 3
    assert "Ray runs on 1 of 2 nodes" in job.messages


def test_a_head_that_does_not_start_ends_the_job_before_the_barrier_does(job):
    (job.folder / "no-head").touch()
    job.start()
    assert job.end() == 1
    assert "Ray or the study has ended early" in job.messages
    assert not any(line.startswith(("robust-study", "scontrol")) for line in job.lines)


@pytest.mark.parametrize("extra", [True, False])
def test_rays_client_port_is_given_only_where_the_extra_is_installed(job, extra):
    if extra:
        (job.folder / "grpc").touch()
    (job.folder / "code").write_text("0")
    job.start()
    assert job.end() == 0
    (head,) = [line for line in job.lines if "--head" in line]
    assert (f"--ray-client-server-port={BASE + 7}" in head) == extra


@pytest.mark.parametrize(
    ("remove", "words", "message"),
    [
        (".venv/bin/activate", [], "no virtual environment in .venv (in FOLDER): create it there or set STUDY_VENV"),
        ("bin/robust-study", [], "robust-study is not installed in .venv"),
        ("state", ["absent.yaml"], "absent.yaml must be a study's folder or a YAML file with its `name`"),
    ],
)
def test_what_is_missing_is_one_line_before_anything_starts(job, remove, words, message):
    (job.folder / remove).unlink()
    job.start(*words)
    assert job.end() == 2
    (line,) = job.messages.splitlines()
    assert line.startswith(f"slurm.sbatch: {message}".replace("FOLDER", str(job.folder)))
    assert job.lines == []
    assert not (job.folder / ".ray").exists()
