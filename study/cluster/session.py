"""Ray for the length of a study: started on this machine, or the cluster that the config names."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from study.cluster.ray_settings import keep_token_private, quiet_ray, temporary_folder

quiet_ray()

import ray  # noqa: E402 - reads the variables of quiet_ray when it is imported

from study.cluster.connection import connected, nodes  # noqa: E402
from study.cluster.node_survey import shipped  # noqa: E402
from study.cluster.resources import bundle, check_satisfiable, slots  # noqa: E402
from study.config.schema import StudyConfig  # noqa: E402
from study.config.trust import output_folder  # noqa: E402
from study.console import notes  # noqa: E402
from study.errors import UsageError  # noqa: E402

# A node that does not answer counts as lost after about 3 * (1 + 3) s; by Ray's defaults it takes a minute.
_HEALTH_CHECKS = {
    "RAY_health_check_initial_delay_ms": "5000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
}

_START_ATTEMPTS = 3


@contextmanager
def ray_session(config: StudyConfig, /) -> Iterator[None]:
    """Start Ray on this machine, or connect to `cluster.address`, for the length of a `with` block.

    Code of the project or the user that is missing on the cluster's nodes is shipped to their workers.

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
    options["_temp_dir"] = f"{temporary_folder()[0]}/ray"
    # Ray starts workers through a shell and does not quote this path
    if shlex.quote(sys.executable) != sys.executable:
        options["runtime_env"] = {"py_executable": shlex.quote(sys.executable)}
    keep_token_private()
    _start(options)
    try:
        yield
    finally:
        ray.shutdown()


def _start(options: dict[str, Any]) -> None:
    """Start Ray on this machine, with retries: a busy machine may need more than the 30 s that Ray allows."""
    for attempts_left in reversed(range(_START_ATTEMPTS)):
        try:
            # workers look for modules in the folder in which Ray is started, which must not be a study's output folder
            output = output_folder(Path.cwd())
            with contextlib.chdir("." if output is None else output.parent):
                ray.init(address="local", logging_level=logging.ERROR, log_to_driver=False, **options)
        except Exception as error:  # Ray raises no narrower class
            ray.shutdown()
            reason = (str(error) or type(error).__name__).splitlines()[0]
            if not attempts_left:
                raise UsageError(
                    f"Ray did not start on this machine ({reason}): wait until it is less busy and run `resume`, "
                    "or use a cluster with --address"
                ) from error
            notes().print(f"Ray did not start ({reason}); retrying")
        else:
            return


def sum_of(resource: str, /) -> float:
    """Return the total amount of a resource, by Ray's name, on the connected cluster's nodes."""
    return sum(node.resources.get(resource, 0) for node in nodes())


def reserved(config: StudyConfig, /, *, gpus: float) -> tuple[dict[str, float], int]:
    """Return what Tune reserves for each trial, and how many trials fit on the connected cluster at once.

    Args:
        config: The study's config.
        gpus: GPUs for each trial.

    Raises:
        UsageError: A trial fits on no node.
    """
    live = nodes()
    request = bundle(config.resources, gpus=gpus)
    check_satisfiable(request, live, config=config)
    return request, slots(request, live)
