"""Runs a study's trials with Ray Tune: starts Ray, and connects the searcher, the scheduler and the callbacks."""

from __future__ import annotations

import tempfile
import traceback
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from study.cluster.ray_settings import quiet_ray

quiet_ray()

from ray import tune  # noqa: E402 - reads the variables that turn off its output when it is imported
from ray.tune.search import ConcurrencyLimiter  # noqa: E402

from study.cluster.connection import nodes  # noqa: E402
from study.cluster.gpu_memory import gpus_per_trial  # noqa: E402
from study.cluster.resources import slots  # noqa: E402
from study.cluster.session import ray_session, reserved, sum_of  # noqa: E402
from study.config.schema import StudyConfig  # noqa: E402
from study.console import notes  # noqa: E402
from study.directory.checkpoint_folder import checkpoint_root, claim, owner_of  # noqa: E402
from study.directory.data_notes import write_data_notes  # noqa: E402
from study.directory.lock import beat  # noqa: E402
from study.directory.rows import require_same_images  # noqa: E402
from study.directory.seed_plan import read_plan  # noqa: E402
from study.driver.callbacks import HeartbeatCallback, TrialCallback  # noqa: E402
from study.driver.checkpoint_retention import CheckpointRetention, Deletions, delete  # noqa: E402
from study.driver.final_saves import FinalSaves  # noqa: E402
from study.driver.result_writer import ResultWriter  # noqa: E402
from study.driver.retries import MAX_FAILURES  # noqa: E402
from study.driver.schedulers import StudyScheduler, resumed_scheduler  # noqa: E402
from study.driver.signals import StopSignals  # noqa: E402
from study.driver.start_watch import StartWatch  # noqa: E402
from study.driver.study_progress import StudyProgress  # noqa: E402
from study.driver.study_tracking import started_tracker  # noqa: E402
from study.errors import UsageError  # noqa: E402
from study.search.optuna_study import (  # noqa: E402
    SPLIT_ATTRIBUTE,
    enqueue,
    fail_surplus,
    open_search,
    trial_id,
    unfinished,
)
from study.search.restored_trials import restore  # noqa: E402
from study.search.searcher import StudySearcher  # noqa: E402
from study.search.storage import restoring  # noqa: E402
from study.search.time_budget import TimeBudget  # noqa: E402
from study.search.trial_specs import specs_of, unrecorded_trials  # noqa: E402
from study.tracking.study_metadata import dataset_event  # noqa: E402
from study.tracking.tracker import Tracker  # noqa: E402
from trainables.checkpoints.files import StoreDownError, join, write_text  # noqa: E402
from trainables.data import load_dataset  # noqa: E402
from trainables.data.base import ImageData  # noqa: E402
from trainables.registry import OwnCodeError  # noqa: E402
from trainables.runtime import code_revision  # noqa: E402
from trainables.training.tune_trainable import TrialTrainable  # noqa: E402


class RunFailedError(Exception):
    """A run that failed before its trials ended; rows written before are valid.

    Attributes:
        tracker: The study's tracker, still open.
    """

    def __init__(self, message: str, *, tracker: Tracker) -> None:
        super().__init__(message)
        self.tracker = tracker


def run_study(
    config: StudyConfig,
    study_dir: Path,
    /,
    *,
    data: ImageData | None = None,
    trainable: type[tune.Trainable] = TrialTrainable,
    interrupts: StopSignals | None = None,
) -> Tracker:
    """Run a study's missing trials.

    Args:
        config: The study's config.
        study_dir: Its folder, with `study.yaml` in it.
        data: The data set without its test split; loaded when None and there are trials to run.
        trainable: Runs a trial. It takes the config and `data`, and reports as `TrialTrainable` does.
        interrupts: Tells whether a stop is requested; it never is when None.

    Returns:
        The tracker, still open: figures are logged to the same parent run.

    Raises:
        RunFailedError: Ray or a full disk failed the driver itself; rows written before are complete.
        UsageError: The data set holds other images than when the study's trials were run.
    """
    run = _Run(config, study_dir, interrupts or StopSignals())
    done, pending = len(run.result_writer.rows), len(run.pending)
    missing = config.num_trials - done
    fail_surplus(run.study, run.pending[max(0, missing) :])
    if missing <= 0 or (run.budget.is_over and not pending):
        return run.tracker
    if done + pending:
        retry = min(missing, pending)
        counts = f"{done} trials finished ({run.result_writer.standing.failed} failed)"
        notes().print(f"{counts}, {retry} to retry, {missing - retry} new")
    earlier = {row["code_revision"] for row in run.result_writer.rows.values()} - {None, code_revision()}
    if earlier:
        notes().print(f"the code is at revision {code_revision()}; earlier trials ran at {', '.join(sorted(earlier))}")
    try:
        run.run(missing, data=data, trainable=trainable)
    except UsageError:
        raise
    except Exception as error:
        raise RunFailedError(_write_error(error, study_dir), tracker=run.tracker) from error
    return run.tracker


