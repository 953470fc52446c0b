"""The batch script with stand-ins for Slurm, Ray and the study: the order of its steps, and what follows each end."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.services.batch_script import BASE, HEAD, JOB, SCRIPT, TEXT, Batch, wait_for
from ray.scripts.scripts import start


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
        assert "--num-gpus=2 --num-cpus=8 " in line
        assert set(re.findall(r"(?<= )--[a-z-]+", line)) <= options
    assert all("--cpus-per-task=8" in line for line in lines if line.startswith("srun"))
    access = f"export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH='{job.token}' RAY_ADDRESS={HEAD}"
    assert access in (job.folder / "stdout").read_text()
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
    job.start_study("study.yaml", "--set", "search.num_trials=9")
    assert f"robust-study resume studies/small --address auto --set search.num_trials=9 at {HEAD}" in job.lines


def test_the_search_keeps_the_storage_that_the_file_names(job):
    (job.folder / "study.yaml").write_text("name: small\nstorage: {optuna: postgresql://db/trials}\n")
    job.start_study()
    assert f"robust-study launch study.yaml --address auto at {HEAD}" in job.lines


def test_scripts_that_set_up_the_environment_may_read_what_is_not_set(job):
    before, marker, after = TEXT.partition(" go here.\n")
    assert marker
    job.script = job.folder / "slurm.sbatch"
    job.script.write_text(f'{before}{marker}loaded="$NOT_SET"\n{after}')
    (job.folder / ".venv" / "bin" / "activate").write_text('prompt="$NOT_SET_EITHER"\n')
    (job.folder / "code").write_text("0")
    job.start()
    assert job.end() == 0, job.messages


@pytest.mark.parametrize(("start", "address"), [("172.", "172.17.0.1"), ("192.", None)])
def test_the_network_between_the_nodes_can_be_named(job, start, address):
    job.environment["STUDY_NETWORK"] = start
    (job.folder / "code").write_text("0")
    job.start()
    assert job.end() == (0 if address else 2)
    assert any(f"--node-ip-address={address} " in line for line in job.lines) == bool(address)
    assert ("node1 has no address that begins with STUDY_NETWORK=192." in job.messages) == (address is None)


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


@pytest.mark.parametrize(("sent_to", "restarts", "outcome"), [("script", "4", 0), ("script", "5", 1), ("head", "4", 0)])
def test_a_job_stopped_before_its_study_started_is_requeued_a_few_times(job, sent_to, restarts, outcome):
    job.environment["SLURM_RESTART_COUNT"] = restarts
    (job.folder / "no-answer").touch()
    job.start()
    wait_for((job.folder / "nodes" / "0").exists)
    if sent_to == "script":
        job.process.send_signal(signal.SIGTERM)
    else:
        job.end_step(0)
    assert job.end() == outcome
    assert (f"scontrol requeue {JOB}" in job.lines) == (outcome == 0)
    assert ("5 restarts without a study: not requeued" in job.messages) == (outcome == 1)
    assert not (job.folder / "studies").exists()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("COMPLETING", "the job is COMPLETING, so cancelled, or requeued by Slurm itself: not requeued"),
        (None, "squeue fails: not requeued; submit the job again"),
    ],
)
def test_a_job_that_slurm_does_not_call_running_is_not_requeued(job, state, message):
    job.start_study()
    (job.folder / "state").write_text(f"{state}\n") if state else (job.folder / "state").unlink()
    job.end_step(0)
    assert job.end() == 1
    assert message in job.messages
    assert f"scontrol requeue {JOB}" not in job.lines


def test_a_study_whose_trials_have_all_failed_is_not_requeued(job):
    (job.folder / "progress").touch()
    (job.folder / "code").write_text("1")
    (job.folder / "status").write_text('{\n  "completed": 0,\n  "left": 0,\n}\n')
    job.start()
    assert job.end() == 1
    assert "no trial has completed" in job.messages
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
    assert job.messages.count("port in use") == 3


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
    ("words", "message"),
    [
        (["--set", "name=other"], "each restart takes the same words"),
        (["--set=name=other"], "each restart takes the same words"),
        (["--out", "elsewhere"], "each restart takes the same words"),
        (["--add-trials", "5"], "each restart takes the same words"),
        (["--detach"], "each restart takes the same words"),
        ([], "submit one job for each study, no job array"),
    ],
)
def test_what_does_not_go_with_a_restart_is_refused(job, words, message):
    if not words:
        job.environment["SLURM_ARRAY_JOB_ID"] = "7"
    job.start("study.yaml", "--set", "dataset.name=digits", *words)
    assert job.end() == 2
    assert job.messages.startswith(f"slurm.sbatch: {message}")
    assert job.lines == []


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
