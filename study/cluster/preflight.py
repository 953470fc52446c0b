"""The checks before a study starts: one list for `launch`, `resume`, `--dry-run` and `doctor`.

Each check takes a `Start` and yields findings; that of a failed check names the fault and what to do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from study.cluster.connection import connected
from study.cluster.cpu_time import common_spec, cpu_training
from study.cluster.findings import HERE, Finding, fine, size, warning, wrong
from study.cluster.node_survey import reaching_driver
from study.cluster.ray_settings import temporary_folder
from study.cluster.resources import Node, check_here, check_satisfiable, gpus_here, largest_bundle, slots
from study.cluster.shared_files import checkpoint_location, pool_findings, storage_findings
from study.cluster.start import Start
from study.config.certified import check_bounds
from study.config.changes import check_unchanged
from study.config.file_urls import sqlite_path
from study.config.paths import extras, pools
from study.config.schema import StudyConfig
from study.config.trust import own_code
from study.console import notes
from study.directory import disk
from study.directory.data_notes import data_notes
from study.directory.layout import CONFIG_FILE, free_folder, open_config
from study.directory.rows import count_rows, read_rows, require_same_images
from study.errors import UsageError, short, usage_errors
from study.search import storage
from study.tracking.availability import access_problem, durability_problem
from study.tracking.client import store_problem
from trainables.attacks import unsuitable
from trainables.registry import CodeRefusedError, OwnCodeError, UnknownNameError


def check_config(start: Start, /) -> Iterator[Finding]:
    """Check that a new study's folder is free, and that the trials of an existing one keep their meaning."""
    if start.is_new:
        yield fine("config", HERE, f"{free_folder(start.config, start.study_dir.parent)} is free")
        space = start.config.space()
        if start.config.num_trials > 1 and not space.dimensions and len(space.methods) == 1:
            text = f"no setting is searched: the {start.config.num_trials} trials differ by their seeds alone"
            yield warning("config", HERE, text, ok=True)
        return
    from study.search.optuna_study import recorded_config

    # a lost storage knows nothing, and study.yaml is as it was before the command line's changes
    recorded = recorded_config(start.config, start.study_dir) or open_config(start.study_dir).to_dict()
    check_unchanged(recorded, start.config, where=str(start.study_dir / CONFIG_FILE), given=start.given)
    yield fine("config", HERE, f"{start.study_dir} holds the study, and its config still describes its trials")


def check_data(start: Start, /) -> Iterator[Finding]:
    """Check that the data set and the unlabelled pools can be read here, and that radius and attack suit the images.

    An existing study must find the images that its trials were run on.
    """
    from trainables.data import load_dataset
    from trainables.data.unlabelled import check_images, load_images, load_labelled, new_labelled, unseen

    config = start.config
    pool_names = pools(config)
    try:
        left_out = {pool: check_images(pool, root=config.dataset.root) for pool in pool_names}
        data = load_dataset(config.dataset).without_test()
    except ValueError as error:
        raise UsageError(str(error), *_missing_here(config)) from error
    if not start.is_new:
        rows = read_rows([start.study_dir]).select(["trial_id", "split_hash"]).to_pylist()
        require_same_images(rows, data.split_hash, name=data.name, remedy="--set dataset.root=FOLDER")
    evaluation, largest = config.evaluation, math.sqrt(math.prod(data.image_shape))
    if evaluation.norm == "l2" and evaluation.epsilon > largest:
        raise UsageError(
            f"`evaluation.epsilon` must be in [0, {largest:g}] in l2 on images of {data.image_shape}, "
            f"got {evaluation.epsilon:g}"
        )
    if problem := unsuitable(evaluation.attack, image_shape=data.image_shape, num_classes=data.num_classes):
        raise UsageError(f"`evaluation.attack`: {problem}")
    start.data = data
    text = f"{data.name}: {len(data.train)} training and {len(data.val)} validation images, {size(start.num_bytes())}"
    text += "".join(f"; unlabelled images {pool}" for pool in pool_names)
    if config.cluster.address is not None:
        text += "; nodes receive it through Ray's object store"
        text += ", except unlabelled images" if pool_names else ""
    yield fine("data", HERE, text)
    lines = [*data_notes(data), *(f"`pool` {pool}: {line}" for pool, own in left_out.items() for line in own)]
    yield from (warning("data", HERE, line, ok=True) for line in lines)
    for pool in pool_names:  # only reading it shows whether it can be used
        with usage_errors(ValueError):
            images, scale = load_images(pool, root=config.dataset.root)
            unseen(images, name=pool, scale=scale, data=data)
    with usage_errors(ValueError):
        for extra in extras(config):
            if pool_names:
                raise UsageError(f"`training.extra` {extra} and `pool` {pool_names[0]} exclude each other: keep one")
            new = new_labelled(load_labelled(extra, root=config.dataset.root), name=extra, data=data)
            yield fine("data", HERE, f"extra: {len(new.images)} images of {extra}")


