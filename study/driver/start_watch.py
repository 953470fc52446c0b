"""Notices that trials start and none of them runs, which Ray does not report as an error."""

from __future__ import annotations

import time
from collections.abc import Callable

from study.cluster.ray_settings import temporary_folder

START_SECONDS = 60.0
"""A worker process and its libraries take a quarter of this on a slow machine."""


class StartWatch:
    """Says once, each time that no trial has been running for `START_SECONDS`, what the cause may be.

    Args:
        address: The cluster's address; None for a Ray on this machine.
        print_line: Prints a line above the progress display.
        clock: Returns a time in seconds.
    """

    def __init__(
        self, address: str | None, *, print_line: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._causes = _local_causes() if address is None else _cluster_causes(address)
        self._print = print_line
        self._clock = clock
        self._since: float | None = None
        self._told = False

    def observe(self, *, running: int, starting: int) -> None:
        """Take note of how many trials run, and how many have been asked for and do not run."""
        if running or not starting:
            self._since, self._told = None, False
        elif self._since is None:
            self._since = self._clock()
        elif not self._told and self._clock() - self._since >= START_SECONDS:
            self._told = True
            self._print(f"trials have been starting for {START_SECONDS:g} s and none is running: {self._causes}")


def _cluster_causes(address: str) -> str:
    return (
        "perhaps nodes cannot reach this machine's ports, so that the data set never arrives "
        f"(robust-study doctor --address {address}), or other jobs hold the cluster's resources (ray status)"
    )


def _local_causes() -> str:
    logs = f"{temporary_folder()[0]}/ray/session_latest/logs"
    return f"perhaps other programs keep this machine busy, or its memory is full (Ray's logs: {logs})"
