"""Runs a study: starts Ray, lets Tune ask the searcher, and leaves the books in order whatever happens."""

from __future__ import annotations

import tempfile
import traceback
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.cluster.ray_settings import quiet_ray

quiet_ray()

from ray import tune  # noqa: E402 - its chatter is turned off by variables that it reads when it is imported
from ray.tune.search import ConcurrencyLimiter  # noqa: E402

from study.cluster.gpu_memory import gpus_per_trial  # noqa: E402
from study.cluster.session import ray_session, reserved, room, sum_of  # noqa: E402
from study.config.schema import StudyConfig  # noqa: E402
from study.console import StudyProgress, notes  # noqa: E402
from study.directory.layout import checkpoint_root  # noqa: E402
from study.directory.lock import beat  # noqa: E402
from study.directory.seed_plan import Plan, read_plan  # noqa: E402
from study.driver.callbacks import HeartbeatCallback, TrialCallback  # noqa: E402
from study.driver.checkpoint_retention import CheckpointRetention, Deletions, delete  # noqa: E402
from study.driver.final_saves import FinalSaves  # noqa: E402
from study.driver.restarts import DriverRestart, size  # noqa: E402
from study.driver.result_writer import ResultWriter  # noqa: E402
from study.driver.schedulers import StudyScheduler, informed_scheduler  # noqa: E402
from study.driver.signals import StopSignals  # noqa: E402
from study.errors import UsageError  # noqa: E402
from study.search.optuna_study import CONFIG_ATTRIBUTE, enqueue, give_up, open_search, trial_id, unfinished  # noqa: E402
from study.search.searcher import StudySearcher  # noqa: E402
from study.search.time_budget import TimeBudget  # noqa: E402
from study.tracking.study_metadata import dataset_event, study_params, study_tags  # noqa: E402
from study.tracking.tracker import Tracker  # noqa: E402
from trainables.checkpoints.files import StoreDownError, join  # noqa: E402
from trainables.data import load_dataset  # noqa: E402
from trainables.data.base import ImageData  # noqa: E402
from trainables.training.tune_trainable import TrialTrainable  # noqa: E402


class RunBrokeError(Exception):
    """A run that ended before its trials did; what was written stays true.

    Attributes:
        tracker: The study's tracker, still open.
    """

    def __init__(self, message: str, *, tracker: Tracker) -> None:
        super().__init__(message)
        self.tracker = tracker


def _ledger(config: StudyConfig, study_dir: Path) -> ResultWriter:
    return ResultWriter(
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
    interrupts: StopSignals | None = None,
    generation: DriverRestart | None = None,
) -> Tracker:
    """Run the trials a study still lacks, or as many of them as one driver runs.

    Args:
        config: The study's config.
        study_dir: Its folder, with `study.yaml` in place.
        data: The data set without its test split; loaded when None and there are trials to run.
        trainable: What runs a trial; takes the config and `data`, and reports, as `TrialTrainable` does.
        interrupts: What asks for a stop; nothing does when None.
        generation: Which driver of this run it is; one that runs all trials when None.

    Returns:
        The tracker, still open: figures are logged to the same parent run.

    Raises:
        RunBrokeError: Ray or the disk failed the driver itself; rows written before are whole.
    """
    ledger = _ledger(config, study_dir)
    optuna_study = open_search(config, study_dir)
    pending = unfinished(optuna_study, ledger.rows, config.search)
    plan = read_plan(study_dir)
    for line in enqueue(optuna_study, config, plan=plan):
        notes().print(line)
    budget = TimeBudget(optuna_study, limit=config.search.time_limit)
    tracker = _opened(config, study_dir, study=optuna_study, ledger=ledger, plan=plan)
    missing = config.num_trials - ledger.count
    give_up(optuna_study, pending[max(0, missing) :])
    if missing <= 0 or (budget.is_over and not pending):
        return tracker
    if ledger.count + len(pending) and (generation is None or generation.number == 1):
        _announce(ledger, retry=min(missing, len(pending)), missing=missing)
    run = _Run(
        config=config,
        study_dir=study_dir,
        ledger=ledger,
        tracker=tracker,
        study=optuna_study,
        pending=pending,
        budget=budget,
        interrupts=interrupts or StopSignals(),
        generation=generation,
    )
    try:
        run.run(missing, data=data, trainable=trainable)
    except UsageError:
        raise
    except Exception as error:
        raise RunBrokeError(_broken(error, study_dir), tracker=tracker) from error
    return tracker


def _announce(ledger: ResultWriter, *, retry: int, missing: int) -> None:
    notes().print(f"{ledger.count} trials finished ({ledger.failed} failed), {retry} to retry, {missing - retry} new")


def _opened(config: StudyConfig, study_dir: Path, *, study: Any, ledger: ResultWriter, plan: Plan | None) -> Tracker:
    """Write into Optuna's study what names it and what it began with, and open the tracker."""
    if "study_id" not in study.user_attrs:
        study.set_user_attr("study_id", uuid.uuid4().hex)
    if study.user_attrs.get(CONFIG_ATTRIBUTE) != config.to_dict():
        study.set_user_attr(CONFIG_ATTRIBUTE, config.to_dict())
    tracker = Tracker(
        study=config.name,
        study_id=study.user_attrs["study_id"],
        study_dir=study_dir,
        uri=config.tracking.uri,
        experiment=config.tracking.experiment,
        parent_study_id=None if plan is None else plan.parent_study_id,
    )
    tracker.start(params=study_params(config), tags=study_tags(config))
    tracker.settle(ledger.read())
    return tracker


