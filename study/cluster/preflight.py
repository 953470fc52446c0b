"""What can be known of the machines before a study starts: whether a cluster answers, whether a trial fits."""

from __future__ import annotations

import os
import platform
from contextlib import nullcontext
from pathlib import Path

from study.cluster.connection import connected
from study.cluster.node_survey import study_packages, survey
from study.cluster.resources import Node, check_satisfiable, largest_bundle
from study.cluster.shared_files import check_shared, check_unlabelled
from study.config.schema import StudyConfig
from study.errors import UsageError


def check_machines(config: StudyConfig, study_dir: Path, /) -> None:
    """Check that the machines of a study can hold a trial and write its checkpoints where they are to go.

    Args:
        config: The study's config.
        study_dir: The folder that the study would have.

    Raises:
        UsageError: No cluster answers at `cluster.address`, `resources` exceeds what every node has, some machine
            cannot write to the place of the checkpoints or does not see there what another wrote, or a node that holds
            trials lacks the unlabelled images they load.
    """
    check_resources(config)
    address = config.cluster.address
    others: list[Node] = []
    if address is not None:
        found = survey(address, study_packages(config))
        # nodes of this very machine see what it sees
        if len({one["host"] for one in found.facts.values()} | {platform.node()}) > 1:
            others = [node for node in found.nodes if node.id in found.facts]
    with connected(str(address)) if others else nullcontext():
        check_shared(config, study_dir, others)
        check_unlabelled(config, others)


def check_resources(config: StudyConfig, /) -> None:
    """Check that the cluster answers and can hold a trial, or that this machine has what one trial asks for.

    Raises:
        UsageError: No cluster answers at `cluster.address`, or `resources` exceeds what every node has.
    """
    address = config.cluster.address
    if address is None:
        _check_machine(config)
        return
    found = survey(address, study_packages(config))
    check_satisfiable(largest_bundle(config.resources, found.nodes), found.nodes)


def _check_machine(config: StudyConfig) -> None:
    cpus, gpus = os.cpu_count() or 1, 0
    wanted_gpus = 0 if config.resources.gpus == "auto" else config.resources.gpus
    if wanted_gpus:
        import torch

        gpus = torch.cuda.device_count()
    for name, wanted, found in (("cpus", config.resources.cpus, cpus), ("gpus", wanted_gpus, gpus)):
        if wanted > found:
            raise UsageError(
                f"`resources.{name}` asks {wanted:g} for each trial and this machine has {found}: "
                f"set fewer with --set resources.{name}={found}, or name a cluster with --address"
            )
    if config.resources.custom:
        name = next(iter(config.resources.custom))
        raise UsageError(
            f"`resources.custom` asks for {name!r}, which a Ray started on this machine does not have: "
            "name the cluster that has it with --address"
        )
