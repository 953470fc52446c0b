"""How often a trial was begun, and which of its ends count against it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError

MAX_FAILURES = 3
"""Failures of its own after which a trial is failed: it is begun at most so many times, lost nodes aside."""

MAX_LOSSES = 10
"""Nodes that may be lost under a trial without an epoch in between; more look like its own doing."""

_NODE_LOST = ("node has died", "the actor's node was", "node was preempted", "NodeDiedError")
_NOTICE_SECONDS = 4.0


class RetryCounter:
    """Counts the attempts at one trial.

    Args:
        before: Attempts of earlier drivers.

    Attributes:
        count: Times the trial was begun, those of earlier drivers included.
        failures: Ends that count against it.
    """

    def __init__(self, before: int = 0) -> None:
        self.count = before
        self.failures = 0
        self._losses = 0

    def begun(self) -> None:
        """Count a beginning."""
        self.count += 1

    def progressed(self) -> None:
        """Note that an epoch was reported: what was lost before it no longer counts."""
        self._losses = 0

    def ended(self, *, node_lost: bool) -> bool:
        """Count an end before the trial's own; return whether the trial is to be given up."""
        if node_lost:
            self._losses += 1
        else:
            self.failures += 1
        return self.failures >= MAX_FAILURES or self._losses > MAX_LOSSES


def lost_nodes() -> int:
    """Return how many nodes the connected cluster has lost so far."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call] # Ray leaves it untyped
    return sum(not node["Alive"] for node in nodes)


def is_node_loss(
    error: BaseException | None,
    text: str,
    /,
    *,
    lost_at_start: int,
    lost: Callable[[], int] = lost_nodes,
    patience: float = _NOTICE_SECONDS,
) -> bool:
    """Return whether a trial ended because its node was drained, killed or frozen, not by its own doing.

    A worker that cannot be reached may have died or its node may have; which of them shows when the cluster
    notices the node, so that is waited for.

    Args:
        error: What ended the attempt, where it could be kept.
        text: What it said.
        lost_at_start: Nodes lost when the attempt began.
        lost: Counts the nodes lost by now.
        patience: Longest wait in seconds.
    """
    if getattr(error, "preempted", False) or any(words in text for words in _NODE_LOST):
        return True
    if not isinstance(error, RayActorError) and "ActorUnavailableError" not in text:
        return False
    deadline = time.monotonic() + (patience if isinstance(error, ActorUnavailableError) else 0.0)
    while not (found := lost() > lost_at_start) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found
