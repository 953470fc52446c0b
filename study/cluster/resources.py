"""What one trial holds of a cluster, and whether nodes can ever give it; knows nothing of Ray."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from study.config.schema import ResourcesConfig
from study.errors import UsageError

ACCELERATOR = "accelerator_type:"
"""Prefix of the resource that Ray gives a node for the type of its accelerators; a node has 1 of it."""

_ACCELERATOR_SHARE = 0.001
_TOLERANCE = 1e-9
_SHOWN_NODES = 8


@dataclass(frozen=True)
class Node:
    """A node of a cluster as its head knows it.

    Attributes:
        id: Ray's id, hexadecimal.
        name: Its address, which Ray's own tools show.
        resources: Amounts it has in all, in Ray's names (`CPU`, `GPU`, custom ones).
        manager_port: Port of its raylet; 0 where unknown.
        object_port: Port that other nodes fetch objects from; 0 where unknown.
    """

    id: str
    name: str
    resources: dict[str, float]
    manager_port: int = 0
    object_port: int = 0


def bundle(resources: ResourcesConfig, /, *, gpus: float) -> dict[str, float]:
    """Return what Tune reserves for each trial of a study, one bundle for all trials so that workers stay warm.

    Args:
        resources: The study's `resources`.
        gpus: GPUs a trial, a fraction where trials share one.
    """
    wanted = {"CPU": resources.cpus, "GPU": gpus, **resources.custom}
    if resources.accelerator_type is not None:
        wanted[ACCELERATOR + resources.accelerator_type] = _ACCELERATOR_SHARE
    return {name: amount for name, amount in wanted.items() if amount}


def largest_bundle(resources: ResourcesConfig, nodes: Sequence[Node], /) -> dict[str, float]:
    """Return what a trial reserves at most on these nodes, before it is known what `gpus: auto` comes to.

    Args:
        resources: The study's `resources`.
        nodes: Where; `auto` is no more than a whole GPU, and 0 where none of them has one.
    """
    gpus = resources.gpus
    if gpus == "auto":
        gpus = 1.0 if any(node.resources.get("GPU") for node in nodes) else 0.0
    return bundle(resources, gpus=gpus)


def slots(wanted: dict[str, float], nodes: Sequence[Node], /) -> int:
    """Return how many trials the nodes hold at once, each whole on one node."""
    return sum(_fitting(wanted, node.resources) for node in nodes)


def check_satisfiable(wanted: dict[str, float], nodes: Sequence[Node], /) -> None:
    """Check that some node can ever hold a trial.

    Raises:
        UsageError: None can; the message says what nodes have.
    """
    if slots(wanted, nodes):
        return
    found = [f"{node.name}: {_amounts(node.resources)}" for node in nodes[:_SHOWN_NODES]]
    if len(nodes) > _SHOWN_NODES:
        found.append(f"and {len(nodes) - _SHOWN_NODES} more")
    raise UsageError(
        f"`resources` asks {_amounts(wanted)} for each trial on one node, and no node has that; "
        f"nodes have: {'; '.join(found) or 'no node is alive'}. Ask for less with --set resources.KEY=VALUE"
    )


def _fitting(wanted: dict[str, float], has: dict[str, float]) -> int:
    counts = [math.floor(has.get(name, 0.0) / amount + _TOLERANCE) for name, amount in wanted.items()]
    gpu = wanted.get("GPU", 0.0)
    if 0 < gpu < 1:
        # A fraction never spans two devices: a third of each fits three times, not 3.33 times.
        counts.append(math.floor(has.get("GPU", 0.0)) * math.floor(1 / gpu + _TOLERANCE))
    return max(0, min(counts, default=0))


def _amounts(resources: dict[str, float]) -> str:
    names = {"CPU": "cpus", "GPU": "gpus"}
    parts = [f"{resources.get(ray_name, 0):g} {name}" for ray_name, name in names.items()]
    parts += [
        name.removeprefix(ACCELERATOR) if name.startswith(ACCELERATOR) else f"{amount:g} {name}"
        for name, amount in sorted(resources.items())
        if name not in names and not _is_own(name)
    ]
    return ", ".join(parts)


def _is_own(name: str) -> bool:
    return name.startswith(("node:", "memory", "object_store_memory"))
