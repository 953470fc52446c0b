"""Whether every machine of a study can use the checkpoints' location, and has the unlabelled images."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from study.cluster import findings, probes
from study.cluster.findings import HERE, Finding
from study.cluster.resources import Node, largest_bundle, slots
from study.config.paths import extras, pools
from study.config.schema import StudyConfig
from study.directory.checkpoint_folder import checkpoint_root
from study.directory.disk import existing


def checkpoint_location(config: StudyConfig, study_dir: Path, /) -> str:
    """Return where a study's checkpoints go: a URL, or the folder or its nearest parent that exists.

    Args:
        config: The study's config.
        study_dir: Its folder, or the one it would have.
    """
    root = checkpoint_root(config, study_dir)
    return root if isinstance(root, str) else str(existing(root))


def storage_findings(nodes: Sequence[Node], location: str, /) -> list[Finding]:
    """Have every node and this machine write a file to a location and read all files; return a finding for each."""
    from study.cluster.connection import on_nodes

    names = {node.id: node.name for node in nodes}
    return exchange(names, location, ask=lambda probe, arguments: on_nodes(probe, nodes, arguments=arguments))


def exchange(
    names: dict[str, str],
    location: str,
    *,
    ask: Callable[[Callable[..., Any], Callable[[Node], dict[str, Any]]], dict[str, Any]],
) -> list[Finding]:
    """Have every machine write a file, then every machine read all of them.

    Args:
        names: Nodes' names by id; this machine takes part too.
        location: Where checkpoints go.
        ask: Runs a probe on every node.
    """
    token = uuid.uuid4().hex[:8]
    files = {key: f"doctor-{token}-{number}" for number, key in enumerate([HERE, *names])}
    machines = {HERE: "this machine", **names}
    written = ask(probes.write, lambda node: {"location": location, "name": files[node.id], "text": token})
    written[HERE] = _tried(probes.write, location=location, name=files[HERE], text=token)
    all_files = list(files.values())
    read = ask(probes.read, lambda node: {"location": location, "names": all_files})
    read[HERE] = _tried(probes.read, location=location, names=all_files)
    reported = []
    for key in files:
        contents = read[key] if isinstance(read[key], dict) else {}
        missing = [
            machines[other]
            for other, name in files.items()
            if not isinstance(written[other], Exception) and contents.get(name) != token
        ]
        error = written[key] if isinstance(written[key], Exception) else None
        node = HERE if key == HERE else names[key]
        reported.append(findings.storage(node, location, write_error=error, missing=missing))
    # each machine removes its own file: if the location is not shared, no other machine can
    ask(probes.remove, lambda node: {"location": location, "names": [files[node.id]]})
    _tried(probes.remove, location=location, names=[files[HERE]])
    return reported


def _tried(function: Callable[..., Any], **arguments: Any) -> Any:
    try:
        return function(**arguments)
    except Exception as error:  # noqa: BLE001 - the error becomes a finding
        return error


def pool_findings(config: StudyConfig, nodes: Sequence[Node], /) -> Iterator[Finding]:
    """Yield a finding for each node that can run a trial, if the study's methods use unlabelled images."""
    pool_names = [*pools(config), *extras(config)]
    request = largest_bundle(config.resources, nodes)
    trial_nodes = [node for node in nodes if slots(request, [node])]
    if not pool_names or not trial_nodes:
        return
    from study.cluster.connection import on_nodes

    arguments = {"names": pool_names, "root": config.dataset.root}
    answers = on_nodes(probes.missing_images, trial_nodes, arguments=lambda node: arguments)
    for node in trial_nodes:
        answer = answers[node.id]
        problems = [str(answer)] if isinstance(answer, Exception) else answer
        if problems:
            text = f"{'; '.join(problems)}: workers load these images from their own disk, so copy them to every node"
            yield findings.wrong("data", node.name, text)
        else:
            yield findings.fine("data", node.name, f"has the unlabelled images {', '.join(pool_names)}")
