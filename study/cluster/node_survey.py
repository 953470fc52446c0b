"""Whether a cluster's nodes can run a study: missing code is shipped, differing versions are reported."""

from __future__ import annotations

import importlib.util
import site
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from study.cluster import probes
from study.cluster.connection import TASK_SECONDS, by_value, connected, nodes, on_nodes
from study.cluster.findings import Finding, driver_port, wrong
from study.cluster.resources import Node
from study.config.schema import StudyConfig
from study.config.trust import own_code
from study.errors import UsageError, short

OUR_PACKAGES = ("analysis", "search_spaces", "study", "trainables")
LIBRARIES = ("ray", "torch", "numpy")
"""Libraries that a trial's numbers and its worker depend on, beside Python."""

OBJECT_BYTES = 200_000
"""Above 100 kB an object stays with its owner; a smaller one is a part of the message that names it."""

FETCH_SECONDS = 20.0


@dataclass(frozen=True)
class Survey:
    """The answers of a cluster's nodes.

    Attributes:
        nodes: All live nodes.
        facts: By node id, the facts of the nodes that answered; see `probes.facts`.
        silent: By node id, why the others did not answer.
    """

    nodes: tuple[Node, ...]
    facts: dict[str, dict[str, Any]]
    silent: dict[str, str] = field(default_factory=dict)

    def name(self, node_id: str) -> str:
        """Return a node's name."""
        return next(node.name for node in self.nodes if node.id == node_id)

    def differing_modules(self, here: dict[str, str | None], /) -> dict[str, list[str]]:
        """Return the modules that are missing or of another revision on some node, with the names of those nodes.

        Args:
            here: Digest of each module's code on this machine.
        """
        nodes_of: dict[str, list[str]] = {}
        for module, digest in here.items():
            differing = [self.name(key) for key, facts in self.facts.items() if facts["code"].get(module) != digest]
            if differing:
                nodes_of[module] = differing
        return nodes_of

    def differing_versions(self, here: dict[str, str | None], /) -> list[str]:
        """Return a line for each version that differs from this machine's."""
        return [
            f"{name} is {facts['versions'].get(name) or 'missing'} on {self.name(key)} and {version} here"
            for key, facts in self.facts.items()
            for name, version in here.items()
            if facts["versions"].get(name) != version
        ]


@cache
def survey(address: str, packages: tuple[str, ...], /) -> Survey:
    """Ask every node of the cluster at `address` for its versions and the code of `packages`.

    Raises:
        UsageError: No cluster answers there.
    """
    with connected(address):
        return ask(packages)


def ask(packages: tuple[str, ...], /) -> Survey:
    """Ask every node of the connected cluster; see `survey`."""
    by_value(probes)
    live = nodes()
    arguments = {"packages": packages, "libraries": LIBRARIES}
    answers = on_nodes(probes.facts, live, arguments=lambda node: arguments)
    silent = {key: short(answer) for key, answer in answers.items() if isinstance(answer, Exception)}
    return Survey(tuple(live), {key: answer for key, answer in answers.items() if key not in silent}, silent)


def reaching_driver(nodes: Sequence[Node], /) -> Iterator[Finding]:
    """Have every node of the connected cluster fetch an object from this process; yield a finding for each."""
    if not nodes:
        return
    import ray
    from ray.exceptions import RayTaskError

    by_value(probes)
    reference = ray.put(bytes(OBJECT_BYTES))
    arguments = {"references": [reference], "seconds": FETCH_SECONDS}
    answers = on_nodes(probes.fetch, nodes, arguments=lambda node: arguments)
    for node in nodes:
        error = answers[node.id]
        if isinstance(error, TimeoutError) and not isinstance(error, RayTaskError):
            yield wrong(
                "answers", node.name, f"starts no worker within {TASK_SECONDS:g} s: check its raylet (ray status)"
            )
        elif isinstance(error, TimeoutError):
            yield driver_port(node.name, f"it did not arrive in {FETCH_SECONDS:g} s")
        else:
            yield driver_port(node.name, None if error is None else short(error))


def here(packages: tuple[str, ...], /) -> dict[str, Any]:
    """Return the facts of this machine; see `probes.facts`."""
    return probes.facts(packages=packages, libraries=LIBRARIES)


def study_packages(config: StudyConfig, /) -> tuple[str, ...]:
    """Return the top-level modules that a study's trials import: the project's, and the user's that the config names.

    An installed module of the user's is left out, since the nodes' image provides it; one in the user's own folders is
    shipped.
    """
    modules = {name.partition(":")[0].partition(".")[0] for name in own_code(config.to_dict())}
    return (*OUR_PACKAGES, *sorted(name for name in modules - set(OUR_PACKAGES) if not _installed(name)))


def shipped(config: StudyConfig, address: str, /) -> tuple[dict[str, Any], list[str]]:
    """Return the runtime environment for a study's workers, and remarks on what differs between the machines.

    Args:
        config: The study's config.
        address: Of the cluster.

    Returns:
        `py_modules` with the folders of the modules to ship, empty if there are none; and the remarks, a line each.

    Raises:
        UsageError: No cluster answers, or a library that is not part of this project is missing on a node.
    """
    packages = study_packages(config)
    answers, local_facts = survey(address, packages), here(packages)
    remarks = [f"node {answers.name(key)} did not answer: {reason}" for key, reason in answers.silent.items()]
    for key, facts in answers.facts.items():
        missing = [name for name in LIBRARIES if facts["versions"].get(name) is None]
        if missing:
            raise UsageError(
                f"node {answers.name(key)} has no {', '.join(missing)}: start the cluster's nodes from the project's "
                "image or install its dependencies there (docs/cluster.md)"
            )
    remarks += [
        f"{line}: numbers may differ between nodes in the last bits"
        for line in answers.differing_versions(local_facts["versions"])
    ]
    modules = answers.differing_modules(local_facts["code"])
    if not modules:
        return {}, remarks
    where = sorted({name for names in modules.values() for name in names})
    remarks.append(f"shipping {', '.join(modules)} to the workers: this revision is missing on {', '.join(where)}")
    return {"py_modules": [str(_location(name)) for name in modules]}, remarks


def _location(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or (spec.origin is None and not spec.submodule_search_locations):
        raise UsageError(f"module {module} cannot be imported here: run the command in the folder that holds it")
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(str(spec.origin))


def _installed(module: str) -> bool:
    try:
        location = _location(module).resolve()
    except UsageError:
        return False
    homes = {Path(path).resolve() for path in (*site.getsitepackages(), sysconfig.get_path("stdlib"))}
    return any(home in location.parents for home in homes)