@dataclass(frozen=True, kw_only=True)
class _Run:
    """One driver's trials, from Ray's start to its end."""

    config: StudyConfig
    study_dir: Path
    ledger: ResultWriter
    tracker: Tracker
    study: Any
    pending: list[int]
    budget: TimeBudget
    interrupts: StopSignals
    generation: DriverRestart | None

    def run(self, missing: int, /, *, data: ImageData | None, trainable: type[tune.Trainable]) -> None:
        config, ledger, interrupts, before = self.config, self.ledger, self.interrupts, self.generation
        progress = StudyProgress(
            config.num_trials,
            done=ledger.count,
            failed=ledger.failed,
            front_size=ledger.front_size,
            run=None if before is None else (before.started, before.done),
        )
        with progress, Deletions(checkpoint_root(config, self.study_dir)) as deletions, ray_session(config):
            interrupts.listen()  # Ray has put its own handlers
            data = data or load_dataset(config.dataset).without_test()
            self.tracker.dataset(**dataset_event(data))
            scheduler = informed_scheduler(config, self.study_dir, ledger.read())
            last_saves = FinalSaves(interrupts, say=progress.say)
            keeper = TrialCallback(
                ledger=ledger,
                tracker=self.tracker,
                progress=progress,
                stop_reason=scheduler.reason,
                last_saves=last_saves,
                retention=self._retention(deletions),
            )
            gpus = gpus_per_trial(
                config,
                self.study_dir,
                data=data,
                num_gpus=sum_of("GPU"),
                stopping=lambda: interrupts.requested,
            )
            wanted, slots = reserved(config, gpus=gpus)
            fixed = config.resources.max_concurrent
            limiter = ConcurrencyLimiter(self._searcher(keeper), max_concurrent=fixed or slots)
            pulse = HeartbeatCallback(
                limiter,
                beat=lambda: beat(self.study_dir),
                room=(lambda: room(wanted)) if fixed is None else None,
            )
            if before is not None:
                missing = min(missing, size(config.cluster.trials_per_driver, slots=fixed or slots))
            shared = None if config.cluster.address is None else checkpoint_root(config, self.study_dir)
            fitted = tune.with_resources(
                tune.with_parameters(trainable, data=data), tune.PlacementGroupFactory([wanted])
            )
            try:
                _fit(
                    fitted,
                    limiter=limiter,
                    scheduler=scheduler,
                    callbacks=[keeper, pulse],
                    num_trials=missing,
                    shared=shared,
                )
            finally:
                last_saves.close()

    def _searcher(self, keeper: TrialCallback) -> StudySearcher:
        return StudySearcher(
            self.study,
            space=self.config.space(),
            search=self.config.search,
            configure=_Configure(self.config, self.study_dir),
            before_tell=keeper.before_tell,
            after_tell=keeper.after_tell,
            pending=self.pending,
            budget=self.budget,
            closing=lambda: self.interrupts.requested,
        )

    def _retention(self, deletions: Deletions) -> CheckpointRetention:
        rows = self.ledger.rows
        return CheckpointRetention(
            self.config.storage.keep,
            objectives=self.config.search.objectives,
            remove=deletions,
            rows=rows.values(),
            there=deletions.there() if rows else (),
        )


def _broken(error: BaseException, study_dir: Path) -> str:
    """Keep what happened beside the trials' own errors and return it in a line."""
    text = "".join(traceback.format_exception(error))
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Traceback"):
        # Tune's own error holds the traceback of what happened
        said = lines[-1].rpartition(f"{StoreDownError.__name__}: ")[2]
    else:
        said = lines[0] if lines else "no message"
        if not isinstance(error, StoreDownError):
            said = f"{type(error).__name__}: {said}"
    path = study_dir / "errors" / "driver.txt"
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError:
        return said
    return f"{said} ({path})"


class _Configure:
    """Makes a trial's Tune config from what the searcher proposed, or from what a plan says of its number."""

    def __init__(self, config: StudyConfig, study_dir: Path) -> None:
        self._config = config
        self._checkpoints = checkpoint_root(config, study_dir)
        self._plan = read_plan(study_dir)

    def __call__(self, number: int, proposal: Mapping[str, Any], kind: str) -> dict[str, Any]:
        if self._plan is not None:
            asked = self._plan.trial(number)
        else:
            spec = self._config.trial_spec(proposal, number=number).to_dict()
            asked = {"trial_id": trial_id(number), "number": number, "proposal": kind, "spec": spec}
        return asked | {
            "checkpoint_dir": str(join(self._checkpoints, asked["trial_id"])),
            "checkpoint_minutes": self._config.storage.checkpoint_minutes,
        }


def _fit(
    trainable: Any,
    /,
    *,
    limiter: ConcurrencyLimiter,
    scheduler: StudyScheduler,
    callbacks: list[tune.Callback],
    num_trials: int,
    shared: Path | str | None,
) -> None:
    # Tune's own experiment state is disposable: what is true is Optuna's storage, the result files and
    # the checkpoints. It must only lie where every node can reach it.
    with tempfile.TemporaryDirectory(prefix="robust-study-") as scratch:
        storage = shared or scratch
        name = f"tune-{uuid.uuid4().hex[:8]}"
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=limiter,
                scheduler=scheduler,
                num_samples=num_trials,
                reuse_actors=True,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=str(storage),
                callbacks=callbacks,
                # a trial has saved itself already, and one given up has nothing to save
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                # the bookkeeper counts, because a node that is lost is no failure of its trials
                failure_config=tune.FailureConfig(max_failures=-1),
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        finally:
            delete(join(storage, name))


def _trial_name(trial: Any) -> str:
    return str(trial.config["trial_id"])