class _Run:
    """One driver's trials, from Ray's start to its end."""

    def __init__(self, config: StudyConfig, study_dir: Path, interrupts: StopSignals) -> None:
        self.config, self.study_dir, self.interrupts = config, study_dir, interrupts
        search, reference = config.search, config.front.reference
        self.result_writer = ResultWriter(
            study_dir, study=config.name, methods=search.methods, constraints=search.constraints, reference=reference
        )
        self.study = open_search(config, study_dir)
        self.plan = read_plan(study_dir)
        lines = restore(self.study, config, self._recorded(), plan=self.plan, remedy=restoring(config, study_dir))
        self.pending = unfinished(self.study, self.result_writer.rows, search)
        for line in (*lines, *enqueue(self.study, config, plan=self.plan)):
            notes().print(line)
        self.budget = TimeBudget(self.study, limit=search.time_limit)
        self.tracker = started_tracker(config, study_dir, study=self.study, result_writer=self.result_writer)

    def _recorded(self) -> list[dict[str, Any]]:
        """Return the study's rows, and what its checkpoints hold of trials that only they know."""
        rows = self.result_writer.read()
        if self.plan is not None or owner_of(self.study_dir) is None or len(rows) >= self.config.num_trials:
            return rows
        numbers = {*self.result_writer.rows, *range(len(self.study.get_trials(deepcopy=False)))}
        root = checkpoint_root(self.config, self.study_dir)
        return rows + unrecorded_trials(self.config, self.study_dir, root, recorded=numbers)

    def run(self, missing: int, /, *, data: ImageData | None, trainable: type[tune.Trainable]) -> None:
        config, result_writer, interrupts = self.config, self.result_writer, self.interrupts
        progress = StudyProgress(config.num_trials, result_writer.standing)
        data = data or load_dataset(config.dataset).without_test()
        self._require_same_images(data)
        write_data_notes(self.study_dir, data)
        self.checkpoints = claim(
            config,
            self.study_dir,
            study_id=self.study.user_attrs["study_id"],
            specs=lambda: specs_of(config, self.study_dir, self.study),
        )
        with progress, Deletions(self.checkpoints) as deletions, ray_session(config):
            interrupts.listen()  # Ray has installed its own handlers
            self.tracker.dataset(**dataset_event(data))
            gpus = gpus_per_trial(
                config,
                self.study_dir,
                data=data,
                num_gpus=sum_of("GPU"),
                stopping=lambda: interrupts.requested,
            )
            resources, at_once = reserved(config, gpus=gpus)
            placed = tune.with_resources(
                tune.with_parameters(trainable, data=data), tune.PlacementGroupFactory([resources])
            )
            room = None if config.resources.max_concurrent else lambda: slots(resources, nodes())
            retention = self._retention(deletions)
            for _ in range(MAX_FAILURES):
                lost = self._fit(missing, placed, at_once=at_once, room=room, progress=progress, retention=retention)
                if not lost or interrupts.requested:
                    break
                self.pending = unfinished(self.study, result_writer.rows, config.search)
                missing = len(self.pending)

    def _fit(
        self,
        missing: int,
        trainable: Any,
        *,
        at_once: int,
        room: Callable[[], int] | None,
        progress: StudyProgress,
        retention: CheckpointRetention,
    ) -> bool:
        """Run trials with Tune; return whether the death of its worker left one open."""
        config, final_saves = self.config, FinalSaves(self.interrupts, print_line=progress.print)
        scheduler = resumed_scheduler(config, self.study_dir, self.result_writer.read())
        trial_callback = TrialCallback(
            result_writer=self.result_writer,
            tracker=self.tracker,
            progress=progress,
            stop_reason=scheduler.reason,
            final_saves=final_saves,
            start_watch=StartWatch(config.cluster.address, print_line=progress.print),
            retention=retention,
        )
        searcher = self._searcher(trial_callback)
        limiter = ConcurrencyLimiter(searcher, max_concurrent=config.resources.max_concurrent or at_once)
        heartbeat = HeartbeatCallback(limiter, beat=lambda: beat(self.study_dir), room=room)
        shared = None if config.cluster.address is None else self.checkpoints
        try:
            _fit(trainable, limiter, scheduler, [trial_callback, heartbeat], num_trials=missing, shared=shared)
        finally:
            final_saves.close()
        return searcher.left_open

    def _require_same_images(self, data: ImageData) -> None:
        """Check that the data set is that of the study's trials, also of trials that have no row yet."""
        started = {"trial_id": trial_id(0), "split_hash": self.study.user_attrs.get(SPLIT_ATTRIBUTE)}
        rows = [started, *self.result_writer.rows.values()]
        require_same_images(rows, data.split_hash, name=data.name, remedy="--set dataset.root=FOLDER")
        if started["split_hash"] is None:
            self.study.set_user_attr(SPLIT_ATTRIBUTE, data.split_hash)

    def _searcher(self, trial_callback: TrialCallback) -> StudySearcher:
        return StudySearcher(
            self.study,
            space=self.config.space(),
            search=self.config.search,
            configure=self._configured,
            before_tell=trial_callback.before_tell,
            after_tell=trial_callback.after_tell,
            pending=self.pending,
            budget=self.budget,
            stop_requested=lambda: self.interrupts.requested,
        )

    def _configured(self, number: int, proposal: Mapping[str, Any], kind: str) -> dict[str, Any]:
        """Return a trial's Tune config, from the searcher's proposal or from the seed plan where there is one."""
        if self.plan is not None:
            tree = self.plan.trial(number)
        else:
            spec = self.config.trial_spec(proposal, number=number).to_dict()
            tree = {"trial_id": trial_id(number), "number": number, "proposal": kind, "spec": spec}
        return tree | {
            "checkpoint_dir": str(join(self.checkpoints, tree["trial_id"])),
            "checkpoint_minutes": self.config.storage.checkpoint_minutes,
        }

    def _retention(self, deletions: Deletions) -> CheckpointRetention:
        rows = self.result_writer.rows
        return CheckpointRetention(
            self.config.storage.keep,
            objectives=self.config.search.objectives,
            remove=deletions,
            rows=rows.values(),
            existing=deletions.existing() if rows else (),
        )


def _write_error(error: BaseException, study_dir: Path) -> str:
    """Write the driver's traceback to `errors/driver.txt` and return the error in one line."""
    text = "".join(traceback.format_exception(error))
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Traceback"):
        # Tune wraps an error and puts its traceback into the message
        message = lines[-1].rpartition(f"{StoreDownError.__name__}: ")[2]
    else:
        message = lines[0] if lines else "no message"
        if not isinstance(error, (StoreDownError, OwnCodeError)):
            message = f"{type(error).__name__}: {message}"
    path = study_dir / "errors" / "driver.txt"
    try:
        path.parent.mkdir(exist_ok=True)
        write_text(path, text)
    except OSError:
        return message
    return f"{message} ({path})"


def _fit(
    trainable: Any,
    limiter: ConcurrencyLimiter,
    scheduler: StudyScheduler,
    callbacks: list[tune.Callback],
    *,
    num_trials: int,
    shared: Path | str | None,
) -> None:
    # Tune's own experiment state is disposable: a study is resumed from Optuna's storage, the result files and the
    # checkpoints. It only needs to lie where every node can reach it.
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
                # a trial saves itself after each epoch, and one that has failed for good has nothing to save
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                # TrialCallback counts the failures, because a lost node is not a failure of its trials
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
