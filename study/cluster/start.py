"""The Ray session of a study: one on this machine, or a cluster's with our code on its way to the workers."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from study.cluster.request import Node, bundle, check_satisfiable, slots
from study.cluster.session import connected, nodes
from study.config import StudyConfig
from study.console import notes


@contextmanager
def ray_session(config: StudyConfig, /) -> Iterator[None]:
    """Have Ray for the block: started on this machine, or the cluster at `cluster.address`.

    Raises:
        UsageError: No cluster answers there, or its nodes cannot run the study's code.
    """
    import ray

    if config.cluster.address is not None:
        from study.cluster.survey import shipped

        environment, remarks = shipped(config, config.cluster.address)
        for line in remarks:
            notes().print(line)
        with connected(config.cluster.address, runtime_env=environment or None):
            yield
        return
    options: dict[str, Any] = {"num_cpus": os.cpu_count(), "include_dashboard": False}
    # Ray starts workers through a shell and leaves this one path unquoted
    if shlex.quote(sys.executable) != sys.executable:
        options["runtime_env"] = {"py_executable": shlex.quote(sys.executable)}
    ray.init(address="local", logging_level=logging.ERROR, log_to_driver=False, **options)
    try:
        yield
    finally:
        ray.shutdown()


def reserved(config: StudyConfig, /, *, gpus: float) -> tuple[dict[str, float], int]:
    """Return what Tune reserves for each trial, and how many trials the cluster holds at once.

    Args:
        config: The study's config.
        gpus: GPUs a trial.

    Raises:
        UsageError: No node can ever hold a trial.
    """
    found: list[Node] = nodes()
    wanted = bundle(config.resources, gpus=gpus)
    check_satisfiable(wanted, found)
    return wanted, slots(wanted, found)
