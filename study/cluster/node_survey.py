"""Whether the nodes of a cluster can run a study's code: what they lack is shipped, what differs is said."""

from __future__ import annotations

import importlib.util
import site
import sysconfig
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from study.cluster import probes
from study.cluster.connection import by_value, connected, nodes, on_nodes
from study.cluster.resources import Node
from study.config.schema import StudyConfig
from study.errors import UsageError

OUR_PACKAGES = ("analysis", "search_spaces", "study", "trainables")
LIBRARIES = ("ray", "torch", "numpy")
"""What a trial's numbers and its worker depend on, beside Python."""


@dataclass(frozen=True)
class Survey:
    """What the nodes of a cluster answered.

    Attributes:
        nodes: All that are alive.
        facts: By node id, of those that answered; see `probes.facts`.
        silent: By node id, why one did not answer.
    """

    nodes: tuple[Node, ...]
    facts: dict[str, dict[str, Any]]
    silent: dict[str, str] = field(default_factory=dict)

    def name(self, node_id: str) -> str:
        """Return what a node is called."""
        return next(node.name for node in self.nodes if node.id == node_id)

    def lacking(self, here: dict[str, str | None], /) -> dict[str, list[str]]:
        """Return the modules that some node has not, or has in another revision, with those nodes' names.

        Args:
            here: Digest of each module's code on this machine.
        """
        found: dict[str, list[str]] = {}
        for module, digest in here.items():
            differing = [self.name(key) for key, one in self.facts.items() if one["code"].get(module) != digest]
            if differing:
                found[module] = differing
        return found

    def differing_versions(self, here: dict[str, str | None], /) -> list[str]:
        """Return, for each version that differs from this machine's, what it is there and here."""
        return [
            f"{name} is {one['versions'].get(name) or 'missing'} on {self.name(key)} and {version} here"
            for key, one in self.facts.items()
            for name, version in here.items()
            if one["versions"].get(name) != version
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
    """Ask every node of the cluster this process is connected to; see `survey`."""
    by_value(probes)
    found = nodes()
    wanted = {"packages": packages, "libraries": LIBRARIES}
    answers = on_nodes(probes.facts, found, arguments=lambda node: wanted)
    silent = {key: _first_line(answer) for key, answer in answers.items() if isinstance(answer, Exception)}
    return Survey(tuple(found), {key: answer for key, answer in answers.items() if key not in silent}, silent)


def here(packages: tuple[str, ...], /) -> dict[str, Any]:
    """Return the same facts of this machine."""
    return probes.facts(packages=packages, libraries=LIBRARIES)


def study_packages(config: StudyConfig, /) -> tuple[str, ...]:
    """Return the top-level modules a study's trials import: ours, and the user's own that the config names.

    A user's module that was installed is the image's business; one that lies in a folder of theirs is shipped.
    """
    search = config.search
    named = [config.dataset.name, config.model.name, search.space, *search.methods]
    own = {name.partition(":")[0].partition(".")[0] for name in named if ":" in name}
    return (*OUR_PACKAGES, *sorted(name for name in own - set(OUR_PACKAGES) if not _installed(name)))


def shipped(config: StudyConfig, address: str, /) -> tuple[dict[str, Any], list[str]]:
    """Return the runtime environment for a study's workers, and remarks on what differs between the machines.

    Args:
        config: The study's config.
        address: Of the cluster.

    Returns:
        `py_modules` with the folders of the modules that some node lacks, or nothing; and lines to show.

    Raises:
        UsageError: No cluster answers, or a node lacks a library that is no part of this project.
    """
    packages = study_packages(config)
    found, mine = survey(address, packages), here(packages)
    remarks = [f"node {found.name(key)} did not answer: {reason}" for key, reason in found.silent.items()]
    for key, one in found.facts.items():
        missing = [name for name in LIBRARIES if one["versions"].get(name) is None]
        if missing:
            raise UsageError(
                f"node {found.name(key)} has no {', '.join(missing)}: start the cluster's nodes from the project's "
                "image or install its dependencies there (docs/cluster.md)"
            )
    remarks += [
        f"{line}: numbers may differ between nodes in the last bits"
        for line in found.differing_versions(mine["versions"])
    ]
    lacking = found.lacking(mine["code"])
    if not lacking:
        return {}, remarks
    where = sorted({name for names in lacking.values() for name in names})
    remarks.append(f"shipping {', '.join(lacking)} to the workers: {', '.join(where)} lack this revision of them")
    return {"py_modules": [str(_location(name)) for name in lacking]}, remarks


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


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
