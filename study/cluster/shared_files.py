"""Whether every machine of a study writes to and reads from the place where checkpoints go."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from study.cluster import findings, probes
from study.cluster.findings import HERE, Finding
from study.cluster.resources import Node, largest_bundle, slots
from study.config.paths import pools
from study.config.schema import StudyConfig


def place(config: StudyConfig, study_dir: Path, /) -> str:
    """Return where a study's checkpoints go: a URL, or the folder that is there already, on the way to it.

    Args:
        config: The study's config.
        study_dir: Its folder, or the one it would have.
    """
    location = config.storage.checkpoints or str(study_dir / "checkpoints")
    return location if "://" in location else str(_existing(Path(location).expanduser().resolve()))


def everywhere(nodes: Sequence[Node], location: str, /) -> list[Finding]:
    """Have every node and this machine write a file to a place and read all of them; a finding for each machine."""

    def ask(function: Callable[..., Any], wanted: Callable[[Node], dict[str, Any]]) -> dict[str, Any]:
        if not nodes:
            return {}
        from study.cluster.connection import on_nodes

        return on_nodes(function, nodes, arguments=wanted)

    return exchange({node.id: node.name for node in nodes}, location, ask=ask)


def exchange(
    names: dict[str, str],
    location: str,
    *,
    ask: Callable[[Callable[..., Any], Callable[[Node], dict[str, Any]]], dict[str, Any]],
) -> list[Finding]:
    """Have every machine write a file, then every machine read all of them.

    Args:
        names: Nodes' names by id; this machine takes part besides.
        location: Where checkpoints would lie.
        ask: Runs a probe on every node.
    """
    token = uuid.uuid4().hex[:8]
    files = {key: f"doctor-{token}-{number}" for number, key in enumerate([HERE, *names])}
    shown = {HERE: "this machine", **names}
    written = ask(probes.write, lambda node: {"location": location, "name": files[node.id], "text": token})
    written[HERE] = _tried(probes.write, location=location, name=files[HERE], text=token)
    wanted = list(files.values())
    read = ask(probes.read, lambda node: {"location": location, "names": wanted})
    read[HERE] = _tried(probes.read, location=location, names=wanted)
    found = []
    for key in files:
        problem = written[key] if isinstance(written[key], Exception) else None
        answer = read[key] if isinstance(read[key], dict) else {}
        missing = [
            shown[other]
            for other, name in files.items()
            if not isinstance(written[other], Exception) and answer.get(name) != token
        ]
        said = None if problem is None else str(problem).strip().splitlines()[-1]
        found.append(findings.storage(HERE if key == HERE else names[key], location, written=said, missing=missing))
    # each removes its own: without a common place nobody else can
    ask(probes.remove, lambda node: {"location": location, "names": [files[node.id]]})
    _tried(probes.remove, location=location, names=[files[HERE]])
    return found


def _tried(function: Callable[..., Any], **arguments: Any) -> Any:
    try:
        return function(**arguments)
    except Exception as error:  # noqa: BLE001 - what this machine cannot do is a finding
        return error


def _existing(path: Path) -> Path:
    """Return `path` or the first above it that is there: looking leaves nothing behind, not even a folder."""
    # os.path takes what may not be looked into as not there
    return next(one for one in (path, *path.parents) if os.path.exists(one))


def unlabelled(config: StudyConfig, nodes: Sequence[Node], /) -> Iterator[Finding]:
    """Yield a finding for each node that holds trials of a study whose methods use unlabelled images, else nothing."""
    named = pools(config)
    wanted = largest_bundle(config.resources, nodes)
    holding = [node for node in nodes if slots(wanted, [node])]
    if not named or not holding:
        return
    from study.cluster.connection import on_nodes

    arguments = {"names": named, "root": config.dataset.root}
    answers = on_nodes(probes.lacking_images, holding, arguments=lambda node: arguments)
    for node in holding:
        answer = answers[node.id]
        lacking = [str(answer)] if isinstance(answer, Exception) else answer
        if lacking:
            said = f"{'; '.join(lacking)}: workers load these images from their own disk, so put them on every node's"
            yield findings.wrong("data", node.name, said)
        else:
            yield findings.fine("data", node.name, f"has the unlabelled images {', '.join(named)}")
