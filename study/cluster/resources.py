"""The resources that a trial reserves, and how many trials fit on a cluster's nodes; independent of Ray."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from study.cluster.cpu_time import cpu_training, small_preset
from study.config.schema import ResourcesConfig, StudyConfig
from study.errors import UsageError

if TYPE_CHECKING:
    from trainables.data.base import ImageData

ACCELERATOR = "accelerator_type:"
"""Prefix of the resource that Ray gives a node for its type of accelerator; the node has 1 of it."""

_ACCELERATOR_SHARE = 0.001
_TOLERANCE = 1e-9
_SHOWN_NODES = 8


@dataclass(frozen=True)
class Node:
    """A node of a cluster, as the head reports it.

    Attributes:
        id: Ray's id, hexadecimal.
        name: Its address, as Ray's own tools show it.
        resources: Total amounts by Ray's names (`CPU`, `GPU`, custom ones).
        manager_port: Port of its raylet; 0 if unknown.
        object_port: Port that other nodes fetch objects from; 0 if unknown.
    """

    id: str
    name: str
    resources: dict[str, float]
    manager_port: int = 0
    object_port: int = 0


def bundle(resources: ResourcesConfig, /, *, gpus: float) -> dict[str, float]:
    """Return what Tune reserves for a trial: the same for all trials of a study, so that workers can be reused.

    Args:
        resources: The study's `resources`.
        gpus: GPUs for each trial, a fraction if trials share one.
    """
    amounts = {"CPU": resources.cpus, "GPU": gpus, **resources.custom}
    if resources.accelerator_type is not None:
        amounts[ACCELERATOR + resources.accelerator_type] = _ACCELERATOR_SHARE
    return {name: amount for name, amount in amounts.items() if amount}


def largest_bundle(resources: ResourcesConfig, nodes: Sequence[Node], /) -> dict[str, float]:
    """Return the most that a trial can reserve on these nodes, while the share for `gpus: auto` is not measured.

    Args:
        resources: The study's `resources`.
        nodes: The nodes; `auto` counts as a whole GPU, and as 0 if none of them has one.
    """
    gpus = resources.gpus
    if gpus == "auto":
        gpus = 1.0 if any(node.resources.get("GPU") for node in nodes) else 0.0
    return bundle(resources, gpus=gpus)


def slots(request: dict[str, float], nodes: Sequence[Node], /) -> int:
    """Return how many trials fit on the nodes at once, each on a single node."""
    return sum(_fitting(request, node.resources) for node in nodes)


def check_satisfiable(request: dict[str, float], nodes: Sequence[Node], /, *, config: StudyConfig) -> None:
    """Check that a trial of a study fits on some node.

    Raises:
        UsageError: It fits on none; the message lists what nodes have.
    """
    if slots(request, nodes):
        return
    have = [f"{node.name}: {_amounts(node.resources)}" for node in nodes[:_SHOWN_NODES]]
    if len(nodes) > _SHOWN_NODES:
        have.append(f"and {len(nodes) - _SHOWN_NODES} more")
    has_gpu = any(node.resources.get("GPU") for node in nodes)
    small = "" if has_gpu or not request.get("GPU") else small_preset(config)
    raise UsageError(
        f"`resources` needs {_amounts(request)} for each trial on one node, and no node has that; "
        f"nodes have: {'; '.join(have) or 'no node is alive'}: {small}reserve less with --set resources.KEY=VALUE"
    )


def _fitting(request: dict[str, float], available: dict[str, float]) -> int:
    counts = [math.floor(available.get(name, 0.0) / amount + _TOLERANCE) for name, amount in request.items()]
    gpu = request.get("GPU", 0.0)
    if 0 < gpu < 1:
        # A fraction never spans two devices: a third of each fits three times, not 3.33 times.
        counts.append(math.floor(available.get("GPU", 0.0)) * math.floor(1 / gpu + _TOLERANCE))
    return max(0, min(counts, default=0))


def _amounts(resources: dict[str, float]) -> str:
    names = {"CPU": "cpus", "GPU": "gpus"}
    parts = [f"{resources.get(ray_name, 0):g} {name}" for ray_name, name in names.items()]
    parts += [
        name.removeprefix(ACCELERATOR) if name.startswith(ACCELERATOR) else f"{amount:g} {name}"
        for name, amount in sorted(resources.items())
        if name not in names and not name.startswith(("node:", "memory", "object_store_memory"))
    ]
    return ", ".join(parts)


def gpus_here() -> int:
    """Return how many GPUs this machine has."""
    import torch

    return torch.cuda.device_count()


def check_here(config: StudyConfig, data: ImageData | None, /) -> None:
    """Check that this machine can run a trial.

    Args:
        config: The study's config.
        data: Its data set, for the time that training takes without a GPU; None if it is not loaded.

    Raises:
        UsageError: A trial needs more than this machine has.
    """
    cpus, gpus = os.cpu_count() or 1, 0
    needed_gpus = 0 if config.resources.gpus == "auto" else config.resources.gpus
    if needed_gpus:
        gpus = gpus_here()
        if not gpus:
            time = "" if data is None else f"; {cpu_training(config, data)}"
            raise UsageError(
                f"`resources.gpus` is {needed_gpus:g} for each trial and this machine has 0{time}: "
                f"{small_preset(config)}use a cluster with --address, or accept that with --set resources.gpus=0"
            )
    for name, needed, available in (("cpus", config.resources.cpus, cpus), ("gpus", needed_gpus, gpus)):
        if needed > available:
            raise UsageError(
                f"`resources.{name}` is {needed:g} for each trial and this machine has {available}: "
                f"set fewer with --set resources.{name}={available}, or use a cluster with --address"
            )
    if config.resources.custom:
        name = next(iter(config.resources.custom))
        raise UsageError(
            f"`resources.custom` needs {name!r}, which Ray on this machine does not have: "
            "use a cluster that has it with --address"
        )
