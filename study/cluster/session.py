"""Ray for the length of a study: started on this machine, or joined where a cluster runs already."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from study.cluster.ray_settings import quiet_ray

quiet_ray()

import ray  # noqa: E402 - its chatter is turned off by variables that it reads when it is imported

from study.cluster.connection import connected, nodes  # noqa: E402
from study.cluster.node_survey import shipped  # noqa: E402
from study.cluster.resources import bundle, check_satisfiable, slots  # noqa: E402
from study.config.schema import StudyConfig  # noqa: E402
from study.console import notes  # noqa: E402
from study.errors import UsageError  # noqa: E402

# A node that does not answer is given up after about 3 * (1 + 3) s; Ray's own settings take a minute.
_HEALTH_CHECKS = {
    "RAY_health_check_initial_delay_ms": "5000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
}

_STARTS = 3


@contextmanager
def ray_session(config: StudyConfig, /) -> Iterator[None]:
    """Start Ray on this machine, or connect to `cluster.address`; leave it when the block ends.

    Code of ours or the user's that nodes of a cluster lack is on its way to their workers then.

    Args:
        config: The study's config.

    Raises:
        UsageError: No cluster answers there, or its nodes cannot run the study's code.
    """
    if config.cluster.address is not None:
        environment, remarks = shipped(config, config.cluster.address)
        for line in remarks:
            notes().print(line)
        with connected(config.cluster.address, runtime_env=environment or None):
            yield
        return
    for name, value in _HEALTH_CHECKS.items():
        os.environ.setdefault(name, value)
    options: dict[str, Any] = {"num_cpus": os.cpu_count(), "include_dashboard": False}
    # Ray starts workers through a shell and leaves this one path unquoted
    if shlex.quote(sys.executable) != sys.executable:
        options["runtime_env"] = {"py_executable": shlex.quote(sys.executable)}
    _start(options)
    try:
        yield
    finally:
        ray.shutdown()


def _start(options: dict[str, Any]) -> None:
    """Start Ray here, again where it did not come up: it gives itself 30 s, which a busy machine may not keep."""
    for left in reversed(range(_STARTS)):
        try:
            ray.init(address="local", logging_level=logging.ERROR, log_to_driver=False, **options)
        except Exception as error:  # Ray raises no narrower class
            ray.shutdown()
            reason = (str(error) or type(error).__name__).splitlines()[0]
            if not left:
                raise UsageError(
                    f"Ray does not start on this machine ({reason}): wait until it is less busy and `resume`, "
                    "or name a cluster with --address"
                ) from error
            notes().print(f"Ray did not start ({reason}); trying again")
        else:
            return


def sum_of(resource: str, /) -> float:
    """Return how much of a resource, in Ray's name for it, the connected cluster's nodes have together."""
    return sum(node.resources.get(resource, 0) for node in nodes())


def reserved(config: StudyConfig, /, *, gpus: float) -> tuple[dict[str, float], int]:
    """Return what Tune reserves for each trial, and how many trials the connected cluster holds at once.

    Args:
        config: The study's config.
        gpus: GPUs a trial.

    Raises:
        UsageError: No node can ever hold a trial.
    """
    found = nodes()
    wanted = bundle(config.resources, gpus=gpus)
    check_satisfiable(wanted, found)
    return wanted, slots(wanted, found)


def room(wanted: dict[str, float], /) -> int:
    """Return how many trials, of so much each, the nodes hold that are alive now."""
    return slots(wanted, nodes())
