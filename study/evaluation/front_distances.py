"""How near to each validation image a front member's network is fooled: `evaluate STUDY_DIR --distances`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.data.schema import DISTANCE
from study.config.schema import StudyConfig
from study.console import EvaluationProgress, notes, results
from study.directory.layout import open_config
from study.directory.rows import read_rows, require_same_images
from study.errors import UsageError, short, usage_errors
from study.evaluation.selection import named_trials

if TYPE_CHECKING:
    from study.evaluation.jobs import MeasurementJob
    from trainables.data.base import ImageData


@dataclass(frozen=True, kw_only=True)
class DistanceRequest:
    """What is measured.

    Attributes:
        front: The members of the front as it is now.
        trials: Ids named by the user; not together with `front`.
        most: Most members, spread along the front.
        limit: The first so many validation images; `evaluation.examples` when None.
        data_root: Where the data set's files lie here.
    """

    front: bool
    trials: tuple[str, ...]
    most: int
    limit: int | None
    data_root: Path | None


def measure_distances(study_dir: Path, request: DistanceRequest, /, *, as_json: bool) -> None:
    """Measure the distances of trials that have none yet, and print each one's median and how many are within ε.

    Validation images are used, and no others. Exit code 1 when a measurement failed.

    Raises:
        UsageError: No such study or trial, no front, a study at radius 0, missing weights, or a data set that is not
            there.
    """
    from study.evaluation.jobs import check_weights, only_evaluation, own_attack

    config = open_config(study_dir)
    if not config.evaluation.epsilon:
        raise UsageError(f"--distances needs a radius to search beyond: `evaluation.epsilon` of {study_dir} is 0")
    table = read_rows([study_dir])
    rows = _chosen(study_dir, table, request)
    data = _validation(config, rows, request)
    images = min(len(data.val), request.limit or config.evaluation.examples)
    jobs = [own_attack(study_dir, config, row, images=images) for row in rows]
    todo = [job for job in jobs if not _done(job)]
    check_weights(todo)
    notes().print(
        f"{len(rows)} trial{'s' * (len(rows) != 1)} on the first {images} validation images, "
        f"{len(jobs) - len(todo)} already there, with these or more; test images are not used"
    )
    problems = []
    with only_evaluation(study_dir), EvaluationProgress(len(todo)) as progress:
        for job in todo:
            name = f"trial {job.row['trial_id']}"
            progress.begin(name)
            try:
                _measure(job, data, progress)
            except Exception as error:  # noqa: BLE001 - one network that cannot be measured costs no other its turn
                problems.append(f"{name}: {short(error)}")
            progress.ended(name, failed=bool(problems) and problems[-1].startswith(f"{name}:"))
    for problem in problems:
        notes().print(f"failed: {problem}")
    _print(study_dir, [row["trial_id"] for row in rows], as_json=as_json, problems=problems)
    if problems:
        raise SystemExit(1)


def _chosen(study_dir: Path, table: Any, request: DistanceRequest) -> list[dict[str, Any]]:
    from analysis.fronts.front import MixedStudiesError, front_of, spread_along
    from analysis.fronts.objectives import FRONT, values
    from analysis.wording import why_no_front

    if request.front == bool(request.trials):
        raise UsageError("--distances needs --front, or --trial ID (which may be given more than once), not both")
    if request.trials:
        return named_trials(study_dir, table, request.trials)
    with usage_errors(MixedStudiesError):
        front = front_of(table)
    if not front.num_rows:
        raise UsageError(f"{study_dir} has no front yet ({why_no_front(table)}): name trials with --trial ID")
    members: list[dict[str, Any]] = front.take(spread_along(values(front, FRONT), cap=request.most)).to_pylist()
    return members[::-1]


def _validation(config: StudyConfig, rows: Sequence[dict[str, Any]], request: DistanceRequest) -> ImageData:
    from dataclasses import replace

    from trainables.data import DataError, load_dataset

    dataset = config.dataset if request.data_root is None else replace(config.dataset, root=str(request.data_root))
    with usage_errors(DataError):
        data = load_dataset(dataset).without_test()
    require_same_images(rows, data.split_hash, name=data.name, remedy="--data-root")
    return data


def _path(job: MeasurementJob) -> Path:
    from analysis.data.results import trial_file

    return trial_file(job.folder, job.row["trial_id"], schema=DISTANCE)


def _settings(job: MeasurementJob) -> dict[str, Any]:
    """Return the columns that are the same in each row of a trial."""
    from trainables.evaluation.adversarial_distances import CAP

    settings = {name: job.row[name] for name in ("study", "trial_id", "number", "method", "split_hash")}
    settings |= {name: getattr(job.spec, name) for name in ("split", "norm", "epsilon", "attack", "steps", "restarts")}
    return settings | {"checkpoint": job.checkpoint, "cap": CAP * job.spec.epsilon}


def _done(job: MeasurementJob) -> bool:
    """Return whether the file holds these distances, of as many images or more: those of a longer run are kept."""
    from analysis.data.files import read_file
    from analysis.data.schema import ResultsError

    if not _path(job).exists():
        return False
    with usage_errors(ResultsError):
        rows = read_file(_path(job), DISTANCE).to_pylist()
    return len(rows) >= job.spec.examples and {name: rows[0][name] for name in _settings(job)} == _settings(job)


def _measure(job: MeasurementJob, data: ImageData, progress: EvaluationProgress) -> None:
    from analysis.data.results import write_rows
    from trainables.evaluation.checkpoint import checkpoint_distances

    settings = _settings(job)
    found, index = checkpoint_distances(job.spec, data, cap=settings["cap"], report=progress.report)
    flags = sorted(found.flags)
    rows = [
        settings | {"index": int(at), "distance": None if far == float("inf") else far, "flags": flags}
        for at, far in zip(index, found.distance.tolist(), strict=True)
    ]
    write_rows(_path(job), rows, DISTANCE, replace=True)


def _print(study_dir: Path, trials: Sequence[str], *, as_json: bool, problems: Sequence[str]) -> None:
    from analysis.statistics.networks.minimum_distances import read_distances
    from analysis.tables.distances_table import distances_table

    members = [one for one in read_distances(study_dir) if one.trial_id in trials]
    if as_json:
        results().print_json(data={"distances": [one.summary() for one in members], "failed": list(problems)})
    elif members:
        results().print(distances_table(members))
