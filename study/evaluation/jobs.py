"""Measurements of kept networks: each done once, written whole, here one by one or as tasks of a cluster."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from analysis.data.results import example_columns, examples_file, trial_file, write_columns, write_rows
from analysis.data.schema import EVALUATION, EXAMPLE
from study.config.schema import StudyConfig
from study.console import EvaluationProgress, notes, quoted
from study.errors import UsageError, short
from study.evaluation.trial_weights import weights_of
from study.search.trial_specs import spec_of
from trainables.checkpoints.files import exists
from trainables.evaluation.checkpoint import CheckpointMeasurement, MeasurementSpec, measure_checkpoint
from trainables.runtime import code_revision

if TYPE_CHECKING:
    from trainables.data.base import ImageData

_KEY_LENGTH = 10
_Measured = Generator[tuple["MeasurementJob", CheckpointMeasurement | Exception], None, None]


@dataclass(frozen=True, kw_only=True)
class MeasurementJob:
    """One measurement of one trial.

    Attributes:
        folder: The folder of the study that the trial belongs to; the row goes there.
        row: The trial's result row.
        checkpoint: `last` or `best`.
        chosen_by: `front`, `trial` or `confirm`.
        spec: What to measure.
    """

    folder: Path
    row: Mapping[str, Any]
    checkpoint: str
    chosen_by: str
    spec: MeasurementSpec

    @property
    def key(self) -> str:
        """What names the measurement's files: the trial, and a digest of everything that the result depends on."""
        tree = asdict(self.spec) | {"checkpoint": self.checkpoint}
        tree["seed"] = tree.pop("trial")["seed"]
        del tree["certify_seconds"]  # what is proved within a time depends on the machine too
        digest = hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
        return f"{self.row['trial_id']}-{self.checkpoint}-{digest[:_KEY_LENGTH]}"

    @property
    def path(self) -> Path:
        """The file of its row; where it is, everything of the measurement is."""
        return trial_file(self.folder, self.key, schema=EVALUATION)

    @property
    def done(self) -> bool:
        """Whether it was measured before."""
        return self.path.exists()


def own_attack(study_dir: Path, config: StudyConfig, row: Mapping[str, Any], /, *, images: int) -> MeasurementJob:
    """Return the study's own attack, under cheap checks, on the first validation images; no Lipschitz estimate.

    Args:
        study_dir: The study's folder.
        config: Its config.
        row: The trial's result row, which names the checkpoint.
        images: Validation images to attack.
    """
    evaluation, kind = config.evaluation, row["checkpoint_kind"]
    spec = MeasurementSpec(
        checkpoint=weights_of(study_dir, config, row, kind),
        trial=spec_of(config, study_dir, row),
        attack=evaluation.attack,
        norm=evaluation.norm,
        epsilon=evaluation.epsilon,
        steps=evaluation.steps,
        restarts=evaluation.restarts,
        examples=images,
        checks="cheap",
        lipschitz=None,
        split="val",
    )
    return MeasurementJob(folder=study_dir, row=row, checkpoint=kind, chosen_by="front", spec=spec)


def check_weights(jobs: Sequence[MeasurementJob], /) -> None:
    """Check that every checkpoint is there.

    Raises:
        UsageError: A line for each that is not, with what brings it back.
    """
    lost = {(job.row["trial_id"], job.spec.checkpoint): job for job in jobs if not exists(job.spec.checkpoint)}
    problems = []
    for (trial, path), job in lost.items():
        again = f"train it again with `robust-study train {quoted(job.folder)} --trial {trial} --save {quoted(path)}`"
        other = "it is not among those storage.keep spares; measure --checkpoint last"
        problems.append(
            f"the weights of trial {trial} are gone ({path}; storage.keep deletes those of weak trials): "
            f"{again if job.checkpoint == 'last' else other}"
        )
    if problems:
        raise UsageError(*problems)


def run_jobs(
    jobs: Sequence[MeasurementJob],
    /,
    *,
    config: StudyConfig,
    data: ImageData,
    address: str | None,
    ended: Callable[[], bool] = bool,
) -> list[str]:
    """Measure what is not measured yet, each written as soon as it is there.

    Args:
        jobs: What to measure.
        config: The study's config; what a task asks of a cluster is what a trial does.
        data: The data set with the splits that are measured.
        address: A Ray cluster; None measures in this process, one after another.
        ended: Asked after each measurement; once it is true, no other is waited for.

    Returns:
        One line for each that failed.
    """
    todo = [job for job in jobs if not job.done]
    occasion = datetime.now(UTC).isoformat(timespec="seconds")
    problems: list[str] = []
    with EvaluationProgress(len(todo)) as progress:
        if address is None or not todo:
            measured = _one_by_one(todo, data, progress)
        else:
            measured = _on_cluster(todo, data, config=config, address=address)
        # closed also when a row cannot be written, so that the session on a cluster ends here
        with closing(measured):
            for job, result in measured:
                if isinstance(result, Exception):
                    problems.append(f"{job.key}: {short(result)}")
                else:
                    record(job, result, occasion=occasion)
                progress.ended(_name(job), failed=isinstance(result, Exception))
                if ended():
                    break
    return problems


