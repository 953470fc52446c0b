"""Templates that users copy: valid by their tools' schemas, or by published fields where no schema is installed."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from importlib import resources
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from study.cli import app
from study.commands.catalogue import templates

FOLDER = Path(str(resources.files("study") / "cluster" / "templates"))
LAUNCHERS = ["aws.yaml", "gcp.yaml", "on-premise.yaml"]
KUBERAY = ["kuberay-raycluster.yaml", "kuberay-rayjob.yaml"]
SLURM, COMPOSE = "slurm.sbatch", "docker-compose.yaml"
HEALTH = {
    "RAY_health_check_initial_delay_ms",
    "RAY_health_check_period_ms",
    "RAY_health_check_timeout_ms",
    "RAY_health_check_failure_threshold",
}


def text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def tree(name: str) -> dict:
    return yaml.safe_load(text(name))


def test_every_template_is_tested_here_and_listed():
    assert {path.name for path in FOLDER.iterdir()} == {*LAUNCHERS, *KUBERAY, SLURM, COMPOSE}
    assert {path.name for path in templates()} == {*LAUNCHERS, *KUBERAY, SLURM, COMPOSE}


def test_list_shows_their_paths():
    shown = CliRunner().invoke(app, ["list", "templates"]).stdout
    for path in FOLDER.iterdir():
        assert "".join(str(path).split()) in "".join(shown.split())  # long paths are wrapped


@pytest.mark.parametrize("name", [*LAUNCHERS, *KUBERAY, SLURM, COMPOSE])
def test_it_starts_with_what_it_is_and_how_to_run_it_and_holds_no_secret(name):
    head = text(name).split("\n\n")[0]
    assert len([line for line in head.splitlines() if line.startswith("#   ")]) >= 2
    assert "robust-study" in head
    assert not re.search(r"(password|token|secret|key)\w*: *[A-Za-z0-9+/]{12,}", text(name), re.IGNORECASE)


@pytest.mark.parametrize("name", [*LAUNCHERS, *KUBERAY, SLURM, COMPOSE])
def test_a_frozen_node_counts_as_lost_in_seconds_and_other_users_are_kept_out(name):
    for variable in HEALTH:
        assert variable in text(name), f"{name} does not set {variable}"
    assert re.search(r"RAY_AUTH_MODE[:=] ?token|authOptions: \{mode: token\}", text(name))


# Ray's cluster launcher


@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_launchers_file_passes_rays_own_schema_and_checks(name):
    jsonschema = pytest.importorskip("jsonschema")
    import ray.autoscaler

    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    config = tree(name)
    jsonschema.validate(config, schema)
    with pytest.raises(jsonschema.ValidationError):  # the schema refuses unknown keys
        jsonschema.validate({**config, "max_worker": 1}, schema)
    if name != "on-premise.yaml":
        nodes = config["available_node_types"]
        assert config["head_node_type"] in nodes
        assert sum(node["max_workers"] for node in nodes.values()) <= config["max_workers"]
        # `launch` refuses a request that no live node can hold
        assert nodes["worker"]["min_workers"] >= 1
        assert nodes["head"]["resources"] == {"CPU": 0}
    for command in config["head_start_ray_commands"] + config["worker_start_ray_commands"]:
        check_ray_start(command)


def check_ray_start(command: str) -> None:
    """Check that this version of Ray has every option of a `ray start`."""
    from ray.scripts.scripts import start

    options = {option for parameter in start.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for part in re.findall(r"ray start (.*?)(?:$|;|&&|>&)", command.replace("\\\n", " "), re.DOTALL | re.MULTILINE):
        for option in re.findall(r"(--[a-z-]+)", part):
            assert option in options, f"ray start has no {option}"


# KubeRay: fields of its v1 types (ray-operator/apis/ray/v1/*_types.go) and of pods that the templates use

CLUSTER = {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
HEAD = {"serviceType", "rayStartParams", "template"}
WORKER = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
JOB = {
    "entrypoint",
    "backoffLimit",
    "shutdownAfterJobFinishes",
    "ttlSecondsAfterFinished",
    "submissionMode",
    "rayClusterSpec",
}
POD = {"containers", "securityContext", "terminationGracePeriodSeconds", "volumes"}
CONTAINER = {"name", "image", "imagePullPolicy", "env", "ports", "resources", "volumeMounts"}


@pytest.mark.parametrize("name", KUBERAY)
def test_kuberays_objects_have_its_fields_and_consistent_pods(name):
    manifest = tree(name)
    assert manifest.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob" if "job" in name else "RayCluster")
    spec = manifest["spec"]
    if manifest["kind"] == "RayJob":
        assert spec.keys() <= JOB
        assert spec["submissionMode"] in {"K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"}
        spec = spec["rayClusterSpec"]
    import ray

    assert spec.keys() == CLUSTER
    assert spec["rayVersion"] == ray.__version__
    assert spec["headGroupSpec"].keys() == HEAD
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in spec["workerGroupSpecs"]:
        assert group.keys() == WORKER
        assert 1 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    images = set()
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        check_ray_start("ray start " + " ".join(f"--{key}" for key in group["rayStartParams"]))
        pod = group["template"]["spec"]
        assert pod.keys() <= POD
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["terminationGracePeriodSeconds"] >= 60
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            images.add(container["image"])
            assert container.keys() <= CONTAINER
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert mounts.keys() == volumes
            assert mounts["shm"] == "/dev/shm"
            assert mounts["studies"] == "/studies"
            names = [variable["name"] for variable in container["env"]]
            assert len(names) == len(set(names))
            assert all(isinstance(variable.get("value", ""), str) for variable in container["env"])
    assert images == {"IMAGE"}


# docker compose


def test_compose_has_a_head_two_workers_and_mlflow_on_postgresql_and_listens_on_this_machine_only():
    compose = tree(COMPOSE)
    services = compose["services"]
    assert services.keys() == {"head", "worker", "study", "mlflow", "postgres"}
    assert services["worker"]["deploy"]["replicas"] == 2
    for name, service in services.items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} listens on {port}"
        for needed, how in service.get("depends_on", {}).items():
            assert how["condition"] == "service_healthy"
            assert "healthcheck" in services[needed], f"{needed} is waited for and has no healthcheck"
        for network in service["networks"]:
            assert network in compose["networks"]
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in compose["volumes"]
    assert "--allowed-hosts mlflow:5000" in services["mlflow"]["command"]
    assert services["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"].startswith("postgresql+psycopg://")
    for name in ("head", "worker", "study"):
        assert services[name]["shm_size"] == "2gb"
        assert services[name]["environment"]["RAY_AUTH_MODE"] == "token"
        check_ray_start(str(services[name].get("command", "")) + str(services[name].get("entrypoint", "")))
    # no secret has a default: compose refuses to start without .env
    secrets = re.findall(r"\$\{(\w*(?:PASSWORD|TOKEN)\w*)(:\?)?", text(COMPOSE))
    assert len(secrets) >= 3
    assert all(demanded for _, demanded in secrets)


def test_the_mlflow_server_has_every_option():
    from mlflow.cli import server

    options = {option for parameter in server.params for option in parameter.opts}
    for option in re.findall(r"(--[a-z-]+)", tree(COMPOSE)["services"]["mlflow"]["command"]):
        assert option in options, f"mlflow server has no {option}"


# Slurm


SCRIPT = shlex.quote(str(FOLDER / SLURM))


def bash(code: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=False, timeout=60, **options)


def test_the_batch_script_is_valid_bash():
    assert bash(f"bash -n {SCRIPT}").returncode == 0
    check_ray_start(text(SLURM))
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed here (the dev extra brings it)")
    check = subprocess.run([shellcheck, FOLDER / SLURM], capture_output=True, text=True, check=False, timeout=60)
    assert check.returncode == 0, check.stdout


def ports(job: int) -> list[int]:
    names = "GCS_PORT RAYLET_PORT OBJECT_PORT AGENT_GRPC_PORT AGENT_HTTP_PORT ENV_AGENT_PORT METRICS_PORT CLIENT_PORT"
    shown = " ".join(f"${name}" for name in (*names.split(), "DASHBOARD_PORT", "WORKER_MIN_PORT", "WORKER_MAX_PORT"))
    output = bash(f"source {SCRIPT}; job_ports {job}; echo {shown}")
    assert output.returncode == 0, output.stderr
    *single, low, high = map(int, output.stdout.split())
    return [*single, *range(low, high + 1)]


def test_each_job_has_its_own_ports_below_those_that_linux_assigns():
    ports_of_jobs = [ports(job) for job in (1_000_000, 1_000_001, 1_000_043, 1_000_087)]
    together = [port for of_job in ports_of_jobs for port in of_job]
    assert len(together) == len(set(together))
    assert all(1024 < port < 32768 for port in together)
    assert all(len(of_job) == 256 for of_job in ports_of_jobs)


FAKES = {
    # runs the command here; of Ray's daemons it only logs the arguments
    "srun": 'while [[ $1 == --* ]]; do options+=" $1"; shift; done; [[ $1 == ray ]] || exec "$@"; '
    'echo "srun$options" >>"$LOG"; echo "$@" >>"$LOG"; exec sleep 60',
    "scontrol": 'if [[ $1 == show ]]; then printf "node1\\nnode2\\n"; else echo "scontrol $*" >>"$LOG"; fi',
    "hostname": "echo 10.0.0.7 172.17.0.1",
    "python": 'case "$2" in *ray.init*) echo "barrier $3 $4" >>"$LOG";; *yaml*) echo small;; *) echo a-token;; esac',
    # the line that the test waits for is logged last, once the folder exists and the signal handler is set
    "robust-study": 'trap \'echo "study: finishing" >>"$LOG"; exit 130\' TERM; [[ $1 == launch ]] && mkdir -p '
    'studies/small && echo name: small >studies/small/study.yaml; echo "robust-study $* at $RAY_ADDRESS" >>"$LOG"; '
    "for i in $(seq 300); do sleep 0.1; done",
}


@pytest.fixture
def slurm(tmp_path):
    binaries = tmp_path / "bin"
    binaries.mkdir()
    for name, code in FAKES.items():
        (binaries / name).write_text(f"#!/bin/bash\n{code}\n")
        (binaries / name).chmod(0o755)
    settings = {
        "SLURM_JOB_ID": "1000001",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_CPUS_PER_TASK": "8",
        "SLURM_GPUS_PER_TASK": "a100:2",
    }
    return {
        **os.environ,
        **settings,
        "HOME": str(tmp_path),
        "LOG": str(tmp_path / "log"),
        "PATH": f"{binaries}:/usr/bin:/bin",
    }


def test_the_job_starts_ray_on_every_node_waits_and_requeues_itself_at_its_time_limit(slurm, tmp_path):
    (tmp_path / "study.yaml").write_text("name: small\n")
    job = subprocess.Popen(
        ["bash", FOLDER / SLURM, "study.yaml", "--set", "search.num_trials=9"],
        cwd=tmp_path,
        env=slurm,
        start_new_session=True,
        stderr=subprocess.PIPE,
    )
    log = tmp_path / "log"
    try:
        wait_for(lambda: log.exists() and "robust-study launch" in log.read_text())
        token = tmp_path / ".ray" / "token-1000001"
        assert token.stat().st_mode & 0o077 == 0
        job.send_signal(signal.SIGTERM)
        assert job.wait(timeout=30) == 0
    finally:
        os.killpg(job.pid, signal.SIGKILL)
    lines = log.read_text().splitlines()
    base = 10000 + 1000001 % 88 * 256
    heads = [line for line in lines if line.startswith("ray start") and "--head" in line]
    workers = [line for line in lines if line.startswith("ray start") and f"--address=10.0.0.7:{base}" in line]
    assert (len(heads), len(workers)) == (1, 1)
    assert f"--port={base}" in heads[0]
    assert "--num-cpus=8 --num-gpus=2 " in heads[0]
    assert all("--cpus-per-task=8" in line for line in lines if line.startswith("srun"))
    barriers = [line for line in lines if line.startswith("barrier")]
    assert barriers == [f"barrier 10.0.0.7:{base} 1", f"barrier 10.0.0.7:{base} 2"]
    order = [lines.index(barriers[1]), next(i for i, line in enumerate(lines) if line.startswith("robust-study"))]
    assert order == sorted(order)
    launched = "launch study.yaml --address auto --set storage.optuna=journal --set search.num_trials=9"
    assert f"robust-study {launched} at 10.0.0.7:{base}" in lines
    assert lines[-2:] == ["study: finishing", "scontrol requeue 1000001"]
    assert not token.exists()


def test_a_requeued_job_resumes_the_study_it_launched(slurm, tmp_path):
    (tmp_path / "study.yaml").write_text("name: small\n")
    (tmp_path / "studies" / "small").mkdir(parents=True)
    (tmp_path / "studies" / "small" / "study.yaml").write_text("name: small\n")
    job = subprocess.Popen(["bash", FOLDER / SLURM, "study.yaml"], cwd=tmp_path, env=slurm, start_new_session=True)
    try:
        wait_for(lambda: (tmp_path / "log").exists() and "robust-study" in (tmp_path / "log").read_text())
    finally:
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
    assert "robust-study resume studies/small at" in (tmp_path / "log").read_text()


def wait_for(condition, *, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_every_image_is_pinned_to_a_version():
    files = [*templates(), Path(__file__).parents[3] / "docs/tracking-server.yaml"]
    images = {match for file in files for match in re.findall(r"^\s*image: (\S+)", file.read_text(), re.MULTILINE)}
    others = images - {"IMAGE", "robust-study"}  # the user's own, and the one that is built here
    assert others
    assert all(re.search(r":(\d+\.\d+|RELEASE\.)", image) for image in others), others
