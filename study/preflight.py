"""What can be known of the machines before Ray is asked: whether a head answers, whether a trial fits."""

from __future__ import annotations

import os
import socket

from study.config import StudyConfig
from study.errors import UsageError

CONNECT_SECONDS = 5.0


def check_resources(config: StudyConfig, /) -> None:
    """Check that the cluster answers, or that this machine has what one trial asks for.

    Raises:
        UsageError: Nothing listens at `cluster.address`, or `resources` exceeds this machine.
    """
    address = config.cluster.address
    if address is None:
        _check_machine(config)
    elif address != "auto":
        _check_answers(address)


def _check_machine(config: StudyConfig) -> None:
    cpus, gpus = os.cpu_count() or 1, 0
    if config.resources.gpus:
        import torch

        gpus = torch.cuda.device_count()
    for name, wanted, found in (("cpus", config.resources.cpus, cpus), ("gpus", config.resources.gpus, gpus)):
        if wanted > found:
            raise UsageError(
                f"`resources.{name}` asks {wanted:g} for each trial and this machine has {found}: "
                f"set fewer with --set resources.{name}={found}, or name a cluster with --address"
            )


def _check_answers(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"`cluster.address` must be auto or HOST:PORT, got {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise UsageError(f"no Ray head answers at {address} ({error}): start one with `ray start --head`") from error
