"""Runs a study: starts Ray, lets Tune ask the searcher, and leaves the books in order whatever happens."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from study.quiet import quiet_ray

quiet_ray()

from ray import tune  # noqa: E402 - its chatter is turned off by variables that it reads when it is imported

from study.bookkeeper import Bookkeeper  # noqa: E402
from study.budget import TimeBudget  # noqa: E402
from study.cluster.memory import gpus_per_trial  # noqa: E402
from study.config import StudyConfig  # noqa: E402
from study.console import notes  # noqa: E402
from study.ledger import Ledger  # noqa: E402
from study.progress import StudyProgress  # noqa: E402
from study.scheduler import StudyScheduler, informed_scheduler  # noqa: E402
from study.searcher import StudySearcher, enqueue, open_search, trial_id, unfinished  # noqa: E402
from study.session import ray_session, reserved, sum_of  # noqa: E402
from study.tracking.describe import dataset_event, study_params, study_tags  # noqa: E402
from study.tracking.tracker import Tracker  # noqa: E402
from trainables.data import load_dataset  # noqa: E402
from trainables.data.base import ImageData  # noqa: E402
from trainables.storage import is_url, join, remove_folder  # noqa: E402
from trainables.tune import TrialTrainable  # noqa: E402

# A worker that dies, or a node: the trial goes on elsewhere from its checkpoint.
MAX_RETRIES = 2


def _ledger(config: StudyConfig, study_dir: Path) -> Ledger:
    return Ledger(
        study_dir,
        study=config.name,
        methods=config.search.methods,
        constraints=config.search.constraints,
        reference=config.front.reference,
    )


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
    search = config.search
    ledger = _ledger(config, study_dir)
    optuna_study = open_search(config, study_dir)
    pending = unfinished(optuna_study, ledger.rows, search)
    for line in enqueue(optuna_study, config):
        notes().print(line)
    budget = TimeBudget(optuna_study, limit=search.time_limit)
    tracker = _started_tracker(config, optuna_study, study_dir=study_dir)
    tracker.settle(ledger.rows.values())
    missing = config.num_trials - ledger.count
    if missing <= 0 or (budget.is_over and not pending):
        return tracker
    progress = StudyProgress(config.num_trials, done=ledger.count, failed=ledger.failed, front_size=ledger.front_size)
    with progress, ray_session(config):
        data = data or load_dataset(config.dataset).without_test()
        tracker.dataset(**dataset_event(data))
        scheduler = informed_scheduler(config, study_dir, ledger.rows.values())
        keeper = Bookkeeper(ledger=ledger, tracker=tracker, progress=progress, stop_reason=scheduler.reason)
        searcher = StudySearcher(
            optuna_study,
            space=config.space(),
            search=search,
            configure=_Configure(config, checkpoints=checkpoint_root(config, study_dir)),
            before_tell=keeper.before_tell,
            pending=pending,
            budget=budget,
        )
        gpus = gpus_per_trial(config, study_dir, data=data, num_gpus=sum_of("GPU"))
        shared = None if config.cluster.address is None else checkpoint_root(config, study_dir)
        fitted = tune.with_parameters(trainable, data=data)
        _fit(
            config,
            fitted,
            searcher=searcher,
            scheduler=scheduler,
            keeper=keeper,
            num_trials=missing,
            shared=shared,
            gpus=gpus,
        )
    return tracker


def _started_tracker(config: StudyConfig, optuna_study: Any, *, study_dir: Path) -> Tracker:
    if "study_id" not in optuna_study.user_attrs:
        optuna_study.set_user_attr("study_id", uuid.uuid4().hex)
    tracker = Tracker(
        study=config.name,
        study_id=optuna_study.user_attrs["study_id"],
        study_dir=study_dir,
        uri=config.tracking.uri,
        experiment=config.tracking.experiment,
    )
    tracker.start(params=study_params(config), tags=study_tags(config))
    return tracker


def checkpoint_root(config: StudyConfig, study_dir: Path) -> Path | str:
    """Return what holds one folder of checkpoints a trial: a path, or an object store's URL."""
    root = config.storage.checkpoints or study_dir / "checkpoints"
    return root if is_url(root) else Path(root).expanduser().resolve()


class _Configure:
    """Makes a trial's Tune config from what the searcher proposed."""

    def __init__(self, config: StudyConfig, *, checkpoints: Path | str) -> None:
        self._config = config
        self._checkpoints = checkpoints

    def __call__(self, number: int, proposal: Mapping[str, Any], kind: str) -> dict[str, Any]:
        return {
            "trial_id": trial_id(number),
            "number": number,
            "proposal": kind,
            "spec": self._config.trial_spec(proposal, number=number).to_dict(),
            "checkpoint_dir": str(join(self._checkpoints, trial_id(number))),
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
    shared: Path | str | None,
    gpus: float,
) -> None:
    wanted, slots = reserved(config, gpus=gpus)
    # Tune's own experiment state is disposable: what is true is Optuna's storage, the result files and
    # the checkpoints. It must only lie where every node can reach it.
    with tempfile.TemporaryDirectory(prefix="robust-study-") as scratch:
        storage = shared or scratch
        name = f"tune-{uuid.uuid4().hex[:8]}"
        tuner = tune.Tuner(
            tune.with_resources(trainable, tune.PlacementGroupFactory([wanted])),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler,
                num_samples=num_trials,
                max_concurrent_trials=config.resources.max_concurrent or slots,
                reuse_actors=True,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=str(storage),
                callbacks=[keeper],
                failure_config=tune.FailureConfig(max_failures=MAX_RETRIES),
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        finally:
            remove_folder(join(storage, name))


def _trial_name(trial: Any) -> str:
    return str(trial.config["trial_id"])
