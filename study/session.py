"""Ray for the length of a study: started on this machine, or joined where a cluster runs already."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from study.quiet import quiet_ray

quiet_ray()

import ray  # noqa: E402 - its chatter is turned off by variables that it reads when it is imported

from study.config import StudyConfig  # noqa: E402

# A node that does not answer is given up after about 3 * (1 + 2) s; Ray's own settings take a minute.
_HEALTH_CHECKS = {
    "RAY_health_check_initial_delay_ms": "5000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}


@contextmanager
def ray_session(config: StudyConfig, /) -> Iterator[None]:
    """Start Ray on this machine, or connect to `cluster.address`; leave it when the block ends.

    Args:
        config: The study's config.
    """
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if config.cluster.address is None:
        for name, value in _HEALTH_CHECKS.items():
            os.environ.setdefault(name, value)
        options |= {"num_cpus": os.cpu_count(), "include_dashboard": False}
        # Ray starts workers through a shell and leaves this one path unquoted
        if shlex.quote(sys.executable) != sys.executable:
            options["runtime_env"] = {"py_executable": shlex.quote(sys.executable)}
    ray.init(address=config.cluster.address or "local", **options)
    try:
        yield
    finally:
        ray.shutdown()


def slots(config: StudyConfig, /) -> int:
    """Return how many trials the connected cluster runs at once, at least 1."""
    if config.resources.max_concurrent is not None:
        return config.resources.max_concurrent
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call] # Ray leaves it untyped
    found = [total.get("CPU", 0) / config.resources.cpus]
    if config.resources.gpus:
        found.append(total.get("GPU", 0) / config.resources.gpus)
    return max(1, int(min(found)))
