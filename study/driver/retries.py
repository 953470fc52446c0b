"""Count a trial's attempts and decide when it has failed for good."""

from __future__ import annotations

import time
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError

MAX_FAILURES = 3
"""Attempts after which a trial has failed for good; those that ended with a lost node do not count."""

MAX_LOSSES = 10
"""Nodes that a trial may lose without reporting an epoch in between; with more, it is taken to bring them down."""

_NODE_LOST = ("node has died", "the actor's node was", "node was preempted", "NodeDiedError")
DETECTION_SECONDS = 4.0
"""Longest wait for the cluster to detect the loss of a node."""


class RetryCounter:
    """Counts the attempts at one trial.

    Args:
        earlier: Number of attempts by earlier drivers.

    Attributes:
        count: Number of attempts, those by earlier drivers included.
        failures: Number of failures of the trial's own.
    """

    def __init__(self, earlier: int = 0) -> None:
        self.count = earlier
        self.failures = 0
        self._losses = 0

    def attempt_started(self) -> None:
        """Count an attempt."""
        self.count += 1

    def epoch_reported(self) -> None:
        """Reset the count of lost nodes: only those since the last reported epoch count."""
        self._losses = 0

    def attempt_failed(self, *, node_lost: bool) -> bool:
        """Count a failed attempt; return whether the trial has failed for good."""
        if node_lost:
            self._losses += 1
        else:
            self.failures += 1
        return self.failures >= MAX_FAILURES or self._losses > MAX_LOSSES


def lost_nodes() -> int:
    """Return how many nodes the connected cluster has lost so far."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call] # untyped in Ray
    return sum(not node["Alive"] for node in nodes)


def is_node_loss(error: BaseException | None, text: str, /, *, lost_at_start: int) -> bool:
    """Return whether an attempt failed because its node was drained, killed or frozen, through no fault of the trial.

    Where a worker cannot be reached, either it or its node has died. The two are distinguished by waiting for the
    cluster to detect the loss of a node.

    Args:
        error: The exception that ended the attempt, where it could be loaded.
        text: Its traceback.
        lost_at_start: Number of nodes lost when the attempt started.
    """
    if getattr(error, "preempted", False) or any(phrase in text for phrase in _NODE_LOST):
        return True
    if not isinstance(error, RayActorError) and "ActorUnavailableError" not in text:
        return False
    deadline = time.monotonic() + (DETECTION_SECONDS if isinstance(error, ActorUnavailableError) else 0.0)
    while not (node_lost := lost_nodes() > lost_at_start) and time.monotonic() < deadline:
        time.sleep(0.2)
    return node_lost
