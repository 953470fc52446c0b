"""Templates that users copy: valid by their tools' schemas, or by published fields where no schema is installed."""

from __future__ import annotations

import json
import re
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


def test_every_image_is_pinned_to_a_version():
    files = [*templates(), Path(__file__).parents[4] / "docs/tracking-server.yaml"]
    images = {match for file in files for match in re.findall(r"^\s*image: (\S+)", file.read_text(), re.MULTILINE)}
    others = images - {"IMAGE", "robust-study"}  # the user's own, and the one that is built here
    assert others
    assert all(re.search(r":(\d+\.\d+|RELEASE\.)", image) for image in others), others
