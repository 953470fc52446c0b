"""Runs a study: starts Ray, lets Tune ask the searcher, and leaves the books in order whatever happens."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from study.quiet import quiet_ray

quiet_ray()

import ray  # noqa: E402 - its chatter is turned off by variables that it reads when it is imported
from ray import tune  # noqa: E402

from study.bookkeeper import Bookkeeper  # noqa: E402
from study.config import StudyConfig  # noqa: E402
from study.ledger import Ledger  # noqa: E402
from study.progress import StudyProgress  # noqa: E402
from study.scheduler import StudyScheduler, informed_scheduler  # noqa: E402
from study.searcher import StudySearcher, open_study, study_url, trial_id, unfinished  # noqa: E402
from study.tracking.tracker import Tracker  # noqa: E402
from trainables.data import load_dataset  # noqa: E402
from trainables.data.base import ImageData  # noqa: E402
from trainables.tune import TrialTrainable  # noqa: E402

logger = logging.getLogger(__name__)

# A worker that dies, or a node: the trial goes on elsewhere from its checkpoint.
MAX_RETRIES = 2


def run_study(
    config: StudyConfig,
    study_dir: Path,
    /,
    *,
    data: ImageData | None = None,
    trainable: type[tune.Trainable] = TrialTrainable,
) -> Tracker:
    """Run the trials a study still lacks.

    Args:
        config: The study's config.
        study_dir: Its folder, with `study.yaml` in place.
        data: The data set without its test split; loaded when None and there are trials to run.
        trainable: What runs a trial; takes the config and `data`, and reports, as `TrialTrainable` does.

    Returns:
        The tracker, still open: figures are logged to the same parent run.
    """
    ledger = Ledger(study_dir, study=config.name, methods=config.search.methods)
    optuna_study = open_study(study_url(study_dir), config.name, config.search)
    pending = unfinished(optuna_study, ledger.rows, config.search.objectives)
    if "study_id" not in optuna_study.user_attrs:
        optuna_study.set_user_attr("study_id", uuid.uuid4().hex)
    tracker = Tracker(
        study=config.name,
        study_id=optuna_study.user_attrs["study_id"],
        uri=config.tracking.uri,
        experiment=config.tracking.experiment,
    )
    tracker.start(params=_flat(config.to_dict()), tags={"study": config.name})
    tracker.settle(ledger.rows.values())
    missing = config.search.num_trials - ledger.count
    if missing <= 0:
        return tracker
    progress = StudyProgress(
        config.search.num_trials, done=ledger.count, failed=ledger.failed, front_size=ledger.front_size
    )
    with progress, _ray_session(config):
        data = data or load_dataset(config.dataset).without_test()
        scheduler = informed_scheduler(config, study_dir, ledger.rows.values())
        keeper = Bookkeeper(ledger=ledger, tracker=tracker, progress=progress, stop_reason=scheduler.reason)
        searcher = StudySearcher(
            optuna_study,
            space=config.space(),
            objectives=config.search.objectives,
            configure=_Configure(config, checkpoints=checkpoint_root(config, study_dir)),
            before_tell=keeper.before_tell,
            pending=pending,
        )
        _fit(
            config,
            tune.with_parameters(trainable, data=data),
            searcher=searcher,
            scheduler=scheduler,
            keeper=keeper,
            num_trials=missing,
        )
    return tracker


def checkpoint_root(config: StudyConfig, study_dir: Path) -> Path:
    """Return the folder that holds one folder of checkpoints a trial."""
    return Path(config.storage.checkpoints or study_dir / "checkpoints").resolve()


class _Configure:
    """Makes a trial's Tune config from what the searcher proposed."""

    def __init__(self, config: StudyConfig, *, checkpoints: Path) -> None:
        self._config = config
        self._checkpoints = checkpoints

    def __call__(self, number: int, proposal: Mapping[str, Any], kind: str) -> dict[str, Any]:
        return {
            "trial_id": trial_id(number),
            "number": number,
            "proposal": kind,
            "spec": self._config.trial_spec(proposal, number=number).to_dict(),
            "checkpoint_dir": str(self._checkpoints / trial_id(number)),
        }


def _fit(
    config: StudyConfig,
    trainable: Any,
    /,
    *,
    searcher: StudySearcher,
    scheduler: StudyScheduler,
    keeper: Bookkeeper,
    num_trials: int,
) -> None:
    resources = config.resources
    # Tune's own experiment state is disposable: what is true is Optuna's storage, the result files and
    # the checkpoints. It must only lie where every node can reach it.
    with tempfile.TemporaryDirectory(prefix="robust-study-") as scratch:
        storage = config.storage.checkpoints or scratch
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": resources.cpus, "gpu": resources.gpus}),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler,
                num_samples=num_trials,
                max_concurrent_trials=resources.max_concurrent or _slots(config),
                reuse_actors=True,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name=f"tune-{uuid.uuid4().hex[:8]}",
                storage_path=str(storage),
                callbacks=[keeper],
                failure_config=tune.FailureConfig(max_failures=MAX_RETRIES),
                verbose=0,
            ),
        )
        tuner.fit()


def _trial_name(trial: Any) -> str:
    return str(trial.config["trial_id"])


def _slots(config: StudyConfig) -> int:
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call] # Ray leaves it untyped
    slots = [total.get("CPU", 0) / config.resources.cpus]
    if config.resources.gpus:
        slots.append(total.get("GPU", 0) / config.resources.gpus)
    return max(1, int(min(slots)))


@contextmanager
def _ray_session(config: StudyConfig) -> Iterator[None]:
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if config.cluster.address is None:
        options |= {"num_cpus": os.cpu_count(), "include_dashboard": False}
        # Ray starts workers through a shell and leaves this one path unquoted
        if shlex.quote(sys.executable) != sys.executable:
            options["runtime_env"] = {"py_executable": shlex.quote(sys.executable)}
    ray.init(address=config.cluster.address or "local", **options)
    try:
        yield
    finally:
        ray.shutdown()


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return flat
