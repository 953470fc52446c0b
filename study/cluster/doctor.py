"""`doctor`: every machine a study would use is looked at before a long one starts."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from study.cluster import findings, probes
from study.cluster.findings import HERE, Finding
from study.cluster.resources import Node, check_satisfiable, largest_bundle, slots
from study.cluster.shared_files import everywhere, place, unlabelled
from study.config.schema import StudyConfig
from study.console import notes, results
from study.errors import UsageError

_DEFAULTS = {"name": "doctor", "dataset": {"name": "digits"}, "search": {"space": "core"}}


def examined(
    source: str | None, /, *, assignments: Sequence[str], out: Path, data_root: Path | None, address: str | None
) -> tuple[StudyConfig, Path]:
    """Return the config whose machines are looked at, and the folder its study has or would have.

    Args:
        source: YAML file, preset, or a study's folder; None for every key's default.
        assignments: `key=value` replacements.
        out: Folder in which the study's folder would be made.
        data_root: Replaces `dataset.root`.
        address: Replaces `cluster.address`.

    Raises:
        UsageError: No such study or config, or one that is wrong.
    """
    from study.config.loading import config_of, load_config, read_yaml
    from study.config.paths import resolved
    from study.directory.layout import CONFIG_FILE

    given: dict[str, Any] = {
        "assignments": assignments,
        "data_root": None if data_root is None else str(data_root),
        "address": address,
    }
    if source is None:
        config = resolved(config_of(_DEFAULTS, **given))
    elif (Path(source) / CONFIG_FILE).is_file():
        return resolved(config_of(read_yaml(Path(source) / CONFIG_FILE), **given)), Path(source)
    else:
        config = resolved(load_config(source, **given))
    return config, out / config.name


def look(config: StudyConfig, study_dir: Path, /, *, as_json: bool) -> None:
    """Look at this machine, and at every node of `cluster.address`; print a line a check.

    Args:
        config: What the study would be: its storage, tracking, data set and resources are what is checked.
        study_dir: The study's folder; checkpoints go there unless `storage.checkpoints` says otherwise.
        as_json: Print one JSON object instead.

    Raises:
        SystemExit: Code 1, when anything is wrong.
        UsageError: No cluster answers at the address.
    """
    found: list[Finding] = []
    console = results()
    for finding in _examine(config, study_dir):
        found.append(finding)
        if not as_json:
            console.print(
                f"{'ok     ' if finding.ok else 'PROBLEM'}  {finding.check:<9} {finding.node:<22} {finding.said}"
            )
    wrong = sum(not finding.ok for finding in found)
    if as_json:
        console.print_json(json.dumps({"ok": not wrong, "checks": [asdict(finding) for finding in found]}))
    else:
        console.print(f"{len(found)} checks, {wrong or 'nothing'} wrong")
    if wrong:
        raise SystemExit(1)


def _examine(config: StudyConfig, study_dir: Path) -> Iterator[Finding]:
    data, size = _data(config)
    yield data
    yield _tracking(config)
    location = place(config, study_dir)
    if config.cluster.address is None:
        yield from _machine(config, location, data=size)
    else:
        yield from _cluster(config, location, data=size)


def _machine(config: StudyConfig, location: str, *, data: int | None) -> Iterator[Finding]:
    from study.cluster.node_survey import here, study_packages
    from study.cluster.preflight import check_resources

    facts = here(study_packages(config))
    yield findings.versions(HERE, facts, facts)
    try:
        check_resources(config)
    except UsageError as error:
        yield findings.wrong("resources", HERE, str(error))
    else:
        yield findings.fine("resources", HERE, "a trial fits this machine")
    devices = probes.gpus() if config.resources.gpus else []
    machine = Node(HERE, HERE, {"CPU": os.cpu_count() or 1, "GPU": len(devices)})
    yield findings.memory(HERE, facts, slots=_at_once(config, machine, [machine]))
    if config.resources.gpus:
        finding = findings.gpus(HERE, devices, declared=0, wanted=True)
        if finding is not None:
            yield finding
    yield findings.shared_memory(HERE, facts, store=0, data=data)
    yield from everywhere([], location)


def _cluster(config: StudyConfig, location: str, *, data: int | None) -> Iterator[Finding]:
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
        yield _resources(config, nodes)
        yield from unlabelled(config, nodes)
        yield from _ports(nodes, on_nodes)
        yield from everywhere(nodes, location)


def _at_once(config: StudyConfig, node: Node, nodes: Sequence[Node]) -> int:
    """Return how many trials a node would hold at once, of those the study runs at once on all of `nodes`."""
    fitting = slots(largest_bundle(config.resources, nodes), [node])
    return min(fitting, config.resources.max_concurrent or fitting)


def _resources(config: StudyConfig, nodes: list[Node]) -> Finding:
    wanted = largest_bundle(config.resources, nodes)
    try:
        check_satisfiable(wanted, nodes)
    except UsageError as error:
        return findings.wrong("resources", "cluster", str(error))
    measured = ", or more: `auto` is measured at launch" if config.resources.gpus == "auto" and "GPU" in wanted else ""
    return findings.fine("resources", "cluster", f"{slots(wanted, nodes)} trials fit at once{measured}")


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


def _data(config: StudyConfig) -> tuple[Finding, int | None]:
    from study.config.paths import pools
    from trainables.data import DataError, load_dataset
    from trainables.data.unlabelled import check_images

    try:
        data = load_dataset(config.dataset).without_test()
        found = pools(config)
        for pool in found:
            check_images(pool, root=config.dataset.root)
    except (DataError, ValueError) as error:
        return findings.wrong("data", HERE, str(error)), None
    size = sum(split.images.nbytes + split.labels.nbytes for split in (data.train, data.val))
    said = f"{data.name}: {len(data.train)} training and {len(data.val)} validation images, {findings.size(size)}"
    said += "".join(f"; unlabelled images {pool}" for pool in found)
    if config.cluster.address is not None:
        said += "; nodes get it from here through Ray's object store"
        said += ", but for unlabelled images" if found else ""
    return findings.fine("data", HERE, said), size


def _tracking(config: StudyConfig) -> Finding:
    from study.config.values import default_uri
    from study.tracking.availability import endangered, unreachable

    uri = config.tracking.uri or default_uri()
    problem = unreachable(uri) or endangered(uri)
    shown = uri.rpartition("@")[2] if "@" in uri else uri
    if problem is None:
        return findings.fine("tracking", HERE, f"{shown}; only this machine writes to it")
    return findings.wrong("tracking", HERE, f"{shown}: {problem}")