def _missing_here(config: StudyConfig) -> list[str]:
    """Return what a trial needs and this machine does not have: to be known before its data are fetched."""
    try:
        if config.cluster.address is None:
            check_here(config, None)
    except UsageError as error:
        return list(error.problems)
    return []


def check_model(start: Start, /) -> Iterator[Finding]:
    """Check that the network takes the data set's images."""
    if start.data is None:
        return
    from trainables.models import build_model
    from trainables.models.modes import has_batch_statistics
    from trainables.models.own import depends_on_seed
    from trainables.seeding import seeded
    from trainables.training.batches import batch_bounds

    data, model = start.data, start.config.model
    given: dict[str, Any] = {
        "image_shape": data.image_shape,
        "num_classes": data.num_classes,
        "mean": data.mean,
        "std": data.std,
    }
    with usage_errors(ValueError):
        networks = []
        for draw in ("check", "another") if model.name in own_code(start.config.to_dict()) else ("check",):
            with seeded(start.config.search.seed, draw):
                networks.append(build_model(model.name, dropout=model.dropout, **given))
        network, *others = networks
        depends = all(depends_on_seed(network, other, name=model.name) for other in others)
        batch_bounds(
            len(data.train), size=start.config.training.batch_size, keep_single=not has_batch_statistics(network)
        )
    start.weights = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    check_bounds(start.config.evaluation, start.config.search.methods, network, data)
    yield fine("model", HERE, f"{model.name} takes images of {data.image_shape}, weights {size(start.weights)}")
    if not depends:
        text = f"the weights that {model.name} begins with do not depend on the seed: they are the same in all trials"
        yield warning("model", HERE, text, ok=True)


def check_code(start: Start, /) -> Iterator[Finding]:
    """Check the user's own method, model, attack and space by a trial on two images."""
    config, data = start.config, start.data
    names = own_code(config.to_dict())
    if data is None or not names:
        return
    from trainables.methods.base import build_method, check_radius
    from trainables.training.first_step import take_first_step

    space = config.space()
    for number, method in enumerate(config.search.methods):
        try:
            spec = config.trial_spec(space.example(method), number=0)
            check_radius(method, build_method(method, spec.params), spec.train_epsilon)
            if method in names or (number == 0 and names & {config.model.name, config.evaluation.attack}):
                take_first_step(spec, data)
        except (OwnCodeError, UnknownNameError) as error:
            raise UsageError(str(error)) from error
        except CodeRefusedError:
            raise
        except Exception as error:
            raise UsageError(
                f"a trial of method {method!r} in space {config.search.space!r} fails on its first step: {short(error)}"
            ) from error
    yield fine("code", HERE, f"{', '.join(sorted(names))} can be used")


def check_machines(start: Start, /) -> Iterator[Finding]:
    """Check that the machines can run a trial, share the checkpoints' location and have the unlabelled images."""
    config, nodes = start.config, start.nodes()
    if nodes:
        yield from trials_at_once(config, nodes)
    else:
        check_here(config, start.data)
        gpus, problem = config.resources.gpus, None
        if gpus == "auto" and not gpus_here():
            problem = "`resources.gpus` is auto and this machine has no GPU"
        elif not gpus and common_spec(config).training.precision == "bf16":
            problem = "trials get no GPU of this machine, and most CPUs emulate bf16"
        if problem is not None and start.data is not None:
            yield warning("resources", HERE, f"{problem}: {cpu_training(config, start.data)}", ok=True)
        yield fine("resources", HERE, "a trial fits this machine")
    with connected(str(config.cluster.address)) if nodes else nullcontext():
        key = "`storage.checkpoints`" if nodes or config.storage.checkpoints is not None else "--out"
        for finding in reaching_driver(nodes):
            yield finding if finding.ok else replace(finding, text=f"node {finding.node} {finding.text}")
        for finding in storage_findings(nodes, checkpoint_location(config, start.study_dir)):
            who = "this machine" if finding.node == HERE else f"node {finding.node}"
            yield finding if finding.ok else replace(finding, text=f"{key}: {who} {finding.text}")
        for finding in pool_findings(config, nodes):
            yield finding if finding.ok else replace(finding, text=f"node {finding.node}: {finding.text}")


