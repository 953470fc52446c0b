"""The command `doctor`: checks of every machine that a study would use."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from study.cluster import findings, probes
from study.cluster.connection import connected, on_nodes
from study.cluster.findings import HERE, Finding
from study.cluster.preflight import findings_of
from study.cluster.resources import Node, largest_bundle, slots
from study.cluster.start import Start, new_start
from study.config.schema import StudyConfig
from study.console import notes, results
from study.directory.layout import CONFIG_FILE, open_config

CLOCK_READINGS = 3
"""The first may wait for a worker process."""

_DEFAULTS = {"name": "doctor", "dataset": {"name": "digits"}, "search": {"space": "core"}}


def planned_start(
    source: str | None, /, *, assignments: Sequence[str], out: Path, data_root: Path | None, address: str | None
) -> Start:
    """Return the start of a study, which `report_findings` checks; the arguments are those of `new_start`.

    The source may also be a study's folder, or None for every key's default.

    Raises:
        UsageError: No such study or config, or an invalid one.
    """
    folder = None if source is None or not (Path(source) / CONFIG_FILE).is_file() else Path(source)
    config = source or _DEFAULTS if folder is None else open_config(folder).to_dict()
    start = new_start(config, assignments=assignments, out=out, data_root=data_root, address=address)
    return start if folder is None else replace(start, study_dir=folder, is_new=False)


def report_findings(start: Start, /, *, as_json: bool) -> None:
    """Check this machine and every node of `cluster.address`; print a line for each check.

    Args:
        start: The study whose storage, tracking, data set and resources are checked.
        as_json: Print one JSON object instead.

    Raises:
        SystemExit: Code 1 if a check failed.
        UsageError: No cluster answers at the address.
    """
    all_findings: list[Finding] = []
    console = results()
    start.nodes()  # raises before any output if no cluster answers
    for finding in _examine(start):
        all_findings.append(finding)
        if not as_json:
            console.print(
                f"{'ok     ' if finding.ok else 'PROBLEM'}  {finding.check:<9} {finding.node:<22} {finding.text}"
            )
    num_wrong = sum(not finding.ok for finding in all_findings)
    if as_json:
        checks = [
            {"check": finding.check, "node": finding.node, "ok": finding.ok, "said": finding.text}
            for finding in all_findings
        ]
        console.print_json(data={"ok": not num_wrong, "checks": checks})
    else:
        console.print(f"{len(all_findings)} checks, {num_wrong or 'nothing'} wrong")
    if num_wrong:
        raise SystemExit(1)


def _examine(start: Start) -> Iterator[Finding]:
    """Yield what would prevent the study's start, then what would slow or stop it on its machines."""
    yield from findings_of(start)
    size = None if start.data is None else start.num_bytes()
    yield from (_machine if start.config.cluster.address is None else _cluster)(start.config, data=size)


def _machine(config: StudyConfig, *, data: int | None) -> Iterator[Finding]:
    from study.cluster.node_survey import here, study_packages

    facts = here(study_packages(config))
    devices = probes.gpus() if config.resources.gpus else []
    machine = Node(HERE, HERE, {"CPU": os.cpu_count() or 1, "GPU": len(devices)})
    yield from _node(config, machine, [machine], facts, facts, devices, data=data)


def _cluster(config: StudyConfig, *, data: int | None) -> Iterator[Finding]:
    from study.cluster.node_survey import ask, here, study_packages

    packages = study_packages(config)
    notes().print(f"checking every node of {config.cluster.address} ...")
    with connected(str(config.cluster.address)):
        local_facts, answers = here(packages), ask(packages)
        nodes = [node for node in answers.nodes if node.id in answers.facts]
        for node_id, reason in answers.silent.items():
            yield findings.wrong("answers", answers.name(node_id), f"did not answer ({reason}): check its raylet")
        with_gpus = [node for node in nodes if node.resources.get("GPU")]
        gpus = on_nodes(probes.gpus, with_gpus, fresh=True)
        for node in nodes:
            devices = gpus.get(node.id)
            devices = devices if isinstance(devices, list) else []
            yield from _node(config, node, nodes, answers.facts[node.id], local_facts, devices, data=data)
            yield _clock(node)
        yield from _ports(nodes)


def _clock(node: Node) -> Finding:
    """Compare a node's clock with this machine's, by the quickest of a few answers."""
    readings = []
    for _ in range(CLOCK_READINGS):
        before = time.time()
        node_time = on_nodes(probes.clock, [node])[node.id]
        if not isinstance(node_time, float):
            return findings.wrong("answers", node.name, f"stopped answering ({node_time}): check its raylet")
        readings.append((before, node_time, time.time()))
    return findings.clock(node.name, *min(readings, key=lambda reading: reading[2] - reading[0]))


def _concurrent_trials(config: StudyConfig, node: Node, nodes: Sequence[Node]) -> int:
    """Return how many trials would run on a node at once, at most as many as the study runs on all of `nodes`."""
    fitting = slots(largest_bundle(config.resources, nodes), [node])
    return min(fitting, config.resources.max_concurrent or fitting)


def _node(
    config: StudyConfig,
    node: Node,
    nodes: Sequence[Node],
    facts: Mapping[str, Any],
    local_facts: Mapping[str, Any],
    devices: list[dict[str, Any]],
    *,
    data: int | None,
) -> Iterator[Finding]:
    yield findings.versions(node.name, facts, local_facts)
    yield findings.memory(node.name, facts, slots=_concurrent_trials(config, node, nodes))
    gpus = findings.gpus(node.name, devices, declared=node.resources.get("GPU", 0), needed=bool(config.resources.gpus))
    if gpus is not None:
        yield gpus
    store = node.resources.get("object_store_memory", 0)
    yield findings.shared_memory(node.name, facts, store=store, data=data)


def _ports(nodes: list[Node]) -> Iterator[Finding]:
    """Try to connect from every node to the object stores of the others, and from this machine to the raylets."""
    hosts = {node.id: node.name.split(":")[0] for node in nodes}

    def targets(node: Node) -> list[tuple[str, int]]:
        return [(hosts[other.id], other.object_port) for other in nodes if other.id != node.id and other.object_port]

    answers = on_nodes(probes.connection_errors, nodes, arguments=lambda node: {"targets": targets(node)})
    for node in nodes:
        answer = answers[node.id]
        if isinstance(answer, Exception):
            yield findings.wrong("ports", node.name, f"did not answer ({answer})")
            continue
        closed = [
            f"{host}:{port} ({error})" for (host, port), error in zip(targets(node), answer, strict=True) if error
        ]
        if closed:
            yield findings.wrong(
                "ports",
                node.name,
                f"cannot reach {', '.join(closed)}: open the object manager's port between nodes "
                "(ray start --object-manager-port)",
            )
        else:
            yield findings.fine("ports", node.name, f"reaches the object stores of {len(targets(node))} other nodes")
    raylets = [(hosts[node.id], node.manager_port) for node in nodes if node.manager_port]
    errors = probes.connection_errors(targets=raylets)
    if closed := [f"{host}:{port}" for (host, port), error in zip(raylets, errors, strict=True) if error]:
        yield findings.wrong(
            "ports",
            HERE,
            f"cannot reach {', '.join(closed)}: run the study inside the cluster's network (ray job submit)",
        )
    else:
        yield findings.fine("ports", HERE, f"reaches {len(raylets)} raylets")
