"""Every container of a template: Ray's object store fits /dev/shm, and both fit its memory beside the trials."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from study.cluster import findings

FOLDER = Path(str(resources.files("study") / "cluster" / "templates"))
UNITS = {"m": 2**20, "g": 2**30, "gb": 2**30, "Gi": 2**30}
DOCKERS_SHM = "64m"
# CPUs and GiB of the machines that the clouds' files ask for
MACHINES = {"m6i.xlarge": (4, 16), "g5.2xlarge": (8, 32), "n2-standard-4": (4, 16), "g2-standard-8": (8, 32)}
DATA = 60_000 * 32 * 32 * 3
"""Bytes of CIFAR's images, the largest data set that is loaded by its name."""
PROCESSES = 2e9
"""Bytes of Ray's own processes and the study's driver."""


class Container(NamedTuple):
    """Amounts in bytes; `store` is 0 where Ray would choose, `limit` None where the file sets none."""

    name: str
    store: int
    shm: int
    limit: int | None
    trials: int


def size(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(\D+)", text).groups()
    return int(number) * UNITS[unit]


def start_options(command: str) -> dict[str, str]:
    """Options of the `ray start` in a command."""
    (line,) = re.findall(r"ray start (.*)", command)
    return dict(re.findall(r"--([a-z-]+)=(\S+)", line))


def store(options: dict[str, str]) -> int:
    return int(options.get("object-store-memory", 0))


def of_compose() -> Iterator[Container]:
    services = yaml.safe_load((FOLDER / "docker-compose.yaml").read_text())["services"]
    for name, service in services.items():
        command = " ".join(service.get("entrypoint", [])) or str(service.get("command"))
        if "ray start" in command:
            options = start_options(command)
            shm, limit = size(service.get("shm_size", DOCKERS_SHM)), service.get("mem_limit")
            amounts = store(options), shm, limit and size(limit), int(options["num-cpus"])
            yield Container(f"docker-compose.yaml {name}", *amounts)


def of_kuberay() -> Iterator[Container]:
    for file in ("kuberay-raycluster.yaml", "kuberay-rayjob.yaml"):
        spec = yaml.safe_load((FOLDER / file).read_text())["spec"]
        spec = spec.get("rayClusterSpec", spec)
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            pod, options = group["template"]["spec"], group["rayStartParams"]
            (container,) = pod["containers"]
            (shm,) = (volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"] if volume["name"] == "shm")
            amounts = container["resources"]
            assert amounts["requests"]["memory"] == amounts["limits"]["memory"]
            cpus = int(options.get("num-cpus", amounts["requests"]["cpu"]))
            limit = size(amounts["limits"]["memory"])
            yield Container(f"{file} {container['name']}", store(options), size(shm), limit, cpus)


def of_launchers() -> Iterator[Container]:
    for file in ("aws.yaml", "gcp.yaml", "on-premise.yaml"):
        config = yaml.safe_load((FOLDER / file).read_text())
        (shm,) = re.findall(r"--shm-size=(\w+)", " ".join(config["docker"]["run_options"])) or [DOCKERS_SHM]
        for name in ("head", "worker"):
            options = start_options(" ".join(config[f"{name}_start_ray_commands"]))
            limit, cpus = None, 0
            if nodes := config.get("available_node_types"):
                machine = nodes[name]["node_config"]
                cpus, memory = MACHINES[machine.get("InstanceType") or machine.get("machineType")]
                limit, cpus = memory * 2**30, nodes[name]["resources"].get("CPU", cpus)
            yield Container(f"{file} {name}", store(options), size(shm), limit, cpus)


def containers() -> list[Container]:
    return [*of_compose(), *of_kuberay(), *of_launchers()]


def test_every_template_with_containers_is_compared():
    files = {path.name for path in FOLDER.iterdir() if re.search(r"image: *(IMAGE|robust-study)", path.read_text())}
    assert {one.name.split()[0] for one in containers()} == files
    assert len(containers()) == 3 + 4 + 6


@pytest.mark.parametrize("one", containers(), ids=lambda one: one.name.replace(" ", "-"))
def test_the_object_store_fits_shm_and_both_fit_the_memory_by_the_doctors_own_checks(one):
    assert one.store, f"{one.name}: Ray's own choice, a share of the machine's memory"
    room = findings.shared_memory(one.name, {"shm": one.shm}, store=one.store, data=DATA)
    assert room.ok, room.text
    # pages of an object store are never exactly as many as its bytes, and Ray looks at what is free
    assert one.store <= 0.9 * one.shm
    assert one.limit or one.name.startswith("on-premise"), f"{one.name} has no memory limit"
    if one.limit:
        assert one.shm < one.limit
        rest = one.limit - one.shm - PROCESSES
        trials = findings.memory(one.name, {"memory": {"total": one.limit, "available": rest}}, slots=one.trials)
        assert trials.ok, trials.text
        assert rest > 0