def check_ray(start: Start, /) -> Iterator[Finding]:
    """Check that a Ray started on this machine has a folder in which its sockets fit."""
    if start.config.cluster.address is not None:
        return
    folder, problem = temporary_folder()
    if problem is None:
        yield fine("ray", HERE, f"temporary files in {folder}")
    else:
        text = f"{problem}: Ray's temporary files go to {folder} instead; RAY_TMPDIR names another folder"
        yield warning("ray", HERE, text, ok=True)


def check_storage(start: Start, /) -> Iterator[Finding]:
    """Check that the search's storage can be used and holds no other study of this name."""
    storage.check_storage(start.config, start.study_dir, is_new=start.is_new)
    yield fine("search", HERE, start.config.storage.optuna or "SQLite in the study's folder")


def check_disk(start: Start, /) -> Iterator[Finding]:
    """Check that the disks have room for the results and the checkpoints."""
    if start.data is None:
        return
    config = start.config
    trials = config.num_trials - (0 if start.is_new else count_rows(start.study_dir))
    checkpoint = disk.checkpoint_bytes(start.weights, config)
    need = disk.disk_need(config, trials=trials, checkpoint=checkpoint, val_size=len(start.data.val))
    tight = disk.check_disk(need, config, start.study_dir)
    yield fine("disk", HERE, "the study fits") if tight is None else warning("disk", HERE, tight, ok=True)


def check_tracking(start: Start, /) -> Iterator[Finding]:
    """Check that MLflow's store can be used and keeps its data; a problem does not prevent the start."""
    uri = str(start.config.tracking.uri)
    problem = access_problem(uri) or durability_problem(uri)
    path = sqlite_path(uri)
    shown = uri if path is not None else uri.rpartition("@")[2]
    if problem is None and path is not None and path.exists() and (damage := store_problem(uri)) is not None:
        yield warning("tracking", HERE, f"{damage}. The results do not depend on it")
        return
    if problem is None:
        yield fine("tracking", HERE, f"{shown}; only this machine writes to it")
    else:
        yield warning("tracking", HERE, f"MLflow's store {shown} {problem}. The results do not depend on it")


Check = Callable[[Start], Iterator[Finding]]

CHECKS: dict[str, Check] = {
    "config": check_config,
    "data": check_data,
    "model": check_model,
    "code": check_code,
    "resources": check_machines,
    "ray": check_ray,
    "search": check_storage,
    "disk": check_disk,
    "tracking": check_tracking,
}
"""Every check, by the name that `doctor` shows."""


def findings_of(start: Start, /) -> Iterator[Finding]:
    """Yield the findings of every check; a check that raises an error ends with a finding of it."""
    told: set[str] = set()
    for name, check in CHECKS.items():
        try:
            yield from check(start)
        except UsageError as error:
            yield from (wrong(name, HERE, problem) for problem in error.problems if problem not in told)
            told.update(error.problems)


def require(start: Start, /, checks: Iterable[Check] = CHECKS.values()) -> Start:
    """Return the start if every check passes; print the warnings.

    Raises:
        UsageError: The first fault, with what to do.
    """
    for check in checks:
        for finding in check(start):
            if finding.is_warning:
                notes().print(finding.text)
            elif not finding.ok:
                raise UsageError(finding.text)
    return start


def trials_at_once(config: StudyConfig, nodes: Sequence[Node], /) -> Iterator[Finding]:
    """Yield how many trials fit on the nodes of a cluster at once, and whether the config allows fewer.

    Raises:
        UsageError: No node can run a trial.
    """
    request = largest_bundle(config.resources, nodes)
    check_satisfiable(request, nodes, config=config)
    fitting, most = slots(request, nodes), config.resources.max_concurrent
    more = ", or more: `auto` is measured at launch" if config.resources.gpus == "auto" and "GPU" in request else ""
    yield fine("resources", "cluster", f"{fitting} trials fit at once{more}")
    if most is not None and most < min(fitting, config.num_trials):
        text = (
            f"`resources.max_concurrent` is {most}, though {fitting} trials fit on the cluster at once: "
            "--set resources.max_concurrent=null lets all run"
        )
        yield warning("resources", "cluster", text, ok=True)
