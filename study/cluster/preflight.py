"""What is checked before a study starts: one list, in order, for `launch`, `resume`, `--dry-run` and `doctor` alike.

Each check takes what is about to start and yields findings. One that is wrong names its fault and its cure.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from study.cluster.connection import connected
from study.cluster.findings import HERE, Finding, fine, size, warning, wrong
from study.cluster.node_survey import study_packages, survey
from study.cluster.resources import Node, check_satisfiable, largest_bundle, slots
from study.cluster.shared_files import everywhere, place, unlabelled
from study.config.changes import check_unchanged
from study.config.paths import pools
from study.config.schema import StudyConfig
from study.console import notes
from study.directory import disk
from study.directory.layout import CONFIG_FILE, free_folder
from study.directory.rows import count_rows
from study.errors import UsageError
from study.search import storage
from study.tracking.availability import access_problem, durability_problem

if TYPE_CHECKING:
    from trainables.data.base import ImageData


@dataclass
class Start:
    """A study that is about to start, and what the checks learn of it.

    Attributes:
        config: Its config, resolved.
        study_dir: Its folder, or the one it would have.
        is_new: Whether it has none of either yet.
        given: Dotted keys that the command line sets.
        data: The data set without its test split; None until `check_data` has loaded it.
        weights: Bytes of the network's weights; 0 until `check_model` has built it.
    """

    config: StudyConfig
    study_dir: Path
    is_new: bool
    given: Sequence[str] = ()
    data: ImageData | None = None
    weights: int = 0

    def num_bytes(self) -> int:
        """Return what the loaded data set takes in memory."""
        data = self.data
        return 0 if data is None else sum(one.images.nbytes + one.labels.nbytes for one in (data.train, data.val))

    def nodes(self) -> tuple[Node, ...]:
        """Return the cluster's nodes that answered; none on this machine alone.

        Raises:
            UsageError: No cluster answers at `cluster.address`.
        """
        if self.config.cluster.address is None:
            return ()
        found = survey(self.config.cluster.address, study_packages(self.config))
        return tuple(node for node in found.nodes if node.id in found.facts)


def check_config(start: Start, /) -> Iterator[Finding]:
    """A new study needs a free folder; one that goes on keeps the meaning its trials began with."""
    if start.is_new:
        yield fine("config", HERE, f"{free_folder(start.config, start.study_dir.parent)} is free")
        return
    from study.search.optuna_study import recorded_config

    recorded = recorded_config(start.config, start.study_dir)
    if recorded is not None:
        where = str(start.study_dir / CONFIG_FILE)
        check_unchanged(recorded, start.config, where=where, given=start.given)
    yield fine("config", HERE, f"{start.study_dir} holds the study, its trials mean what they meant")


def check_data(start: Start, /) -> Iterator[Finding]:
    """The data set and the unlabelled pools can be read here, and the radius lies within the images' range."""
    from trainables.data import load_dataset
    from trainables.data.unlabelled import check_images

    config = start.config
    named = pools(config)
    try:
        for pool in named:
            check_images(pool, root=config.dataset.root)
        data = load_dataset(config.dataset).without_test()
    except ValueError as error:
        raise UsageError(str(error)) from error
    evaluation, largest = config.evaluation, math.sqrt(math.prod(data.image_shape))
    if evaluation.norm == "l2" and evaluation.epsilon > largest:
        raise UsageError(
            f"`evaluation.epsilon` must be in [0, {largest:g}] in l2 on images of {data.image_shape}, "
            f"got {evaluation.epsilon:g}"
        )
    start.data = data
    text = f"{data.name}: {len(data.train)} training and {len(data.val)} validation images, {size(start.num_bytes())}"
    text += "".join(f"; unlabelled images {pool}" for pool in named)
    if config.cluster.address is not None:
        text += "; nodes get it from here through Ray's object store"
        text += ", but for unlabelled images" if named else ""
    yield fine("data", HERE, text)


def check_model(start: Start, /) -> Iterator[Finding]:
    """The network takes the data set's images."""
    if start.data is None:
        return
    from trainables.models import build_model
    from trainables.seeding import seeded

    data, model = start.data, start.config.model
    try:
        with seeded(start.config.search.seed, "check"):
            network = build_model(
                model.name,
                image_shape=data.image_shape,
                num_classes=data.num_classes,
                dropout=model.dropout,
                mean=data.mean,
                std=data.std,
            )
    except ValueError as error:
        raise UsageError(str(error)) from error
    start.weights = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    yield fine("model", HERE, f"{model.name} takes images of {data.image_shape}, weights {size(start.weights)}")


