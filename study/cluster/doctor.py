"""`doctor`: every machine a study would use is looked at before a long one starts."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from study.cluster import findings, probes
from study.cluster.findings import HERE, Finding
from study.cluster.preflight import Start, findings_of
from study.cluster.resources import Node, largest_bundle, slots
from study.config.schema import StudyConfig
from study.console import notes, results

_DEFAULTS = {"name": "doctor", "dataset": {"name": "digits"}, "search": {"space": "core"}}


def examined(
    source: str | None, /, *, assignments: Sequence[str], out: Path, data_root: Path | None, address: str | None
) -> Start:
    """Return the study whose start is looked at.

    Args:
        source: YAML file, preset, or a study's folder; None for every key's default.
        assignments: `key=value` replacements.
        out: Folder in which a new study's folder would be made.
        data_root: Replaces `dataset.root`.
        address: Replaces `cluster.address`.

    Raises:
        UsageError: No such study or config, or one that is wrong.
    """
    from study.config.loading import load_config
    from study.config.paths import resolved
    from study.directory.layout import CONFIG_FILE

    known = None if source is None else Path(source) / CONFIG_FILE
    is_new = known is None or not known.is_file()
    config = resolved(
        load_config(
            _DEFAULTS if source is None else source if is_new else str(known),
            assignments=assignments,
            data_root=None if data_root is None else str(data_root),
            address=address,
        )
    )
    return Start(config, out / config.name if is_new else Path(str(source)), is_new=is_new)


def look(start: Start, /, *, as_json: bool) -> None:
    """Look at this machine, and at every node of `cluster.address`; print a line a check.

    Args:
        start: What the study would be: its storage, tracking, data set and resources are what is checked.
        as_json: Print one JSON object instead.

    Raises:
        SystemExit: Code 1, when anything is wrong.
        UsageError: No cluster answers at the address.
    """
    found: list[Finding] = []
    console = results()
    start.nodes()  # without a cluster there is nothing to look at
    for finding in _examine(start):
        found.append(finding)
        if not as_json:
            console.print(
                f"{'ok     ' if finding.ok else 'PROBLEM'}  {finding.check:<9} {finding.node:<22} {finding.text}"
            )
    wrong = sum(not finding.ok for finding in found)
    if as_json:
        checks = [{"check": one.check, "node": one.node, "ok": one.ok, "said": one.text} for one in found]
        console.print_json(json.dumps({"ok": not wrong, "checks": checks}))
    else:
        console.print(f"{len(found)} checks, {wrong or 'nothing'} wrong")
    if wrong:
        raise SystemExit(1)


def _examine(start: Start) -> Iterator[Finding]:
    """Yield what would keep the study from starting, then what would slow or stop it on its machines."""
    yield from findings_of(start)
    size = None if start.data is None else start.num_bytes()
    yield from (_machine if start.config.cluster.address is None else _cluster)(start.config, data=size)


def _machine(config: StudyConfig, *, data: int | None) -> Iterator[Finding]:
    from study.cluster.node_survey import here, study_packages

    facts = here(study_packages(config))
    yield findings.versions(HERE, facts, facts)
    devices = probes.gpus() if config.resources.gpus else []
    machine = Node(HERE, HERE, {"CPU": os.cpu_count() or 1, "GPU": len(devices)})
    yield findings.memory(HERE, facts, slots=_at_once(config, machine, [machine]))
    if config.resources.gpus:
        finding = findings.gpus(HERE, devices, declared=0, wanted=True)
        if finding is not None:
            yield finding
    yield findings.shared_memory(HERE, facts, store=0, data=data)


def _cluster(config: StudyConfig, *, data: int | None) -> Iterator[Finding]:
    from study.cluster.connection import connected, on_nodes
    from study.cluster.node_survey import ask, here, study_packages

    packages = study_packages(config)
    notes().print(f"asking every node of {config.cluster.address} ...")
    with connected(str(config.cluster.address)):
        mine, found = here(packages), ask(packages)
        nodes = [node for node in found.nodes if node.id in found.facts]
        for node_id, reason in found.silent.items():
            yield findings.wrong("answers", found.name(node_id), f"{reason}: look at that node's raylet")
        with_gpus = [node for node in nodes if node.resources.get("GPU")]
        seen = on_nodes(probes.gpus, with_gpus, fresh=True) if with_gpus else {}
        for node in nodes:
            facts = found.facts[node.id]
            yield findings.versions(node.name, facts, mine)
            yield findings.memory(node.name, facts, slots=_at_once(config, node, nodes))
            devices = seen.get(node.id)
            finding = findings.gpus(
                node.name,
                devices if isinstance(devices, list) else [],
                declared=node.resources.get("GPU", 0),
                wanted=bool(config.resources.gpus),
            )
            if finding is not None:
                yield finding
            store = node.resources.get("object_store_memory", 0)
            yield findings.shared_memory(node.name, facts, store=store, data=data)
            before = time.time()
            there = on_nodes(probes.clock, [node])[node.id]
            if isinstance(there, float):
                yield findings.clock(node.name, before, there, time.time())
            else:
                yield findings.wrong("answers", node.name, f"stopped answering ({there}): look at that node's raylet")
        yield from _ports(nodes, on_nodes)


def _at_once(config: StudyConfig, node: Node, nodes: Sequence[Node]) -> int:
    """Return how many trials a node would hold at once, of those the study runs at once on all of `nodes`."""
    fitting = slots(largest_bundle(config.resources, nodes), [node])
    return min(fitting, config.resources.max_concurrent or fitting)


def _ports(nodes: list[Node], on_nodes: Callable[..., dict[str, Any]]) -> Iterator[Finding]:
    """Try, from every node, the ports that objects come through from the others, and from here the raylets'."""
    hosts = {node.id: node.name.split(":")[0] for node in nodes}

    def targets(node: Node) -> list[tuple[str, int]]:
        return [(hosts[other.id], other.object_port) for other in nodes if other.id != node.id and other.object_port]

    answers = on_nodes(probes.reachable, nodes, arguments=lambda node: {"targets": targets(node)})
    for node in nodes:
        answer = answers[node.id]
        if isinstance(answer, Exception):
            yield findings.wrong("ports", node.name, f"did not answer ({answer})")
            continue
        closed = [f"{host}:{port} ({why})" for (host, port), why in zip(targets(node), answer, strict=True) if why]
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
    closed = [
        f"{host}:{port}" for (host, port), why in zip(raylets, probes.reachable(targets=raylets), strict=True) if why
    ]
    said = f"cannot reach {', '.join(closed)}: run the study on a machine inside the cluster's network (ray job submit)"
    yield (
        findings.wrong("ports", HERE, said)
        if closed
        else findings.fine("ports", HERE, f"reaches {len(raylets)} raylets")
    )