def record(job: MeasurementJob, measurement: CheckpointMeasurement, /, *, occasion: str) -> dict[str, Any]:
    """Write a measurement's per-example outcomes and then its row, and return the row.

    Args:
        job: What was measured.
        measurement: The measurement.
        occasion: When the command's measurements began, UTC, ISO 8601.
    """
    measures, spec, trial = measurement.measures, job.spec, job.row
    columns = example_columns(
        {spec.split: measures.examples(measurement.index)},
        study=trial["study"],
        trial_id=trial["trial_id"],
        checkpoint=job.checkpoint,
        attack=spec.attack,
        epsilon=spec.epsilon,
    )
    write_columns(examples_file(job.folder, job.key), columns, EXAMPLE, replace=True)
    lipschitz = None if spec.lipschitz is None or not len(measures.lipschitz) else spec.lipschitz
    row = {name: trial[name] for name in ("study", "trial_id", "number", "method", "seed", "dataset", "model")}
    row |= {name: getattr(spec, name) for name in ("norm", "epsilon", "attack", "steps", "restarts", "checks")}
    row |= measures.summary() | {
        "split_hash": trial["split_hash"],
        "evaluation": job.key,
        "chosen_by": job.chosen_by,
        "checkpoint": job.checkpoint,
        "split": spec.split,
        "examples": len(measurement.index),
        "lipschitz_steps": None if lipschitz is None else lipschitz.steps,
        "lipschitz_restarts": None if lipschitz is None else lipschitz.restarts,
        "lipschitz_examples": None if lipschitz is None else len(measures.lipschitz),
        "certified_accuracy": measures.certified_accuracy,
        "flags": list(measures.flags),
        "threads": measurement.threads,
        "occasion": occasion,
        "seconds": measurement.seconds,
        "seconds_attack": measures.seconds_attack,
        "seconds_lipschitz": measures.seconds_lipschitz,
        "device": measurement.device,
        **measurement.machine,
        "code_revision": code_revision(),
        "checkpoint_path": spec.checkpoint,
    }
    write_rows(job.path, [row], EVALUATION)
    return row


@contextmanager
def only_evaluation(study_dir: Path, /) -> Iterator[None]:
    """Be the one command that measures a study's trials, for the length of the block.

    Raises:
        UsageError: Another one does.
    """
    folder = study_dir / EVALUATION.folder
    folder.mkdir(exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(f"another command measures networks of {study_dir} now: wait for its end") from None
    except NotImplementedError:
        pass  # a file system without locks; a measurement done twice gives the same file
    try:
        yield
    finally:
        lock.release()


def _one_by_one(jobs: Sequence[MeasurementJob], data: ImageData, progress: EvaluationProgress) -> _Measured:
    for job in jobs:
        progress.begin(_name(job))
        try:
            measurement: CheckpointMeasurement | Exception = measure_checkpoint(job.spec, data, report=progress.report)
        except Exception as error:  # noqa: BLE001 - one network that cannot be measured costs no other its turn
            measurement = error
        yield job, measurement


def _on_cluster(jobs: Sequence[MeasurementJob], data: ImageData, *, config: StudyConfig, address: str) -> _Measured:
    from study.cluster.connection import nodes
    from study.cluster.node_survey import reaching_driver
    from study.cluster.session import ray_session, reserved, sum_of

    with ray_session(config.model_copy(update={"cluster": config.cluster.model_copy(update={"address": address})})):
        import ray

        if apart := [f"node {finding.node} {finding.text}" for finding in reaching_driver(nodes()) if not finding.ok]:
            raise UsageError(*apart)
        gpus = config.resources.gpus
        needed = min(1.0, sum_of("GPU")) if gpus == "auto" else float(gpus)
        reservation, slots = reserved(config, gpus=needed)
        others = {name: amount for name, amount in reservation.items() if name not in ("CPU", "GPU")}
        notes().print(f"{len(jobs)} measurements on the cluster at {address}, {min(slots, len(jobs))} at once")
        task = ray.remote(measure_checkpoint).options(
            num_cpus=reservation.get("CPU", 0), num_gpus=reservation.get("GPU", 0), resources=others, max_retries=3
        )
        shared = ray.put(data)
        running = {task.remote(job.spec, shared): job for job in jobs}
        while running:
            ready, _ = ray.wait(list(running), num_returns=1)
            job = running.pop(ready[0])
            try:
                measurement: CheckpointMeasurement | Exception = ray.get(ready[0])
            except Exception as error:  # noqa: BLE001 - any error of a worker ends this measurement alone
                measurement = getattr(error, "cause", None) or error
            yield job, measurement


def _name(job: MeasurementJob) -> str:
    return f"trial {job.row['trial_id']}, {job.checkpoint}, {job.spec.attack}"
