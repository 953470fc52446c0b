"""Connecting to a Ray cluster, its nodes, and one task on each of them."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from study.cluster.ray_settings import quiet_ray
from study.cluster.resources import Node
from study.config.values import AUTO
from study.errors import UsageError

CONNECT_SECONDS = 5.0
TASK_SECONDS = 180.0
"""A first task on a node waits for a fresh worker process, which takes seconds to tens of seconds."""


def check_answers(address: str, /) -> None:
    """Check that something listens at HOST:PORT; Ray itself would try for minutes.

    Raises:
        UsageError: Nothing does.
    """
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise UsageError(f"no Ray head answers at {address} ({error}): start one with `ray start --head`") from error


@contextmanager
def connected(address: str, /, **options: Any) -> Iterator[None]:
    """Be connected to the cluster at `address` for the block.

    Args:
        address: `auto` or HOST:PORT.
        options: Of `ray.init`.

    Raises:
        UsageError: No cluster answers there, or it runs another Python or Ray.
    """
    connect(address, **options)
    import ray

    try:
        yield
    finally:
        ray.shutdown()


def connect(address: str, /, **options: Any) -> None:
    """Connect this process to the cluster at `address`; see `connected`."""
    if address != AUTO:
        check_answers(address)
    quiet_ray()
    import ray

    try:
        # Ray prints where it found the cluster, which belongs on neither of our streams
        with contextlib.redirect_stdout(io.StringIO()):
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(f"no Ray cluster can be used at {address}: {first}") from error


def nodes() -> list[Node]:
    """Return the living nodes of the cluster this process is connected to, the head's first."""
    import ray

    found = [
        Node(
            id=str(one["NodeID"]),
            name=str(one["NodeManagerAddress"]),
            resources={str(name): float(amount) for name, amount in one["Resources"].items()},
            manager_port=int(one.get("NodeManagerPort", 0)),
            object_port=int(one.get("ObjectManagerPort", 0)),
        )
        for one in ray.nodes()  # type: ignore[no-untyped-call] # Ray leaves it untyped
        if one["Alive"]
    ]
    found.sort(key=lambda node: ("node:__internal_head__" not in node.resources, node.name, node.id))
    return _distinct(found)


def on_nodes(
    function: Callable[..., Any],
    nodes: Sequence[Node],
    /,
    *,
    arguments: Callable[[Node], Mapping[str, Any]] = lambda node: {},
    fresh: bool = False,
    timeout: float = TASK_SECONDS,
) -> dict[str, Any]:
    """Run a function once on each node, all at the same time.

    Args:
        function: Of a module that `by_value` was called for, so that nodes without our packages can run it.
        nodes: Where.
        arguments: Keyword arguments for a node.
        fresh: End the worker process afterwards, with what it held of a GPU.
        timeout: Seconds after which a node is given up.

    Returns:
        By node id: what it returned, or the exception that kept it from returning.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(max_calls=1 if fresh else 0)(function)
    references = {
        node.id: task.options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
        ).remote(**arguments(node))
        for node in nodes
    }
    end = time.monotonic() + timeout
    results: dict[str, Any] = {}
    for node_id, reference in references.items():
        try:
            results[node_id] = ray.get(reference, timeout=max(0.1, end - time.monotonic()))
        except Exception as error:  # noqa: BLE001 - whatever a node answers with is its result
            results[node_id] = error
            ray.cancel(reference, force=True)
    return results


def by_value(module: Any, /) -> None:
    """Send this module's functions to workers as code, not as names that a node may not be able to import."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(module)  # type: ignore[no-untyped-call] # Ray leaves it untyped


def _distinct(nodes: list[Node]) -> list[Node]:
    """Tell nodes of one machine apart in what is shown: their address gets the raylet's port."""
    names = [node.name for node in nodes]
    return [
        Node(node.id, f"{node.name}:{node.manager_port}", node.resources, node.manager_port, node.object_port)
        if names.count(node.name) > 1
        else node
        for node in nodes
    ]
