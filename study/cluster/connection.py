"""Connecting to a Ray cluster, listing its nodes, and running a function on each of them."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from study.cluster.ray_settings import quiet_ray
from study.cluster.resources import Node
from study.config.values import AUTO
from study.errors import UsageError

CONNECT_SECONDS = 5.0
"""Until the head must accept a connection, and list a node whose processes run on this machine."""

HEAD_SECONDS = 30.0
"""Until a busy head must have listed its nodes."""

TASK_SECONDS = 180.0
"""The first task on a node waits for a new worker process, which can take tens of seconds."""


@contextmanager
def connected(address: str, /, **options: Any) -> Iterator[None]:
    """Connect to the cluster at `address` for the length of a `with` block.

    Args:
        address: `auto` or HOST:PORT.
        options: Of `ray.init`.

    Raises:
        UsageError: No cluster answers there, it refuses this machine's token, this machine is none of its nodes, or it
            runs another Python or Ray.
    """
    if address != AUTO:  # Ray itself would try for minutes
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
        except OSError as error:
            raise UsageError(
                f"no Ray head answers at {address} ({error}): start one with `ray start --head`"
            ) from error
    quiet_ray()
    import ray
    from ray.exceptions import RayError

    try:
        _require_node(address)
        # Ray prints the address of the cluster, which belongs neither to the results nor to the notes
        with contextlib.redirect_stdout(io.StringIO()):
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **options)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        # that of other versions of Python or Ray names them on lines of their own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"no Ray cluster can be used at {address}: {reason[:400]}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _require_node(address: str) -> None:
    """Check at once what Ray itself would retry for a minute: the token, and that this machine is a node.

    Only what takes the connection and then says nothing is waited for as long as Ray does.

    Raises:
        UsageError: The head refuses the token or is silent, or this machine is no node of the cluster.
    """
    try:
        from ray._private import services
        from ray._private.authentication import authentication_token_setup as tokens
        from ray._raylet import GcsClient  # type: ignore[attr-defined] # Ray's stub leaves it out
    except ImportError:  # another version of Ray, whose own error comes later
        return
    from ray.exceptions import AuthenticationError, RpcError

    try:
        if address == AUTO:
            tokens.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
        tokens.ensure_token_if_auth_enabled(create_token_if_missing=False)
        found = services.canonicalize_bootstrap_address(address)
        head = GcsClient(address=found)
    except AuthenticationError as error:
        raise UsageError(
            f"the Ray cluster at {address} refuses this machine, whose token is missing or not the cluster's: "
            "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to the cluster's token"
        ) from error
    except RpcError as error:
        place = found if address == AUTO else address
        raise UsageError(
            f"no Ray head answers at {place}, where something listens: give the port of `ray start --head --port` "
            "(6379 by default), not that of its dashboard; or the head is frozen or very busy"
        ) from error
    end = time.monotonic() + CONNECT_SECONDS
    while True:
        nodes_here = services.find_node_ids()  # type: ignore[no-untyped-call] # Ray leaves it untyped
        if nodes_here & {node.hex() for node in head.get_all_node_info(timeout=HEAD_SECONDS)}:
            return
        if not nodes_here or time.monotonic() > end:
            break
        time.sleep(0.5)  # its node may have started a moment ago
    raise UsageError(
        f"this machine is no node of the Ray cluster at {address}: first run "
        f"`ray start --address={'HOST:PORT' if address == AUTO else address} --num-cpus=0` here, or submit the study "
        "with `ray job submit` (docs/cluster.md)"
    )


def nodes() -> list[Node]:
    """Return the live nodes of the connected cluster, the head first."""
    import ray

    live = [
        Node(
            id=str(record["NodeID"]),
            name=str(record["NodeManagerAddress"]),
            resources={str(name): float(amount) for name, amount in record["Resources"].items()},
            manager_port=int(record.get("NodeManagerPort", 0)),
            object_port=int(record.get("ObjectManagerPort", 0)),
        )
        for record in ray.nodes()  # type: ignore[no-untyped-call] # Ray leaves it untyped
        if record["Alive"]
    ]
    live.sort(key=lambda node: ("node:__internal_head__" not in node.resources, node.name, node.id))
    names = [node.name for node in live]
    # of nodes on the same machine the raylet's port is a part of the name
    return [
        replace(node, name=f"{node.name}:{node.manager_port}") if names.count(node.name) > 1 else node for node in live
    ]


def on_nodes(
    function: Callable[..., Any],
    nodes: Sequence[Node],
    /,
    *,
    arguments: Callable[[Node], Mapping[str, Any]] = lambda node: {},
    fresh: bool = False,
) -> dict[str, Any]:
    """Run a function once on each node, on all at the same time.

    Args:
        function: From a module that was passed to `by_value`, so that nodes without our packages can run it.
        nodes: Nodes to run it on.
        arguments: Keyword arguments for a node.
        fresh: End the worker process afterwards, which frees the GPU memory it held.

    Returns:
        By node id, what the function returned, or the exception that it or Ray raised.
    """
    if not nodes:
        return {}
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
    end = time.monotonic() + TASK_SECONDS
    results: dict[str, Any] = {}
    for node_id, reference in references.items():
        try:
            results[node_id] = ray.get(reference, timeout=max(0.1, end - time.monotonic()))
        except Exception as error:  # noqa: BLE001 - any exception is the node's result
            results[node_id] = error
            ray.cancel(reference, force=True)
    return results


def by_value(module: Any, /) -> None:
    """Send a module's functions to workers as code, since a node may not be able to import them."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(module)  # type: ignore[no-untyped-call] # Ray leaves it untyped