def check_machines(start: Start, /) -> Iterator[Finding]:
    """The machines can hold a trial, write to the checkpoints' place, and have the unlabelled images."""
    config, nodes = start.config, start.nodes()
    if nodes:
        yield trials_at_once(config, nodes)
    else:
        _check_machine(config)
        yield fine("resources", HERE, "a trial fits this machine")
    with connected(str(config.cluster.address)) if nodes else nullcontext():
        key = "`storage.checkpoints`" if nodes or config.storage.checkpoints is not None else "--out"
        for finding in everywhere(nodes, place(config, start.study_dir)):
            who = "this machine" if finding.node == HERE else f"node {finding.node}"
            yield finding if finding.ok else replace(finding, text=f"{key}: {who} {finding.text}")
        for finding in unlabelled(config, nodes):
            yield finding if finding.ok else replace(finding, text=f"node {finding.node}: {finding.text}")


def check_storage(start: Start, /) -> Iterator[Finding]:
    """The search's storage can be used and, for a new study, holds none of this name."""
    storage.check_storage(start.config, start.study_dir, is_new=start.is_new)
    yield fine("search", HERE, start.config.storage.optuna or "SQLite in the study's folder")


def check_disk(start: Start, /) -> Iterator[Finding]:
    """The disks hold the results, and the checkpoints that are kept."""
    if start.data is None:
        return
    config = start.config
    trials = config.num_trials - (0 if start.is_new else count_rows(start.study_dir))
    checkpoint = disk.checkpoint_bytes(start.weights, config)
    need = disk.disk_need(config, trials=trials, checkpoint=checkpoint, val_size=len(start.data.val))
    tight = disk.check_disk(need, config, start.study_dir)
    yield fine("disk", HERE, "the study fits") if tight is None else warning("disk", HERE, tight, ok=True)


def check_tracking(start: Start, /) -> Iterator[Finding]:
    """MLflow's store answers and lasts. The results do not depend on it, so this forbids no start."""
    uri = str(start.config.tracking.uri)
    problem = access_problem(uri) or durability_problem(uri)
    shown = uri.rpartition("@")[2] if "@" in uri else uri
    if problem is None:
        yield fine("tracking", HERE, f"{shown}; only this machine writes to it")
    else:
        yield warning("tracking", HERE, f"MLflow's store {shown} {problem}. The results do not depend on it")


Check = Callable[[Start], Iterator[Finding]]

CHECKS: dict[str, Check] = {
    "config": check_config,
    "data": check_data,
    "model": check_model,
    "resources": check_machines,
    "search": check_storage,
    "disk": check_disk,
    "tracking": check_tracking,
}
"""Every check, in order, under the name that `doctor` shows."""


def findings_of(start: Start, /) -> Iterator[Finding]:
    """Yield what every check finds; a check that cannot go on ends with the finding that says why."""
    for name, check in CHECKS.items():
        try:
            yield from check(start)
        except UsageError as error:
            yield from (wrong(name, HERE, problem) for problem in error.problems)


def require(start: Start, /, checks: Iterable[Check] = CHECKS.values()) -> Start:
    """Return what is about to start once every check has passed; print the warnings.

    Raises:
        UsageError: The first fault found, with its cure.
    """
    for check in checks:
        for finding in check(start):
            if finding.is_warning:
                notes().print(finding.text)
            elif not finding.ok:
                raise UsageError(finding.text)
    return start


def trials_at_once(config: StudyConfig, nodes: Sequence[Node], /) -> Finding:
    """Return how many trials fit on the nodes of a cluster at once.

    Raises:
        UsageError: Not one does.
    """
    wanted = largest_bundle(config.resources, nodes)
    check_satisfiable(wanted, nodes)
    more = ", or more: `auto` is measured at launch" if config.resources.gpus == "auto" and "GPU" in wanted else ""
    return fine("resources", "cluster", f"{slots(wanted, nodes)} trials fit at once{more}")


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
